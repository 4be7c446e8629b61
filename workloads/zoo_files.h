/// The files of data/zoo as text; the definition is generated at build time from the folder's contents.
#pragma once

#include <vector>

namespace moesaic::workloads {

struct ZooFile {
  const char* name;  ///< without .yaml
  const char* text;
};

const std::vector<ZooFile>& zoo_files();

}  // namespace moesaic::workloads
