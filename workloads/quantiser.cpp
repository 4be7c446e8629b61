#include "workloads/quantiser.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/sha256.h"
#include "workloads/tokens.h"

namespace moesaic::workloads {

namespace {

/// Where the system finds the file's folder, links followed: ".." means that one's. What does not exist stays as it is.
std::filesystem::path folder_of(const std::string& file) {
  return std::filesystem::weakly_canonical(std::filesystem::absolute(file).parent_path());
}

}  // namespace

Quantiser gptq_quantiser(const std::string& tokens, std::int64_t minimum_tokens, double damping, std::int64_t window) {
  Quantiser q;
  q.kind = QuantiserKind::kGptq;
  q.tokens = tokens;
  q.tokens_hash = base::sha256_file(tokens);
  q.window = window;
  q.damping = damping;
  q.minimum_tokens = minimum_tokens;
  return q;
}

Quantiser parse_quantiser(const base::YamlNode& section, const std::string& plan) {
  Quantiser q;
  section.choice("kind", {"gptq"});
  q.kind = QuantiserKind::kGptq;
  const base::YamlNode tokens = section.at("tokens");
  q.tokens = (std::filesystem::path(plan).parent_path() / tokens.as_text()).string();
  q.tokens_line = tokens.line();
  q.plan = plan;
  const base::YamlNode hash = section.at("tokens_hash");
  q.tokens_hash = hash.as_text();
  if (q.tokens_hash.size() != 64 || q.tokens_hash.find_first_not_of("0123456789abcdef") != std::string::npos)
    throw hash.refused("64 lower-case hexadecimal digits");
  q.window = section.integer("window", 1, std::int64_t{1} << 24);
  q.damping = section.number("damping", 1e-9, 1e9);
  q.minimum_tokens = section.integer("minimum_tokens", 0, std::int64_t{1} << 40);
  return q;
}

std::string tokens_seen_from(const Quantiser& quantiser, const std::string& path) {
  const std::filesystem::path tokens = folder_of(quantiser.tokens) / std::filesystem::path(quantiser.tokens).filename();
  return tokens.lexically_relative(folder_of(path)).string();
}

std::string format_quantiser(const Quantiser& quantiser, const std::string& plan) {
  if (quantiser.kind == QuantiserKind::kRoundToNearest) return "";
  return fmt::format(
      "quantiser:\n  kind: gptq\n  tokens: {}\n  tokens_hash: \"{}\"\n  window: {}\n  damping: {}\n"
      "  minimum_tokens: {}\n",
      nlohmann::json(tokens_seen_from(quantiser, plan)).dump(), quantiser.tokens_hash, quantiser.window,
      quantiser.damping, quantiser.minimum_tokens);
}

std::vector<std::uint32_t> read_quantiser_tokens(const Quantiser& quantiser) {
  const std::string where = quantiser.tokens_line > 0
                                ? quantiser.plan + ":" + std::to_string(quantiser.tokens_line) + ": quantiser.tokens"
                                : quantiser.tokens;
  if (!std::filesystem::exists(quantiser.tokens))
    throw base::InputError(where + ": got " + quantiser.tokens + ", which is missing, expected the calibration tokens");
  const std::string hash = base::sha256_file(quantiser.tokens);
  if (hash != quantiser.tokens_hash)
    throw base::InputError(where + ": got " + quantiser.tokens + " of hash " + hash + ", expected " +
                           quantiser.tokens_hash);
  std::vector<std::uint32_t> tokens = read_tokens(quantiser.tokens);
  if (static_cast<std::int64_t>(tokens.size()) < quantiser.window)
    throw base::InputError(where + ": got " + std::to_string(tokens.size()) +
                           " tokens, expected at least one window of " + std::to_string(quantiser.window));
  return tokens;
}

}  // namespace moesaic::workloads
