// moesaic kernel: bad input ends in one line on standard error, exit code 2 and no output.
#include <catch2/catch.hpp>
#include <cstring>

#include "base/rng.h"
#include "base/safetensors.h"
#include "reference/numerics/case_file.h"
#include "tests/bad_config/cli/run_program.h"

using namespace moesaic;
using testing::Folder;
using testing::run_program;

namespace {

std::string kernel(const std::string& in, const std::string& out) {
  return "kernel --in " + in + " --backend cpu --out " + out;
}

/// Runs on `in`; the only trace may be one line that starts with `where` and holds `what`.
void check_refused(const Folder& folder, const std::string& in, const std::string& what) {
  const std::size_t before = folder.count();
  const auto outcome = run_program(kernel(in, folder.file("out.safetensors")));
  CAPTURE(in, outcome.err);
  CHECK(outcome.exit_code == 2);
  CHECK(outcome.one_error_line());
  CHECK(outcome.out.empty());
  CHECK(outcome.err.rfind(in + ": ", 0) == 0);
  CHECK(outcome.err.find(what) != std::string::npos);
  CHECK(outcome.err.find(", expected ") != std::string::npos);
  CHECK(folder.count() == before);
}

numerics::MpgemmCase product_case() {
  base::Rng rng(5);
  numerics::CaseOptions options;
  options.expert = options.combine = options.extremes = false;
  options.formats = {numerics::Format::integer(3)};
  options.max_act_bits = 8;
  auto c = std::get<numerics::MpgemmCase>(numerics::random_case(rng, options));
  return c;
}

std::string with_header(std::uint64_t length, const std::string& rest) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + rest;
}

}  // namespace

TEST_CASE("a good case writes its result and prints nothing", "[bad_config][cli]") {
  const Folder folder;
  numerics::write_case(folder.file("case"), product_case());
  const auto outcome = run_program(kernel(folder.file("case"), folder.file("out")));
  CHECK(outcome.exit_code == 0);
  CHECK(outcome.out.empty());
  CHECK(outcome.err.empty());
  CHECK(folder.count() == 2);
  const auto streamed = run_program(kernel(folder.file("case"), "/dev/stdout"));
  CHECK(streamed.exit_code == 0);
  CHECK(streamed.out == base::read_file(folder.file("out")));
  CHECK(run_program(kernel(folder.file("case"), "/dev/stdout") + " | cat").out == streamed.out);
}

TEST_CASE("a damaged safetensors is refused", "[bad_config][cli]") {
  const Folder folder;
  numerics::write_case(folder.file("whole"), product_case());
  const std::string whole = base::read_file(folder.file("whole"));
  const auto damaged = [&](const std::string& content, const std::string& what) {
    base::write_file(folder.file("case"), content);
    check_refused(folder, folder.file("case"), what);
  };
  damaged("", "size: got 0 bytes");
  damaged(whole.substr(0, whole.size() - 1), "bytes of tensors");
  damaged(whole.substr(0, 40), "header length: got ");
  damaged(whole + "x", "bytes of tensors");
  damaged(with_header(std::uint64_t{1} << 63, whole.substr(8)), "header length: got 9223372036854775808");
  damaged(with_header(~std::uint64_t{0}, whole.substr(8)), "header length: got 18446744073709551615");
  const std::string overlap =
      R"({"r":{"dtype":"U16","shape":[1,1],"data_offsets":[0,2]},"down":{"dtype":"I16","shape":[1,1,1],"data_offsets":[1,3]}})";
  damaged(with_header(overlap.size(), overlap + "abc"), "no overlap");
  damaged(with_header(3, "\n\n{"), "header: got ");
}

TEST_CASE("a case out of contract is refused", "[bad_config][cli]") {
  const Folder folder;
  const auto spoiled = [&](const std::string& what, auto change) {
    auto c = product_case();
    change(c);
    numerics::write_case(folder.file("case"), c);
    check_refused(folder, folder.file("case"), what);
  };
  spoiled("w[0, 0]: got 8", [](auto& c) { c.w.codes[0] = 8; });
  spoiled("x[0, 0]: got -9", [](auto& c) {
    c.x.act_bits = 4;
    std::fill(c.x.values.begin(), c.x.values.end(), std::int16_t{0});
    c.x.values[0] = -9;
  });
  spoiled("expected a sum from 0 to 62", [](auto& c) { c.w.requant_shift[0] = 63; });
  spoiled("group_size: got '12'", [](auto& c) {
    c.w.group_size = 12;
    c.w.group_multiplier.assign(static_cast<std::size_t>(c.w.n * c.w.groups()), 1);
    c.w.zero_point.assign(c.w.group_multiplier.size(), 0);
  });
}

