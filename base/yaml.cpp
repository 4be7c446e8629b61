#include "base/yaml.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <system_error>
#include <utility>
#include <vector>

#include "base/atomic_file.h"

namespace moesaic::base {

struct YamlNode::Tree {
  enum class Kind { kNull, kScalar, kSequence, kMap } kind = Kind::kNull;
  std::string file;
  int line = 1;
  std::string key;  // path from the root
  std::string scalar;
  bool quoted = false;
  bool read = false;
  std::vector<std::string> names;               // of a map's children
  std::vector<std::unique_ptr<Tree>> children;  // of a map or a sequence

  std::string where() const { return file + ":" + std::to_string(line); }
  std::string shown_key() const { return key.empty() ? "document" : key; }
  std::string shown_value() const {
    switch (kind) {
      case Kind::kNull:
        return "nothing";
      case Kind::kScalar:
        return quoted ? "'" + scalar + "'" : scalar;
      case Kind::kSequence:
        return "a sequence";
      case Kind::kMap:
        return "a map";
    }
    return "";
  }
  ConfigError refused(const std::string& expected) const {
    return ConfigError(where(), shown_key(), shown_value(), expected);
  }
  Tree* child(const std::string& name) const {
    for (std::size_t i = 0; i < names.size(); ++i)
      if (names[i] == name) return children[i].get();
    return nullptr;
  }
};

namespace {

using Tree = YamlNode::Tree;

constexpr int kMaxNodes = 4'000'000;  // aliases expand: a few lines could otherwise ask for all memory
constexpr int kMaxDepth = 1000;       // and an alias in what it names for more

std::unique_ptr<Tree> copy_tree(const YAML::Node& node, const std::string& file, const std::string& key,
                                int parent_line, int& nodes, int depth = 0) {
  auto tree = std::make_unique<Tree>();
  tree->file = file;
  tree->key = key;
  tree->line = node.Mark().is_null() ? parent_line : node.Mark().line + 1;
  if (++nodes > kMaxNodes)
    throw ConfigError(tree->where(), tree->shown_key(), "a document of more nodes",
                      "at most " + std::to_string(kMaxNodes));
  if (depth > kMaxDepth)
    throw ConfigError(tree->where(), "document", "nodes within nodes, or within themselves",
                      "at most " + std::to_string(kMaxDepth) + " deep");
  if (const std::string& tag = node.Tag(); !tag.empty() && tag != "?" && tag != "!")
    throw ConfigError(tree->where(), tree->shown_key(), "the tag " + tag, "no tag: the key says what its value is");
  switch (node.Type()) {
    case YAML::NodeType::Undefined:
    case YAML::NodeType::Null:
      break;
    case YAML::NodeType::Scalar:
      tree->kind = Tree::Kind::kScalar;
      tree->scalar = node.Scalar();
      tree->quoted = node.Tag() == "!";
      if (std::any_of(tree->scalar.begin(), tree->scalar.end(), [](unsigned char c) { return c < 32 || c == 127; }))
        throw ConfigError(tree->where(), tree->shown_key(), "text with control characters", "one line of text");
      break;
    case YAML::NodeType::Sequence:
      tree->kind = Tree::Kind::kSequence;
      for (std::size_t i = 0; i < node.size(); ++i)
        tree->children.push_back(
            copy_tree(node[i], file, key + "[" + std::to_string(i) + "]", tree->line, nodes, depth + 1));
      break;
    case YAML::NodeType::Map:
      tree->kind = Tree::Kind::kMap;
      for (const auto& pair : node) {
        const std::string where = file + ":" + std::to_string(pair.first.Mark().line + 1);
        if (!pair.first.IsScalar()) throw ConfigError(where, tree->shown_key(), "a key that is not text", "a name");
        const std::string& name = pair.first.Scalar();
        const std::string path = key.empty() ? name : key + "." + name;
        if (tree->child(name) != nullptr) throw ConfigError(where, path, "the key a second time", "each key once");
        auto child = copy_tree(pair.second, file, path, pair.first.Mark().line + 1, nodes, depth + 1);
        // A map or sequence starts on the line after its key; the key's line is what a reader looks for.
        if (child->kind != Tree::Kind::kScalar) child->line = pair.first.Mark().line + 1;
        tree->names.push_back(name);
        tree->children.push_back(std::move(child));
      }
      break;
  }
  return tree;
}

void finish_tree(const Tree& tree) {
  for (std::size_t i = 0; i < tree.children.size(); ++i) {
    const Tree& child = *tree.children[i];
    if (tree.kind == Tree::Kind::kMap && !child.read) {
      throw ConfigError(child.where(), child.shown_key(), "an unknown key", "only keys that mean something here");
    }
    finish_tree(child);
  }
}

template <class T>
std::string text_of(T value) {
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return std::string(buffer, end);
}

}  // namespace

YamlNode YamlNode::load(const std::string& path) { return parse(read_file(path), path); }

YamlNode YamlNode::parse(const std::string& text, const std::string& name) {
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.size() > 1)
      throw ConfigError(name + ":" + std::to_string(documents[1].Mark().line + 1), "document", "a second one", "one");
    int nodes = 0;
    auto tree = copy_tree(documents.empty() ? YAML::Node() : documents[0], name, "", 1, nodes);
    if (tree->kind == Tree::Kind::kNull) throw ConfigError(name + ":1", "document", "nothing", "YAML");
    tree->read = true;
    std::shared_ptr<Tree> root = std::move(tree);
    return YamlNode(root, root.get());
  } catch (const YAML::Exception& error) {
    const int line = error.mark.is_null() ? 1 : error.mark.line + 1;
    throw ConfigError(name + ":" + std::to_string(line), "document", "malformed YAML (" + error.msg + ")", "YAML");
  }
}

