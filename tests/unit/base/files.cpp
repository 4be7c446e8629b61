// base/: atomic_file, leftovers, child_program, temporary_folder, safetensors.
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "base/atomic_file.h"
#include "base/child_program.h"
#include "base/error.h"
#include "base/leftovers.h"
#include "base/safetensors.h"
#include "base/sha256.h"
#include "base/spill_file.h"
#include "base/temporary_folder.h"
#include "tests/temporary_folder.h"

using namespace moesaic::base;
namespace fs = std::filesystem;

namespace {

using Folder = moesaic::tests::TemporaryFolder;

/// A safetensors file of this header and as many data bytes.
std::string raw(const std::string& header, std::size_t data_bytes) {
  std::string bytes(8, '\0');
  const std::uint64_t length = header.size();
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + std::string(data_bytes, '\1');
}

std::string refusal(const Folder& folder, const std::string& content) {
  const std::string path = folder.file("bad.safetensors");
  write_file(path, content);
  try {
    SafetensorsFile file(path);
  } catch (const InputError& error) {
    const std::string text = error.what();
    REQUIRE(text.rfind(path + ": ", 0) == 0);
    CHECK(text.find('\n') == std::string::npos);
    return text.substr(path.size() + 2);
  }
  return "accepted";
}

/// Whether it is empty, or comes to be: another process removes what was in it.
bool comes_to_be_empty(const Folder& folder) {
  for (int hundredths = 0; hundredths < 6000 && folder.count() != 0; ++hundredths)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return folder.count() == 0;
}

}  // namespace

TEST_CASE("an atomic file appears only at commit and leaves nothing without it", "[unit][base]") {
  const Folder folder;
  const std::string path = folder.file("out");
  {
    AtomicFile file(path);
    file.write("half");
    CHECK_FALSE(fs::exists(path));
  }
  CHECK(folder.count() == 0);
  write_file(path, "old");
  {
    AtomicFile file(path);
    file.write(std::string(3 << 20, 'x'));
    CHECK(read_file(path) == "old");
    file.commit();
  }
  CHECK(read_file(path).size() == 3u << 20);
  CHECK(folder.count() == 1);
}

TEST_CASE("an interrupted or broken-piped program leaves no temporary file and dies of its signal", "[unit][base]") {
  for (const int signal_number : {SIGINT, SIGTERM, SIGPIPE}) {
    const Folder folder;
    const pid_t child = fork();
    if (child == 0) {
      clear_leftovers_on_signals();
      AtomicFile file(folder.file("out"));
      file.write(std::string(3 << 20, 'x'));
      if (folder.count() == 1) raise(signal_number);
      _exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == signal_number);
    CHECK(folder.count() == 0);
  }
}

TEST_CASE("a signal ends the program that is being run, then removes its folder and the files in it", "[unit][base]") {
  for (const int signal_number : {SIGINT, SIGTERM, SIGHUP}) {
    const Folder folder;
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    const pid_t child = fork();
    if (child == 0) {
      setenv("TMPDIR", folder.path().c_str(), 1);
      clear_leftovers_on_signals();
      const TemporaryFolder temporary("t-");
      const Leftover written = Leftover::file(temporary.file("written"));
      close(ends[0]);
      dup2(ends[1], 9);  // of which the shell keeps a copy while it lives
      close(ends[1]);
      run_program({"sh", "-c", "echo x > " + temporary.file("written") + "; echo y >&9; while :; do :; done"});
      _exit(0);
    }
    close(ends[1]);
    char byte = 0;
    REQUIRE(read(ends[0], &byte, 1) == 1);  // it writes to its folder
    REQUIRE(folder.count() == 1);
    kill(child, signal_number);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == signal_number);
    CHECK(folder.count() == 0);
    while (read(ends[0], &byte, 1) > 0) {
    }  // would never end if the shell went on
    close(ends[0]);
  }
}

TEST_CASE("a program that is run dies with the one that ran it, also when that is killed", "[unit][base]") {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    dup2(ends[1], 9);
    close(ends[1]);
    run_program({"sh", "-c", "echo y >&9; while :; do :; done"});
    _exit(0);
  }
  close(ends[1]);
  char byte = 0;
  REQUIRE(read(ends[0], &byte, 1) == 1);
  kill(child, SIGKILL);
  REQUIRE(waitpid(child, nullptr, 0) == child);
  while (read(ends[0], &byte, 1) > 0) {
  }  // would never end if the shell went on
  close(ends[0]);
}