TEST_CASE("one step past the 48-bit bound is refused and the bound itself is not", "[bad_config][cli]") {
  const Folder folder;
  for (const std::int64_t k : {257, 258}) {
    numerics::MpgemmCase c;
    c.out_bits = 16;
    c.w.format = numerics::Format::integer(8);
    c.w.n = 1;
    c.w.k = c.x.k = k;
    c.w.group_size = 64;
    c.w.codes.assign(static_cast<std::size_t>(k), 255);
    c.w.zero_point.assign(static_cast<std::size_t>(c.w.groups()), 0);
    c.w.group_multiplier.assign(static_cast<std::size_t>(c.w.groups()), 65535);
    c.w.requant_multiplier = {65535};
    c.w.requant_shift = {62};
    c.x.m = 1;
    c.x.act_bits = 16;
    c.x.values.assign(static_cast<std::size_t>(k), -32768);
    numerics::write_case(folder.file("case"), c);
    if (k == 258) {
      check_refused(folder, folder.file("case"), "of at most 2^47 - 1");
    } else {
      CHECK(run_program(kernel(folder.file("case"), "/dev/null")).exit_code == 0);
    }
  }
}

TEST_CASE("unknown keys, tensors and formats are refused", "[bad_config][cli]") {
  const Folder folder;
  const std::vector<std::int16_t> down = {1};
  const std::vector<std::uint16_t> r = {1};
  const auto write = [&](const std::string& extra, const std::map<std::string, std::string>& metadata) {
    std::map<std::string, base::TensorView> tensors = {{"down", base::tensor_view(down, {1, 1, 1})},
                                                       {"r", base::tensor_view(r, {1, 1})}};
    if (!extra.empty()) tensors[extra] = base::tensor_view(r, {1});
    base::write_safetensors(folder.file("case"), tensors, metadata);
  };
  write("", {{"op", "combine"}});
  CHECK(run_program(kernel(folder.file("case"), "/dev/null")).exit_code == 0);
  write("", {{"op", "combine"}, {"layers", "3"}});
  check_refused(folder, folder.file("case"), "__metadata__.layers: got an unknown key");
  write("bias", {{"op", "combine"}});
  check_refused(folder, folder.file("case"), "tensor bias: got an unknown tensor");
  write("", {{"op", "combin"}});
  check_refused(folder, folder.file("case"), "__metadata__.op: got 'combin'");
  write("", {{"op", "mpgemm"}, {"format", "itn"}, {"bits", "4"}});
  check_refused(folder, folder.file("case"), "tensor down: got an unknown tensor");
  write("two\nlines", {{"op", "combine"}});
  check_refused(folder, folder.file("case"), "an unknown tensor");
}

TEST_CASE("files that cannot be read or written are refused by name", "[bad_config][cli]") {
  const Folder folder;
  check_refused(folder, folder.file("absent"), "read: got No such file or directory");
  check_refused(folder, folder.path(), "read: got a folder");
  check_refused(folder, folder.file("no/such/folder/case"), "read: got No such file or directory");

  numerics::write_case(folder.file("case"), product_case());
  for (const std::string& out : {std::string("/dev/full"), folder.path(), folder.file("absent/out")}) {
    const auto outcome = run_program(kernel(folder.file("case"), out));
    CAPTURE(out, outcome.err);
    CHECK(outcome.exit_code == 2);
    CHECK(outcome.one_error_line());
    CHECK(outcome.err.rfind(out + ": ", 0) == 0);
    CHECK(folder.count() == 1);
  }
  CHECK(std::filesystem::is_character_file("/dev/full"));
}

TEST_CASE("an existing output survives a refused run", "[bad_config][cli]") {
  const Folder folder;
  base::write_file(folder.file("out.safetensors"), "precious");
  check_refused(folder, folder.file("absent"), "read: ");
  CHECK(base::read_file(folder.file("out.safetensors")) == "precious");
}

TEST_CASE("wrong usage is one line and exit code 2", "[bad_config][cli]") {
  for (const char* arguments :
       {"", "kernal", "kernel", "kernel --in a", "kernel --in a --backend cpu --out b --fast", "kernel --in a --out b",
        "kernel --in a --backend gpu --out b", "--chip x", "kernel extra --in a --backend cpu --out b"}) {
    const auto outcome = run_program(arguments);
    CAPTURE(arguments, outcome.err);
    CHECK(outcome.exit_code == 2);
    CHECK(outcome.one_error_line());
    CHECK(outcome.out.empty());
  }
  CHECK_THAT(run_program("kernel --in a --backend gpu --out b").err,
             Catch::Matchers::StartsWith("moesaic kernel: --backend: got 'gpu', expected one of cpu"));
}

TEST_CASE("help and version print to standard output, and a full one is an error", "[bad_config][cli]") {
  CHECK(run_program("--version").out.rfind("moesaic ", 0) == 0);
  CHECK(run_program("kernel --help").exit_code == 0);
  CHECK(run_program("--help").out.find("kernel") != std::string::npos);
  CHECK(std::system((std::string(MOESAIC_PROGRAM) + " --help >/dev/full 2>/dev/null").c_str()) == 2 << 8);
}
