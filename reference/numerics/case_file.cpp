#include "reference/numerics/case_file.h"

#include <charconv>
#include <map>
#include <set>
#include <system_error>
#include <tuple>
#include <utility>

#include "base/error.h"
#include "base/safetensors.h"
#include "reference/numerics/swiglu.h"

namespace moesaic::numerics {

using base::ConfigError;
using base::SafetensorsFile;

namespace {

using Names = std::set<std::string>;

constexpr const char* kWeightTensors[] = {
    "w", "zero_point", "group_multiplier", "level_multiplier", "requant_multiplier", "requant_shift"};
constexpr const char* kExpertPrefixes[] = {"gate.", "up.", "down."};

std::string list_of(const Names& names) {
  std::string list;
  for (const auto& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

/// Reads one case; every metadata key and tensor of the file must be known to its operation.
class CaseReader {
 public:
  explicit CaseReader(const std::string& path) : file_(path) {}

  KernelCase read() {
    const std::string op = text_or("op", "mpgemm");
    if (op == "mpgemm") return read_mpgemm();
    if (op == "expert") return read_expert();
    if (op == "combine") return read_combine();
    throw ConfigError(file_.path(), "__metadata__.op", "'" + op + "'", "one of mpgemm, expert, combine");
  }

 private:
  std::string text_or(const std::string& key, const std::string& absent) const {
    const auto found = file_.metadata().find(key);
    return found == file_.metadata().end() ? absent : found->second;
  }

  std::string text(const std::string& key) const {
    const auto found = file_.metadata().find(key);
    if (found == file_.metadata().end()) throw ConfigError(file_.path(), "__metadata__." + key, "nothing", "this key");
    return found->second;
  }

  std::int64_t integer(const std::string& key, const std::string& expected) const {
    const std::string value = text(key);
    std::int64_t number = 0;
    const auto end = value.data() + value.size();
    const auto result = std::from_chars(value.data(), end, number);
    if (result.ec != std::errc() || result.ptr != end) refuse(key, expected);
    return number;
  }

  [[noreturn]] void refuse(const std::string& key, const std::string& expected) const {
    throw ConfigError(file_.path(), "__metadata__." + key, "'" + text(key) + "'", expected);
  }

  int width(const std::string& key) const {
    const std::int64_t bits = integer(key, "4, 8 or 16");
    if (bits != 4 && bits != 8 && bits != 16) refuse(key, "4, 8 or 16");
    return static_cast<int>(bits);
  }

  void only(const Names& keys, const Names& tensors) const {
    for (const auto& pair : file_.metadata())
      if (keys.count(pair.first) == 0)
        throw ConfigError(file_.path(), "__metadata__." + pair.first, "an unknown key", "one of " + list_of(keys));
    for (const auto& pair : file_.tensors())
      if (tensors.count(pair.first) == 0)
        throw ConfigError(file_.path(), "tensor " + pair.first, "an unknown tensor", "one of " + list_of(tensors));
  }

  // The extents of a matrix of any size of at least 1.
  std::pair<std::int64_t, std::int64_t> extents(const std::string& name) const {
    const auto& shape = file_.info(name).shape;
    if (shape.size() != 2 || shape[0] < 1 || shape[1] < 1)
      throw ConfigError(file_.path(), "tensor " + name + ": shape", base::shape_text(shape),
                        "two extents of at least 1");
    return {shape[0], shape[1]};
  }

  Format format(const std::string& prefix = "") const {
    return Format::from_metadata(text(prefix + "format"), text_or(prefix + "bits", ""), file_.path());
  }

  /// One for all, or where any matrix names its own, one each.
  ExpertFormats expert_formats() const {
    bool own = false;
    for (const char* prefix : kExpertPrefixes)
      for (const char* key : {"format", "bits"}) own = own || file_.metadata().count(std::string(prefix) + key) != 0;
    if (!own) return format();
    for (const char* key : {"format", "bits"})
      if (file_.metadata().count(key) != 0) refuse(key, "none beside those of gate, up and down");
    return {format("gate."), format("up."), format("down.")};
  }

  std::int64_t group_size() const {
    const std::int64_t size = integer("group_size", "a positive multiple of 8");
    if (size < 8 || size % 8 != 0) refuse("group_size", "a positive multiple of 8");
    return size;
  }

  Activations activations(int act_bits) const {
    Activations x;
    x.act_bits = act_bits;
    std::tie(x.m, x.k) = extents("x");
    if (act_bits == 16) {
      x.values = file_.read<std::int16_t>("x");
    } else {
      const auto narrow = file_.read<std::int8_t>("x");
      x.values.assign(narrow.begin(), narrow.end());
    }
    if (file_.has("token_shift")) x.token_shift = file_.read<std::uint8_t>("token_shift", {x.m});
    return x;
  }

  WeightMatrix weights(const std::string& prefix, const Format& format, std::int64_t group_size) const {
    WeightMatrix w;
    w.format = format;
    w.group_size = group_size;
    std::tie(w.n, w.k) = extents(prefix + "w");
    w.codes = file_.read<std::uint8_t>(prefix + "w");
    const std::string zero_point = prefix + "zero_point";
    if (format.has_zero_point() || file_.has(zero_point)) {
      auto values = file_.read<std::uint8_t>(zero_point, {w.n, w.groups()});
      if (format.has_zero_point()) w.zero_point = std::move(values);
    }
    w.group_multiplier = file_.read<std::uint16_t>(prefix + "group_multiplier", {w.n, w.groups()});
    const std::string level = prefix + "level_multiplier";
    if (format.stored_levels() > 0) {
      w.level_multiplier = file_.read<std::uint16_t>(level, {format.stored_levels(), w.n, w.groups()});
    } else if (file_.has(level)) {
      throw ConfigError(file_.path(), "tensor " + level, "levels", "none for " + format.name());
    }
    w.requant_multiplier = file_.read<std::uint16_t>(prefix + "requant_multiplier", {w.n});
    w.requant_shift = file_.read<std::uint8_t>(prefix + "requant_shift", {w.n});
    return w;
  }

  KernelCase read_mpgemm() {
    Names tensors = {"x", "token_shift"};
    for (const char* name : kWeightTensors) tensors.insert(name);
    only({"op", "format", "bits", "group_size", "act_bits", "out_bits"}, tensors);
    MpgemmCase result;
    const Format f = format();
    const std::int64_t group = group_size();
    result.out_bits = width("out_bits");
    result.x = activations(width("act_bits"));
    result.w = weights("", f, group);
    return result;
  }

  KernelCase read_expert() {
    Names tensors = {"x", "token_shift"};
    for (const char* prefix : kExpertPrefixes)
      for (const char* name : kWeightTensors) tensors.insert(std::string(prefix) + name);
    Names keys = {"op", "format", "bits", "group_size", "act_bits", "out_bits", "sigma_h"};
    for (const char* prefix : kExpertPrefixes)
      for (const char* key : {"format", "bits"}) keys.insert(std::string(prefix) + key);
    only(keys, tensors);
    if (text_or("out_bits", "16") != "16") refuse("out_bits", "16 for an expert");
    ExpertCase result;
    const ExpertFormats formats = expert_formats();
    const std::int64_t group = group_size();
    const std::string range = "0 to " + std::to_string(kMaxSigmaH);
    const std::int64_t sigma_h = integer("sigma_h", range);
    if (sigma_h < 0 || sigma_h > kMaxSigmaH) refuse("sigma_h", range);
    result.w.sigma_h = static_cast<int>(sigma_h);
    result.x = activations(width("act_bits"));
    result.w.gate = weights("gate.", formats.gate, group);
    result.w.up = weights("up.", formats.up, group);
    result.w.down = weights("down.", formats.down, group);
    return result;
  }

  KernelCase read_combine() {
    only({"op"}, {"down", "r"});
    CombineCase result;
    const auto& shape = file_.info("down").shape;
    if (shape.size() != 3 || shape[0] < 1 || shape[1] < 1 || shape[2] < 1)
      throw ConfigError(file_.path(), "tensor down: shape", base::shape_text(shape), "three extents of at least 1");
    result.experts = shape[0];
    result.m = shape[1];
    result.hidden = shape[2];
    result.down = file_.read<std::int16_t>("down");
    result.r = file_.read<std::uint16_t>("r", {result.m, result.experts});
    return result;
  }

  SafetensorsFile file_;
};

/// Tensors gathered for one file; narrow copies stay alive until it is written.
class TensorSet {
 public:
  template <class T>
  void add(const std::string& name, const std::vector<T>& values, std::vector<std::int64_t> shape) {
    views_[name] = base::tensor_view(values, std::move(shape));
  }
  /// int8 for widths up to 8, int16 for 16.
  void add_narrow(const std::string& name, const std::vector<std::int16_t>& values, int bits,
                  std::vector<std::int64_t> shape) {
    if (bits == 16) return add(name, values, std::move(shape));
    auto& narrow = narrow_[name];
    narrow.reserve(values.size());
    for (const auto v : values) narrow.push_back(static_cast<std::int8_t>(v));
    add(name, narrow, std::move(shape));
  }
  void add_weights(const std::string& prefix, const WeightMatrix& w) {
    add(prefix + "w", w.codes, {w.n, w.k});
    if (!w.zero_point.empty()) add(prefix + "zero_point", w.zero_point, {w.n, w.groups()});
    add(prefix + "group_multiplier", w.group_multiplier, {w.n, w.groups()});
    if (!w.level_multiplier.empty())
      add(prefix + "level_multiplier", w.level_multiplier, {w.format.stored_levels(), w.n, w.groups()});
    add(prefix + "requant_multiplier", w.requant_multiplier, {w.n});
    add(prefix + "requant_shift", w.requant_shift, {w.n});
  }
  void add_activations(const Activations& x) {
    add_narrow("x", x.values, x.act_bits, {x.m, x.k});
    if (!x.token_shift.empty()) add("token_shift", x.token_shift, {x.m});
  }
  void write(const std::string& path, const std::map<std::string, std::string>& metadata) const {
    base::write_safetensors(path, views_, metadata);
  }

 private:
  std::map<std::string, base::TensorView> views_;
  std::map<std::string, std::vector<std::int8_t>> narrow_;
};

std::map<std::string, std::string> metadata_of(const std::string& op, const WeightMatrix& w, int act_bits) {
  return {{"op", op},
          {"format", w.format.kind_name()},
          {"bits", std::to_string(w.format.bits())},
          {"group_size", std::to_string(w.group_size)},
          {"act_bits", std::to_string(act_bits)}};
}

template <class... Visitors>
struct Overloaded : Visitors... {
  using Visitors::operator()...;
};
template <class... Visitors>
Overloaded(Visitors...) -> Overloaded<Visitors...>;

template <class T>
std::string difference(const std::string& name, const std::vector<T>& got, const std::vector<T>& expected,
                       std::int64_t columns) {
  if (got.size() != expected.size())
    return name + ": got " + std::to_string(got.size()) + " elements, expected " + std::to_string(expected.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (got[i] == expected[i]) continue;
    const auto index = static_cast<std::int64_t>(i);
    return name + "[" + std::to_string(index / columns) + ", " + std::to_string(index % columns) + "]: got " +
           std::to_string(got[i]) + ", expected " + std::to_string(expected[i]);
  }
  return "";
}

}  // namespace

KernelCase read_case(const std::string& path) {
  KernelCase result = CaseReader(path).read();
  validate(result, path);
  return result;
}

void validate(const KernelCase& kernel_case, const std::string& where) {
  std::visit(Overloaded{[&](const MpgemmCase& c) {
                          validate(c.x, where);
                          validate(c.w, c.x.act_bits, where);
                          if (c.w.k != c.x.k)
                            throw ConfigError(where, "w: columns", std::to_string(c.w.k),
                                              std::to_string(c.x.k) + " as in x");
                          validate_shifts(c.w, c.x, where);
                          if (c.out_bits != 4 && c.out_bits != 8 && c.out_bits != 16)
                            throw ConfigError(where, "out_bits", std::to_string(c.out_bits), "4, 8 or 16");
                        },
                        [&](const ExpertCase& c) { validate(c.w, c.x, where); },
                        [&](const CombineCase& c) {
                          const bool shaped = c.experts >= 1 && c.m >= 1 && c.hidden >= 1;
                          const auto e = static_cast<std::size_t>(c.experts);
                          const auto m = static_cast<std::size_t>(c.m);
                          const auto h = static_cast<std::size_t>(c.hidden);
                          if (!shaped || c.down.size() != e * m * h || c.r.size() != m * e)
                            throw ConfigError(where, "down", std::to_string(c.down.size()) + " elements",
                                              "[experts, tokens, hidden] and r [tokens, experts]");
                        }},
             kernel_case);
}

void write_case(const std::string& path, const KernelCase& kernel_case) {
  TensorSet tensors;
  std::visit(Overloaded{[&](const MpgemmCase& c) {
                          tensors.add_weights("", c.w);
                          tensors.add_activations(c.x);
                          auto metadata = metadata_of("mpgemm", c.w, c.x.act_bits);
                          metadata["out_bits"] = std::to_string(c.out_bits);
                          tensors.write(path, metadata);
                        },
                        [&](const ExpertCase& c) {
                          tensors.add_weights("gate.", c.w.gate);
                          tensors.add_weights("up.", c.w.up);
                          tensors.add_weights("down.", c.w.down);
                          tensors.add_activations(c.x);
                          auto metadata = metadata_of("expert", c.w.gate, c.x.act_bits);
                          metadata["sigma_h"] = std::to_string(c.w.sigma_h);
                          if (!c.w.formats().is_one()) {
                            metadata.erase("format");
                            metadata.erase("bits");
                            for (const auto& [name, w] : {std::pair("gate.", &c.w.gate), std::pair("up.", &c.w.up),
                                                          std::pair("down.", &c.w.down)}) {
                              metadata[std::string(name) + "format"] = w->format.kind_name();
                              metadata[std::string(name) + "bits"] = std::to_string(w->format.bits());
                            }
                          }
                          tensors.write(path, metadata);
                        },
                        [&](const CombineCase& c) {
                          tensors.add("down", c.down, {c.experts, c.m, c.hidden});
                          tensors.add("r", c.r, {c.m, c.experts});
                          tensors.write(path, {{"op", "combine"}});
                        }},
             kernel_case);
}

void write_result(const std::string& path, const KernelCase& kernel_case, const KernelResult& result) {
  TensorSet tensors;
  std::visit(Overloaded{[&](const MpgemmCase& c) {
                          const auto& r = std::get<MpgemmResult>(result);
                          tensors.add("acc", r.acc, {c.x.m, c.w.n});
                          tensors.add_narrow("y", r.y, c.out_bits, {c.x.m, c.w.n});
                        },
                        [&](const ExpertCase& c) {
                          const auto& r = std::get<ExpertResult>(result);
                          tensors.add("h", r.h, {c.x.m, c.w.intermediate()});
                          tensors.add("y", r.y, {c.x.m, c.w.hidden()});
                        },
                        [&](const CombineCase& c) {
                          tensors.add("y", std::get<CombineResult>(result).y, {c.m, c.hidden});
                        }},
             kernel_case);
  tensors.write(path, {});
}

KernelResult run_case(const KernelCase& kernel_case, Path path, const std::string& where) {
  return std::visit(Overloaded{[&](const MpgemmCase& c) -> KernelResult {
                                 MpgemmResult r;
                                 r.acc = path == Path::kReference ? multiply_reference(c.w, c.x) : multiply(c.w, c.x);
                                 r.y = requantise(c.w, r.acc, token_shifts(c.x), c.out_bits, where);
                                 return r;
                               },
                               [&](const ExpertCase& c) -> KernelResult { return expert_ffn(c.w, c.x, path, where); },
                               [&](const CombineCase& c) -> KernelResult {
                                 return CombineResult{combine(c.down, c.r, c.experts, c.m, c.hidden)};
                               }},
                    kernel_case);
}

std::string first_difference(const KernelCase& kernel_case, const KernelResult& got, const KernelResult& expected) {
  if (got.index() != expected.index()) return "the result of another operation";
  return std::visit(Overloaded{[&](const MpgemmCase& c) {
                                 const auto& a = std::get<MpgemmResult>(got);
                                 const auto& b = std::get<MpgemmResult>(expected);
                                 const std::string text = difference("acc", a.acc, b.acc, c.w.n);
                                 return text.empty() ? difference("y", a.y, b.y, c.w.n) : text;
                               },
                               [&](const ExpertCase& c) {
                                 const auto& a = std::get<ExpertResult>(got);
                                 const auto& b = std::get<ExpertResult>(expected);
                                 const std::string text = difference("h", a.h, b.h, c.w.intermediate());
                                 return text.empty() ? difference("y", a.y, b.y, c.w.hidden()) : text;
                               },
                               [&](const CombineCase& c) {
                                 return difference("y", std::get<CombineResult>(got).y,
                                                   std::get<CombineResult>(expected).y, c.hidden);
                               }},
                    kernel_case);
}

std::string describe(const KernelCase& kernel_case) {
  const auto sizes = [](const char* op, const std::string& format, const WeightMatrix& w, const Activations& x,
                        const char* n, const char* k) {
    return std::string(op) + " " + format + " m" + std::to_string(x.m) + " " + n + std::to_string(w.n) + " " + k +
           std::to_string(w.k) + " g" + std::to_string(w.group_size) + " act" + std::to_string(x.act_bits);
  };
  return std::visit(Overloaded{[&](const MpgemmCase& c) {
                                 return sizes("mpgemm", c.w.format.name(), c.w, c.x, "n", "k") + " out" +
                                        std::to_string(c.out_bits);
                               },
                               [&](const ExpertCase& c) {
                                 return sizes("expert", c.w.formats().name(), c.w.gate, c.x, "i", "h") + " sigma_h" +
                                        std::to_string(c.w.sigma_h);
                               },
                               [&](const CombineCase& c) {
                                 return "combine e" + std::to_string(c.experts) + " m" + std::to_string(c.m) + " h" +
                                        std::to_string(c.hidden);
                               }},
                    kernel_case);
}

}  // namespace moesaic::numerics