TEST_CASE("a process that is killed, alone or with its group, leaves no temporary folder", "[unit][base]") {
  for (const bool with_group : {false, true}) {
    const Folder folder;
    const pid_t child = fork();
    if (child == 0) {
      setpgid(0, 0);
      setenv("TMPDIR", folder.path().c_str(), 1);
      const TemporaryFolder temporary("t -");
      fs::create_directories(temporary.file("a/b"));
      write_file(temporary.file("a/b/c"), "x");
      if (folder.count() == 1) kill(with_group ? 0 : getpid(), SIGKILL);
      _exit(0);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGKILL);
    CHECK(comes_to_be_empty(folder));
  }
}

TEST_CASE("a temporary folder of a killed process stays until what that ran has ended, forked processes too",
          "[unit][base]") {
  const Folder folder;
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  if (child == 0) {
    setenv("TMPDIR", folder.path().c_str(), 1);
    const TemporaryFolder temporary("t-");
    if (fork() == 0) {  // goes on alone
      close(ends[1]);
      char byte = 0;
      const bool ended = read(ends[0], &byte, 1) == 1;
      if (ended) write_file(temporary.file("late"), "x");
      _exit(0);
    }
    raise(SIGKILL);
  }
  REQUIRE(waitpid(child, nullptr, 0) == child);
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  CHECK(folder.count() == 1);
  REQUIRE(write(ends[1], "x", 1) == 1);
  CHECK(comes_to_be_empty(folder));
  close(ends[0]);
  close(ends[1]);
}

