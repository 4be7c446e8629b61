#pragma once
/// Golden vectors: a list of hashes of seeded random cases and their results, and a few small ones as files.
#include <map>
#include <string>

namespace moesaic::golden {

/// File name -> content, for tests/golden/numerics: vectors.json and *.case.safetensors with *.out.safetensors.
/// `scratch` is a folder to write in.
std::map<std::string, std::string> golden_files(const std::string& scratch);

}  // namespace moesaic::golden
