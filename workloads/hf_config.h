/// Hugging Face config.json -> Network, in the spellings of Transformers 4 and 5: Mixtral, Qwen2-MoE, Qwen3-MoE,
/// DeepSeek (1, V2, V3), Kimi-K2, OLMoE, Phi-MoE, Llama 4, gpt-oss. Keys that say nothing of shapes are not looked at;
/// an architecture not in this list, or a missing key, is a base::ConfigError with file, line and key.
#pragma once

#include <string>
#include <vector>

#include "workloads/network.h"

namespace moesaic::workloads {

/// Whether a path says by its ending, .json, that it is a config.json; and the network in it.
bool is_config_file(const std::string& path);
Network read_hf_config(const std::string& path);

/// As above from text; `file` stands for it in messages, `name` becomes the network's.
Network parse_hf_config(const std::string& text, const std::string& file, const std::string& name);

/// The model_type values that are understood, in fixed order.
std::vector<std::string> hf_architectures();

}  // namespace moesaic::workloads
