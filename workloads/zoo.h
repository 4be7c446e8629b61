/// The zoo: layer shapes of published Mixture-of-Experts models, data/zoo/<name>.yaml, compiled into the program.
/// Layer l (from 0) has experts when l >= dense_first and (l - dense_first + 1) is a multiple of moe_every.
#pragma once

#include <string>
#include <vector>

#include "workloads/network.h"

namespace moesaic::workloads {

std::vector<std::string> zoo_names();  ///< sorted

/// Throws base::ConfigError naming the choices; `where` and `key` say who asked.
Network zoo_network(const std::string& name, const std::string& where, const std::string& key);

/// Reads a shape file of the zoo's form; `file` stands for it in messages.
Network parse_zoo_file(const std::string& text, const std::string& file);

/// Whether a path says by its ending, .yaml, that it is a shape file; and the network in it.
bool is_shape_file(const std::string& path);
Network read_shape_file(const std::string& path);

/// A network by any of its names: a model folder, a shape file, a config.json, or a name of the zoo (tried in this
/// order).
Network find_network(const std::string& name, const std::string& where, const std::string& key);

}  // namespace moesaic::workloads
