#pragma once
/// YAML with file, line and key path. Every refusal is a ConfigError `file:line: a.b: got X, expected Y`.
/// A key that nobody read is an error: call finish() on the root once everything is read.
/// Typed readers take the allowed range; there are no silent defaults: optional keys say so with find() or the *_or
/// forms.
///
///   auto root = base::YamlNode::load("chip.yaml");
///   auto array = root.at("array");
///   std::int64_t rows = array.integer("rows", 1, 256);
///   std::string dram = root.text_or("dram", "none");
///   root.finish();
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

namespace moesaic::base {

class YamlNode {
 public:
  /// Reads a file; unreadable, empty, malformed and duplicate keys are InputErrors.
  static YamlNode load(const std::string& path);
  /// Parses text; `name` stands for the file in messages.
  static YamlNode parse(const std::string& text, const std::string& name);

  /// "file:line" of this node, and its path from the root, "array.rows" or "layers[3].bits" ("document" for the root).
  std::string where() const;
  const std::string& key() const;
  const std::string& file() const;
  int line() const;

  bool is_map() const;
  bool is_sequence() const;
  bool is_scalar() const;
  bool is_null() const;

  /// Maps. at() of a missing key is an error that names it; both mark the key as read.
  YamlNode at(const std::string& key) const;
  std::optional<YamlNode> find(const std::string& key) const;
  bool has(const std::string& key) const;  ///< does not mark as read
  std::vector<std::string> keys() const;   ///< in file order

  /// Sequences; an error when this is not one.
  std::vector<YamlNode> items() const;

  /// This node as a scalar.
  std::int64_t as_integer(std::int64_t min, std::int64_t max) const;
  double as_number(double min, double max) const;
  std::string as_text() const;
  bool as_boolean() const;
  /// One of `choices`.
  std::string as_choice(const std::vector<std::string>& choices) const;

  /// A scalar child.
  std::int64_t integer(const std::string& key, std::int64_t min, std::int64_t max) const;
  double number(const std::string& key, double min, double max) const;
  std::string text(const std::string& key) const;
  bool boolean(const std::string& key) const;
  std::string choice(const std::string& key, const std::vector<std::string>& choices) const;
  std::int64_t integer_or(const std::string& key, std::int64_t absent, std::int64_t min, std::int64_t max) const;
  double number_or(const std::string& key, double absent, double min, double max) const;
  std::string text_or(const std::string& key, const std::string& absent) const;
  bool boolean_or(const std::string& key, bool absent) const;

  /// The error `where: key: got <this value>, expected <expected>`, for checks of the caller's own. Use with throw.
  ConfigError refused(const std::string& expected) const;

  /// Throws for the first key, in file order, of any map below (and in) this node that was never read.
  void finish() const;

  struct Tree;  ///< internal

 private:
  explicit YamlNode(std::shared_ptr<Tree> root, Tree* node) : root_(std::move(root)), node_(node) {}
  std::shared_ptr<Tree> root_;
  Tree* node_;
};

}  // namespace moesaic::base