TEST_CASE("a temporary folder goes with its object, and no process stays behind", "[unit][base]") {
  const Folder folder;
  const pid_t child = fork();
  if (child == 0) {
    setenv("TMPDIR", folder.path().c_str(), 1);
    bool good = true;
    {
      const TemporaryFolder one("t-"), two("t-");
      good = one.path() != two.path() && folder.count() == 2;
      write_file(one.file("x"), "x");
    }
    _exit(good && folder.count() == 0 && waitpid(-1, nullptr, 0) < 0 && errno == ECHILD ? 0 : 1);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("a program that is run gives its status, is killed at its limit, and may not exist", "[unit][base]") {
  using Seconds = std::chrono::duration<double>;
  CHECK(run_program({"sh", "-c", "exit 3"})->status == 3);
  const auto in_time = run_program({"sh", "-c", "exit 4"}, Seconds(600));
  REQUIRE(in_time);
  CHECK(in_time->status == 4);
  CHECK_FALSE(in_time->timed_out);
  const auto late = run_program({"sh", "-c", "while :; do :; done"}, Seconds(0.05));
  REQUIRE(late);
  CHECK(late->timed_out);
  CHECK_FALSE(run_program({"no-such-program-anywhere"}));
}

TEST_CASE("writing through a symbolic link replaces what it names and keeps the link", "[unit][base]") {
  const Folder folder;
  write_file(folder.file("real"), "old");
  fs::create_symlink("real", folder.file("link"));
  write_file(folder.file("link"), "new");
  CHECK(fs::is_symlink(folder.file("link")));
  CHECK(read_file(folder.file("real")) == "new");
}

TEST_CASE("a full device, a folder and a missing folder are refused by name", "[unit][base]") {
  const Folder folder;
  CHECK_THROWS_WITH(write_file("/dev/full", "x"),
                    "/dev/full: write: got No space left on device, expected a file that can be written");
  CHECK(fs::is_character_file("/dev/full"));
  CHECK_THROWS_WITH(write_file(folder.path(), "x"), folder.path() + ": output: got a folder, expected a file name");
  CHECK_THROWS_WITH(
      write_file(folder.file("none/out"), "x"),
      folder.file("none/out") + ": open: got No such file or directory, expected a file that can be written");
  CHECK_THROWS_WITH(read_file(folder.path()), folder.path() + ": read: got a folder, expected a readable file");
}

TEST_CASE("a character device takes the bytes and stays a device", "[unit][base]") {
  CHECK_NOTHROW(write_file("/dev/null", "x"));
  CHECK(fs::is_character_file("/dev/null"));
}

TEST_CASE("tensors come back as they were written, whole and in part", "[unit][base]") {
  const Folder folder;
  const std::string path = folder.file("t.safetensors");
  const std::vector<std::int8_t> a = {-128, 0, 127};
  const std::vector<std::uint16_t> b = {1, 65535, 3, 4};
  const std::vector<std::int64_t> c = {std::numeric_limits<std::int64_t>::min()};
  const std::vector<float> d = {0.5f, -2.0f, 1e30f};
  write_safetensors(path,
                    {{"b", tensor_view(b, {2, 2})},
                     {"a", tensor_view(a, {3})},
                     {"c", tensor_view(c, {})},
                     {"d", tensor_view(d, {3, 1})}},
                    {{"k", "v \"quoted\""}});
  const SafetensorsFile file(path);
  CHECK(file.read<std::int8_t>("a", {3}) == a);
  CHECK(file.read<std::uint16_t>("b") == b);
  CHECK(file.read<std::int64_t>("c", {}) == c);
  CHECK(file.read_float("d", 1, 2) == std::vector<float>{-2.0f, 1e30f});
  CHECK(file.metadata().at("k") == "v \"quoted\"");
  CHECK_THROWS_WITH(file.read<std::int8_t>("b"), path + ": tensor b: dtype: got U16, expected I8");
  CHECK_THROWS_WITH(file.read<std::uint16_t>("b", {4}), path + ": tensor b: shape: got [2, 2], expected [4]");
  CHECK_THROWS_WITH(file.read<std::uint16_t>("e"), path + ": tensor e: got nothing, expected this tensor");
  CHECK_THROWS_WITH(file.read_float("a"), path + ": tensor a: dtype: got I8, expected F16, BF16, F32 or F64");
}

TEST_CASE("the written header is compact, in name order and padded with spaces to 8 bytes", "[unit][base]") {
  const Folder folder;
  const std::string path = folder.file("t.safetensors");
  const std::vector<std::int64_t> acc = {5};
  const std::vector<std::int8_t> y = {1, 2};
  write_safetensors(path, {{"y", tensor_view(y, {1, 2})}, {"acc", tensor_view(acc, {1})}});
  const std::string header =
      R"({"acc":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"y":{"dtype":"I8","shape":[1,2],"data_offsets":[8,10]}})";
  const std::string bytes = read_file(path);
  const std::size_t padded = (header.size() + 7) / 8 * 8;
  CHECK(static_cast<std::size_t>(static_cast<unsigned char>(bytes[0])) == padded);
  CHECK(bytes.substr(8, padded) == header + std::string(padded - header.size(), ' '));
  CHECK(bytes.size() == 8 + padded + 10);
}

TEST_CASE("every malformed safetensors is refused with its reason", "[unit][base]") {
  const Folder folder;
  CHECK(refusal(folder, raw(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 2)) == "accepted");
  CHECK(refusal(folder, raw(R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0)) == "accepted");
  CHECK(refusal(folder, "") == "size: got 0 bytes, expected at least 8");
  CHECK(refusal(folder, raw("{}", 0).substr(0, 9)) ==
        "header length: got 2, expected at most 1 (the file's size less 8)");
  CHECK(refusal(folder, std::string("\0\0\0\0\0\0\0\x80{}", 10)) ==
        "header length: got 9223372036854775808, expected at most 2 (the file's size less 8)");
  CHECK(refusal(folder, std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10)) ==
        "header length: got 18446744073709551615, expected at most 2 (the file's size less 8)");
  CHECK(refusal(folder, raw(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 1)) ==
        "size: got 1 bytes of tensors, expected 2 as the header says");
  CHECK(refusal(folder, raw(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 3)) ==
        "size: got 3 bytes of tensors, expected 2 as the header says");
  CHECK(
      refusal(
          folder,
          raw(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
              3)) == "tensor b: data_offsets: got 1, expected 2 (no overlap)");
  CHECK(
      refusal(
          folder,
          raw(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})",
              5)) == "tensor b: data_offsets: got 3, expected 2 (no hole)");
  CHECK(refusal(folder, raw(R"({"a":{"dtype":"U16","shape":[2],"data_offsets":[0,2]}})", 2)) ==
        "tensor a: data_offsets: got [0,2], expected 4 bytes for U16 [2]");
  CHECK(refusal(folder, raw(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[2,0]}})", 2)) ==
        "tensor a: data_offsets: got [2,0], expected 2 bytes for U8 [2]");
  CHECK(
      refusal(
          folder,
          raw(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
              1)) == "header: got the name 'a' a second time, expected each name once");
  CHECK(refusal(folder, raw(R"({"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}})", 1)) ==
        "header: got the name 'dtype' a second time, expected each name once");
  CHECK(refusal(folder, raw(R"({"a":{"dtype":"Q4","shape":[1],"data_offsets":[0,1]}})", 1)) ==
        "tensor a: dtype: got \"Q4\", expected one of I8, U8, I16, U16, I32, U32, I64, F16, BF16, F32, F64");
  CHECK(refusal(folder, raw(R"({"a":{"dtype":"U8","shape":[-1],"data_offsets":[0,1]}})", 1)) ==
        "tensor a: shape: got -1, expected an integer from 0 to 2^63 - 1");
  CHECK(refusal(folder, raw(R"({"a":{"dtype":"U8","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0)) ==
        "tensor a: shape: got [4294967296,4294967296], expected fewer than 2^63 bytes");
  CHECK(refusal(folder, raw(R"({"a":{"dtype":"U8","shape":[1.5],"data_offsets":[0,1]}})", 1)) ==
        "tensor a: shape: got 1.5, expected an integer from 0 to 2^63 - 1");
  CHECK(refusal(folder, raw(R"({"a":{"dtype":"U8","shape":[1]}})", 1)) ==
        "tensor a: got no data_offsets, expected dtype, shape, data_offsets");
  CHECK(refusal(folder, raw(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":1}})", 1)) ==
        "tensor a: got the key 'x', expected dtype, shape, data_offsets");
  CHECK(refusal(folder, raw(R"({"__metadata__":{"k":1}})", 0)) == "__metadata__.k: got 1, expected a string");
  CHECK(refusal(folder, raw("[]", 0)) == "header: got array, expected a JSON object");
  CHECK_THAT(refusal(folder, raw("{\"a\":", 0)), Catch::Matchers::StartsWith("header: got "));
  CHECK_THROWS_WITH(SafetensorsFile(folder.path()),
                    folder.path() + ": read: got a folder, expected a safetensors file");
}