std::string YamlNode::where() const { return node_->where(); }
const std::string& YamlNode::key() const { return node_->key; }
const std::string& YamlNode::file() const { return node_->file; }
int YamlNode::line() const { return node_->line; }
bool YamlNode::is_map() const { return node_->kind == Tree::Kind::kMap; }
bool YamlNode::is_sequence() const { return node_->kind == Tree::Kind::kSequence; }
bool YamlNode::is_scalar() const { return node_->kind == Tree::Kind::kScalar; }
bool YamlNode::is_null() const { return node_->kind == Tree::Kind::kNull; }
ConfigError YamlNode::refused(const std::string& expected) const { return node_->refused(expected); }
void YamlNode::finish() const { finish_tree(*node_); }

std::optional<YamlNode> YamlNode::find(const std::string& key) const {
  if (!is_map()) throw node_->refused("a map");
  Tree* child = node_->child(key);
  if (child == nullptr) return std::nullopt;
  child->read = true;
  return YamlNode(root_, child);
}

YamlNode YamlNode::at(const std::string& key) const {
  auto found = find(key);
  if (!found) {
    const std::string path = node_->key.empty() ? key : node_->key + "." + key;
    throw ConfigError(where(), path, "nothing", "this key");
  }
  return *found;
}

bool YamlNode::has(const std::string& key) const {
  if (!is_map()) throw node_->refused("a map");
  return node_->child(key) != nullptr;
}

std::vector<std::string> YamlNode::keys() const {
  if (!is_map()) throw node_->refused("a map");
  return node_->names;
}

std::vector<YamlNode> YamlNode::items() const {
  if (!is_sequence()) throw node_->refused("a sequence");
  std::vector<YamlNode> all;
  for (const auto& child : node_->children) all.push_back(YamlNode(root_, child.get()));
  return all;
}

std::int64_t YamlNode::as_integer(std::int64_t min, std::int64_t max) const {
  constexpr auto kLowest = std::numeric_limits<std::int64_t>::min();
  constexpr auto kHighest = std::numeric_limits<std::int64_t>::max();
  std::string expected = "an integer";
  if (min != kLowest && max != kHighest) {
    expected += " from " + std::to_string(min) + " to " + std::to_string(max);
  } else if (min != kLowest) {
    expected += " of at least " + std::to_string(min);
  } else if (max != kHighest) {
    expected += " of at most " + std::to_string(max);
  }
  std::int64_t value = 0;
  const std::string& text = node_->scalar;
  const auto end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (!is_scalar() || node_->quoted || result.ec != std::errc() || result.ptr != end || value < min || value > max)
    throw node_->refused(expected);
  return value;
}

double YamlNode::as_number(double min, double max) const {
  double value = 0;
  const std::string& text = node_->scalar;
  const auto end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, value);
  if (!is_scalar() || node_->quoted || result.ec != std::errc() || result.ptr != end || !std::isfinite(value) ||
      value < min || value > max)
    throw node_->refused("a number from " + text_of(min) + " to " + text_of(max));
  return value;
}

std::string YamlNode::as_text() const {
  if (!is_scalar()) throw node_->refused("text");
  return node_->scalar;
}

bool YamlNode::as_boolean() const {
  if (is_scalar() && !node_->quoted) {
    if (node_->scalar == "true") return true;
    if (node_->scalar == "false") return false;
  }
  throw node_->refused("true or false");
}

std::string YamlNode::as_choice(const std::vector<std::string>& choices) const {
  std::string list;
  for (const auto& choice : choices) {
    if (is_scalar() && node_->scalar == choice) return choice;
    list += (list.empty() ? "" : ", ") + choice;
  }
  throw node_->refused("one of " + list);
}

std::int64_t YamlNode::integer(const std::string& key, std::int64_t min, std::int64_t max) const {
  return at(key).as_integer(min, max);
}
double YamlNode::number(const std::string& key, double min, double max) const { return at(key).as_number(min, max); }
std::string YamlNode::text(const std::string& key) const { return at(key).as_text(); }
bool YamlNode::boolean(const std::string& key) const { return at(key).as_boolean(); }
std::string YamlNode::choice(const std::string& key, const std::vector<std::string>& choices) const {
  return at(key).as_choice(choices);
}
std::int64_t YamlNode::integer_or(const std::string& key, std::int64_t absent, std::int64_t min,
                                  std::int64_t max) const {
  const auto node = find(key);
  return node ? node->as_integer(min, max) : absent;
}
double YamlNode::number_or(const std::string& key, double absent, double min, double max) const {
  const auto node = find(key);
  return node ? node->as_number(min, max) : absent;
}
std::string YamlNode::text_or(const std::string& key, const std::string& absent) const {
  const auto node = find(key);
  return node ? node->as_text() : absent;
}
bool YamlNode::boolean_or(const std::string& key, bool absent) const {
  const auto node = find(key);
  return node ? node->as_boolean() : absent;
}

}  // namespace moesaic::base
