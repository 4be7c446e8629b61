// write_golden_numerics FOLDER: rewrites the golden vectors there.
#include <cstdio>

#include "base/atomic_file.h"
#include "tests/golden/numerics/vectors.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("write_golden_numerics: expected one folder\n", stderr);
    return 2;
  }
  const std::string folder = argv[1];
  for (const auto& [name, content] : moesaic::golden::golden_files(folder))
    moesaic::base::write_file(folder + "/" + name, content);
  return std::remove((folder + "/golden.safetensors").c_str()) == 0 ? 0 : 3;
}