TEST_CASE("a file cut at any byte is refused", "[unit][base]") {
  const Folder folder;
  const std::string path = folder.file("whole.safetensors");
  const std::vector<std::uint16_t> values = {1, 2, 3};
  write_safetensors(path, {{"v", tensor_view(values, {3})}});
  const std::string whole = read_file(path);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    CAPTURE(length);
    CHECK(refusal(folder, whole.substr(0, length)) != "accepted");
  }
}

TEST_CASE("half floats widen exactly and bfloat16 rounds to even", "[unit][base]") {
  CHECK(f16_to_float(0x3c00) == 1.0f);
  CHECK(f16_to_float(0xc000) == -2.0f);
  CHECK(f16_to_float(0x0001) == 0x1p-24f);
  CHECK(f16_to_float(0x83ff) == -1023 * 0x1p-24f);
  CHECK(f16_to_float(0x7bff) == 65504.0f);
  CHECK(f16_to_float(0x7c00) == std::numeric_limits<float>::infinity());
  CHECK(bf16_to_float(0x3f80) == 1.0f);
  CHECK(float_to_bf16(1.0f) == 0x3f80);
  CHECK(float_to_bf16(1.00390625f) == 0x3f80);  // half way: to even
  CHECK(float_to_bf16(1.01171875f) == 0x3f82);  // half way: to even
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const float wide = bf16_to_float(static_cast<std::uint16_t>(bits));
    if (wide == wide) REQUIRE(float_to_bf16(wide) == bits);
  }
}

TEST_CASE("a spill file gives back what was written wherever it was, and leaves no name in its folder",
          "[unit][base]") {
  const Folder folder;
  SpillFile file(folder.path());
  CHECK(fs::is_empty(folder.path()));
  file.append("ab");
  file.write(200000, "xyz", 3);  // past a gap
  file.write(2, "cd", 2);
  file.append("!");  // behind the last byte
  CHECK(file.size() == 200004);
  char bytes[6] = {};
  file.read(0, bytes, 5);
  CHECK(std::memcmp(bytes, "abcd\0", 5) == 0);
  file.read(199999, bytes, 5);
  CHECK(std::memcmp(bytes, "\0xyz!", 5) == 0);
  CHECK_THROWS_AS(file.read(200002, bytes, 3), std::logic_error);
  std::string all;
  file.read_all([&all](std::string_view piece) { all += piece; });
  CHECK(all == "abcd" + std::string(199996, '\0') + "xyz!");
  CHECK(fs::is_empty(folder.path()));
  try {
    const SpillFile nowhere(folder.file("none"));
    FAIL("a folder that is not there was taken");
  } catch (const InputError& error) {
    CHECK(std::string(error.what()).find(folder.file("none")) == 0);
  }
}

TEST_CASE("what a forked process writes to a spill file the other one reads", "[unit][base]") {
  SpillFile file;
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    file.append(std::string(100000, 'a'));
    file.append("b");
    file.flush();
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(file.size() == 100001);
  char last = 0;
  file.read(100000, &last, 1);
  CHECK(last == 'b');
}

TEST_CASE("a pipe has no hash: who asks for one reads the file elsewhere too", "[unit][base]") {
  const Folder folder;
  const std::string pipe = folder.file("pipe");
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THROWS_WITH(sha256_file(pipe), pipe + ": file: got a pipe or a device, expected a file: it is read twice");
  CHECK(sha256_file(folder.write("empty", "")) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}
