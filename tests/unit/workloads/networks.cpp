#include <catch2/catch.hpp>
#include <cmath>

#include "base/atomic_file.h"
#include "base/error.h"
#include "tests/unit/network/tiny_model.h"
#include "workloads/checkpoint.h"
#include "workloads/hf_config.h"
#include "workloads/plan.h"
#include "workloads/zoo.h"

using namespace moesaic;
using namespace moesaic::tests;
using workloads::Network;

namespace {

struct Facts {
  const char* name;
  std::int64_t moe_layers, params_per_expert, routed_params;
};

// Published shapes, computed once outside this code.
const std::vector<Facts> kFacts = {
    {"Mixtral-8x7B", 32, 176160768, 45097156608},    {"Mixtral-8x22B", 56, 301989888, 135291469824},
    {"Qwen1.5-MoE-A2.7B", 24, 8650752, 12457082880}, {"Qwen2-57B-A14B", 28, 27525120, 49325015040},
    {"Qwen3-30B-A3B", 48, 4718592, 28991029248},     {"Qwen3-235B-A22B", 94, 18874368, 227096395776},
    {"DeepSeek-MoE-16B", 27, 8650752, 14948499456},  {"DeepSeek-V2-Lite", 26, 8650752, 14394851328},
    {"DeepSeek-V3", 58, 44040192, 653908770816},     {"OLMoE-1B-7B", 16, 6291456, 6442450944},
    {"Phi-3.5-MoE", 32, 78643200, 40265318400},      {"Phi-mini-MoE", 32, 11796480, 6039797760},
    {"Switch-c2048", 30, 25559040, 1570347417600},   {"gpt-oss-120b", 36, 24883200, 114661785600},
    {"gpt-oss-20b", 24, 24883200, 19110297600},      {"Llama-4-Maverick", 24, 125829120, 386547056640},
    {"Llama-4-Scout", 48, 125829120, 96636764160},   {"Kimi-K2", 60, 44040192, 1014686023680},
};

const char* const kCommon =
    R"("hidden_act": "silu", "max_position_embeddings": 4096, "rms_norm_eps": 1e-06, "vocab_size": 32000, )";

std::string mixtral(int hidden, int intermediate, int layers, int heads) {
  return std::string("{") + kCommon + R"("model_type": "mixtral", "rope_theta": 1000000.0, "num_local_experts": 8,
    "num_experts_per_tok": 2, "num_key_value_heads": 8, "sliding_window": null, "tie_word_embeddings": false,
    "hidden_size": )" +
         std::to_string(hidden) + R"(, "intermediate_size": )" + std::to_string(intermediate) +
         R"(, "num_hidden_layers": )" + std::to_string(layers) + R"(, "num_attention_heads": )" +
         std::to_string(heads) + "}";
}

std::string qwen3(int hidden, int intermediate, int layers, int heads) {
  return std::string("{") + kCommon + R"("model_type": "qwen3_moe", "rope_theta": 1000000.0, "rope_scaling": null,
    "num_experts": 128, "num_experts_per_tok": 8, "num_key_value_heads": 4, "head_dim": 128, "decoder_sparse_step": 1,
    "mlp_only_layers": [], "intermediate_size": 6144, "norm_topk_prob": true, "hidden_size": )" +
         std::to_string(hidden) + R"(, "moe_intermediate_size": )" + std::to_string(intermediate) +
         R"(, "num_hidden_layers": )" + std::to_string(layers) + R"(, "num_attention_heads": )" +
         std::to_string(heads) + "}";
}

std::string deepseek(const char* type, int experts, int first_dense, int heads, const char* rope) {
  return std::string("{") + kCommon + R"("hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048,
    "moe_layer_freq": 1, "n_shared_experts": 1, "norm_topk_prob": true, "num_experts_per_tok": 8,
    "num_hidden_layers": 61, "v_head_dim": 128, "qk_nope_head_dim": 128, "model_type": ")" +
         type + R"(", "n_routed_experts": )" + std::to_string(experts) + R"(, "first_k_dense_replace": )" +
         std::to_string(first_dense) + R"(, "num_attention_heads": )" + std::to_string(heads) +
         R"(, "num_key_value_heads": )" + std::to_string(heads) + ", " + rope + "}";
}

std::string llama4(int experts, int step) {
  return std::string(R"({"model_type": "llama4", "text_config": {)") + kCommon + R"("model_type": "llama4_text",
    "hidden_size": 5120, "intermediate_size": 8192, "intermediate_size_mlp": 16384, "num_hidden_layers": 48,
    "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "num_experts_per_tok": 1,
    "rope_theta": 500000.0, "interleave_moe_layer_step": )" +
         std::to_string(step) + R"(, "num_local_experts": )" + std::to_string(experts) + "}}";
}

std::string gpt_oss(int layers, int experts) {
  return std::string("{") + kCommon + R"("model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880,
    "experts_per_token": 4, "num_experts_per_tok": 4, "head_dim": 64, "num_attention_heads": 64,
    "num_key_value_heads": 8, "rope_theta": 150000, "rope_scaling": {"rope_type": "yarn", "factor": 32.0},
    "sliding_window": 128, "num_hidden_layers": )" +
         std::to_string(layers) + R"(, "num_local_experts": )" + std::to_string(experts) + "}";
}

Network parse(const std::string& text) { return workloads::parse_hf_config(text, "config.json", "test"); }

void check_same_shape(const Network& a, const Network& b) {
  CHECK(a.hidden == b.hidden);
  CHECK(a.expert_intermediate == b.expert_intermediate);
  CHECK(a.experts == b.experts);
  CHECK(a.top_k == b.top_k);
  CHECK(a.shared_experts == b.shared_experts);
  CHECK(a.shared_intermediate == b.shared_intermediate);
  CHECK(a.layers == b.layers);
  CHECK(a.has_experts == b.has_experts);
  CHECK(a.dense_first == b.dense_first);
  CHECK(a.dense_intermediate == b.dense_intermediate);
  CHECK(a.heads == b.heads);
  CHECK(a.kv_heads == b.kv_heads);
  CHECK(a.head_dim == b.head_dim);
  CHECK(a.gated == b.gated);
}

void replace(std::string& text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  REQUIRE(at != std::string::npos);
  text.replace(at, from.size(), to);
}

}  // namespace

TEST_CASE("the zoo holds 18 models with their published expert sizes", "[unit][workloads]") {
  CHECK(workloads::zoo_names().size() == kFacts.size());
  for (const Facts& facts : kFacts) {
    INFO(facts.name);
    const Network n = workloads::zoo_network(facts.name, "test", "model");
    CHECK(n.name == facts.name);
    CHECK(n.moe_layers() == facts.moe_layers);
    CHECK(n.params_per_expert() == facts.params_per_expert);
    CHECK(n.routed_params() == facts.routed_params);
    CHECK_FALSE(n.source.empty());
  }
}

TEST_CASE("a config.json of each of ten published models gives the shape that the zoo holds", "[unit][workloads]") {
  const std::vector<std::pair<const char*, std::string>> configs = {
      {"Mixtral-8x7B", mixtral(4096, 14336, 32, 32)},
      {"Mixtral-8x22B", mixtral(6144, 16384, 56, 48)},
      {"Qwen3-30B-A3B", qwen3(2048, 768, 48, 32)},
      {"Qwen3-235B-A22B", qwen3(4096, 1536, 94, 64)},
      {"DeepSeek-V3", deepseek("deepseek_v3", 256, 3, 128, R"("rope_theta": 10000)")},
      {"Kimi-K2", deepseek("kimi_k2", 384, 1, 64, R"("rope_theta": 50000.0)")},
      {"Llama-4-Maverick", llama4(128, 2)},
      {"Llama-4-Scout", llama4(16, 1)},
      {"gpt-oss-120b", gpt_oss(36, 128)},
      {"gpt-oss-20b", gpt_oss(24, 32)},
  };
  for (const auto& config : configs) {
    INFO(config.first);
    check_same_shape(parse(config.second), workloads::zoo_network(config.first, "test", "model"));
  }
  CHECK_FALSE(parse(llama4(128, 2)).has_experts[0]);
  CHECK(parse(llama4(128, 2)).has_experts[1]);
}

TEST_CASE("Qwen2-MoE, OLMoE and Phi-MoE state their experts under their own keys", "[unit][workloads]") {
  std::string qwen2 = qwen3(2048, 1408, 24, 16);
  replace(qwen2, "qwen3_moe", "qwen2_moe");
  replace(qwen2, "\"num_experts\": 128, \"num_experts_per_tok\": 8, \"num_key_value_heads\": 4",
          "\"num_experts\": 60, \"num_experts_per_tok\": 4, \"num_key_value_heads\": 16, "
          "\"shared_expert_intermediate_size\": 5632");
  check_same_shape(parse(qwen2), workloads::zoo_network("Qwen1.5-MoE-A2.7B", "test", "model"));

  const std::string olmoe = std::string("{") + kCommon + R"("model_type": "olmoe", "hidden_size": 2048,
    "intermediate_size": 1024, "num_experts": 64, "num_experts_per_tok": 8, "num_hidden_layers": 16,
    "num_attention_heads": 16, "num_key_value_heads": 16, "norm_topk_prob": false, "rope_theta": 10000.0})";
  check_same_shape(parse(olmoe), workloads::zoo_network("OLMoE-1B-7B", "test", "model"));
  CHECK(parse(olmoe).norm_topk_prob == false);

  const std::string phi = std::string("{") + kCommon + R"("model_type": "phimoe", "hidden_size": 4096,
    "intermediate_size": 6400, "num_local_experts": 16, "num_experts_per_tok": 2, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "rope_theta": 10000.0})";
  check_same_shape(parse(phi), workloads::zoo_network("Phi-3.5-MoE", "test", "model"));
}

TEST_CASE("rope_parameters of Transformers 5 mean what rope_theta and rope_scaling meant", "[unit][workloads]") {
  const Network old = parse(mixtral(4096, 14336, 32, 32));
  std::string text = mixtral(4096, 14336, 32, 32);
  replace(text, "\"rope_theta\": 1000000.0", R"("rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"})");
  CHECK(parse(text).rope_theta == old.rope_theta);
  CHECK(parse(text).rope_type == old.rope_type);
  CHECK(parse(gpt_oss(24, 32)).rope_type == std::string("yarn"));
  replace(text, "\"rope_parameters\"", "\"rope_theta\": 5.0, \"rope_parameters\"");
  CHECK_THROWS_WITH(parse(text), Catch::Contains("rope_theta: got 1000000.0, expected 5.0, as rope_theta says"));
}

TEST_CASE("the layers without experts follow from each architecture's own rule", "[unit][workloads]") {
  std::string qwen = qwen3(2048, 768, 6, 32);
  replace(qwen, "\"decoder_sparse_step\": 1", "\"decoder_sparse_step\": 2");
  replace(qwen, "\"mlp_only_layers\": []", "\"mlp_only_layers\": [3]");
  CHECK(parse(qwen).has_experts == std::vector<bool>{false, true, false, false, false, true});
  CHECK(parse(qwen).dense_intermediate == 6144);

  std::string types = deepseek("deepseek_v3", 256, 3, 128, R"("rope_theta": 10000)");
  replace(types, "\"num_hidden_layers\": 61",
          "\"num_hidden_layers\": 3, \"mlp_layer_types\": [\"dense\", \"sparse\", \"sparse\"]");
  CHECK(parse(types).has_experts == std::vector<bool>{false, true, true});
}

TEST_CASE("a config.json that lacks or misspells something is refused with file, line and key", "[unit][workloads]") {
  CHECK_THROWS_WITH(parse("{\n\"model_type\": \"mixtrel\"}"),
                    Catch::Contains("config.json:2: model_type: got 'mixtrel', expected one of mixtral, qwen2_moe") ||
                        Catch::Contains("config.json:2: model_type: got mixtrel, expected"));
  CHECK_THROWS_WITH(parse("{}"), Catch::Contains("config.json:1: model_type: "));
  CHECK_THROWS_WITH(parse("{\"model_type\": \"mixtral\",}"), Catch::Contains("config.json:1: document: got no JSON"));
  CHECK_THROWS_WITH(parse("{\"hidden_size\": 1e999}"), Catch::Contains("config.json:1: document: got no JSON"));
  CHECK_THROWS_WITH(parse("{\n\n\"a\": 1 2}"), Catch::Contains("config.json:3: document: got no JSON"));
  CHECK_THROWS_WITH(parse("[]"), Catch::Contains("config.json:1: document: got array, expected an object"));
  std::string text = mixtral(4096, 14336, 32, 32);
  replace(text, "\"num_local_experts\": 8,", "");
  CHECK_THROWS_WITH(parse(text),
                    Catch::Contains("num_local_experts: got nothing, expected num_local_experts or num_experts"));
  text = mixtral(4096, 14336, 32, 32);
  replace(text, "\"num_local_experts\": 8", "\"num_local_experts\": 8, \"num_experts\": 9");
  CHECK_THROWS_WITH(parse(text), Catch::Contains("num_experts: got 9, expected 8, as num_local_experts says"));
  text = mixtral(4096, 14336, 32, 32);
  replace(text, "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 9");
  CHECK_THROWS_WITH(parse(text), Catch::Contains("num_experts_per_tok: got 9"));
  text = mixtral(4096, 14336, 32, 36);
  CHECK_THROWS_WITH(parse(text),
                    Catch::Contains("num_key_value_heads: got 8, expected a divisor of num_attention_heads, 36"));
  CHECK_THROWS_AS(workloads::read_hf_config("/nowhere/config.json"), base::InputError);
  CHECK_THROWS_WITH(workloads::zoo_network("Mixtral", "command line", "model"),
                    Catch::Contains("command line: model: got 'Mixtral', expected a model folder, a config.json, a "
                                    "shape file (.yaml) or a name"));
}

TEST_CASE("a shape file whose numbers do not fit each other is refused with file, line and key", "[unit][workloads]") {
  const std::string text =
      "name: own\nsource: own\nhidden: 64\nexpert_intermediate: 32\nexperts: 4\ntop_k: 2\nshared_experts: 1\n"
      "shared_intermediate: 32\nlayers: 3\ndense_first: 1\nmoe_every: 2\ndense_intermediate: 128\nheads: 4\n"
      "kv_heads: 2\nhead_dim: 16\ngated: true\n";
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    replace(changed, from, to);
    return workloads::parse_zoo_file(changed, "own.yaml");
  };
  CHECK(with("", "").has_experts == std::vector<bool>{false, false, true});
  CHECK_THROWS_WITH(with("shared_intermediate: 32", "shared_intermediate: 0"),
                    "own.yaml:8: shared_intermediate: got 0, expected a width above 0, as shared_experts is not 0");
  CHECK_THROWS_WITH(with("shared_experts: 1", "shared_experts: 0"),
                    "own.yaml:8: shared_intermediate: got 32, expected 0, as shared_experts is 0");
  const std::string dense =
      "own.yaml:12: dense_intermediate: got 0, expected a width above 0, as some layers have no "
      "experts";
  CHECK_THROWS_WITH(with("dense_intermediate: 128", "dense_intermediate: 0"), dense);
  CHECK_THROWS_WITH(with("dense_first: 1\nmoe_every: 2\ndense_intermediate: 128",
                         "dense_first: 0\nmoe_every: 2\ndense_intermediate: 0"),
                    dense);
  CHECK_THROWS_WITH(with("dense_first: 1", "dense_first: 2"),
                    "own.yaml:10: dense_first: got 2, expected at most 1: a layer with experts");
  CHECK_THROWS_WITH(with("dense_first: 1\nmoe_every: 2", "dense_first: 3\nmoe_every: 1"),
                    "own.yaml:10: dense_first: got 3, expected at most 2: a layer with experts");
  CHECK_THROWS_WITH(with("kv_heads: 2", "kv_heads: 3"), "own.yaml:14: kv_heads: got 3, expected a divisor of heads, 4");
}

TEST_CASE("a network has at most 2^53 routed weights, and as many of attention", "[unit][workloads]") {
  const auto shape = [](const std::string& experts) {
    return "name: own\nsource: own\nhidden: 16777216\nexpert_intermediate: 16777216\nexperts: " + experts +
           "\ntop_k: 1\nshared_experts: 0\nshared_intermediate: 0\nlayers: 1\ndense_first: 0\nmoe_every: 1\n"
           "dense_intermediate: 0\nheads: 4\nkv_heads: 2\nhead_dim: 16\ngated: true\n";
  };
  CHECK(workloads::parse_zoo_file(shape("10"), "own.yaml").routed_params() == std::int64_t{30} << 48);
  CHECK_THROWS_WITH(workloads::parse_zoo_file(shape("11"), "own.yaml"),
                    "own.yaml:1: routed weights: got 9288674231451648, expected at most 2^53");
  std::string wide = shape("10");
  replace(wide, "heads: 4\nkv_heads: 2\nhead_dim: 16", "heads: 8192\nkv_heads: 8192\nhead_dim: 16384");
  CHECK(workloads::parse_zoo_file(wide, "own.yaml").heads == 8192);
  replace(wide, "head_dim: 16384", "head_dim: 16385");
  CHECK_THROWS_WITH(workloads::parse_zoo_file(wide, "own.yaml"),
                    "own.yaml:1: attention weights: got 9007749010554880, expected at most 2^53");
  std::string latent = shape("10");
  replace(latent, "heads: 4\nkv_heads: 2\nhead_dim: 16", "heads: 8192\nkv_heads: 8192\nhead_dim: 8000");
  replace(latent, "gated", "latent_attention: {q_rank: 0, kv_rank: 8, nope_dim: 8000, rope_dim: 8000}\ngated");
  CHECK_THROWS_WITH(workloads::parse_zoo_file(latent, "own.yaml"),
                    Catch::Contains("own.yaml:1: attention weights: got"));
  std::string text = mixtral(16777216, 16777216, 4096, 32);
  replace(text, "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 1");
  CHECK_THROWS_WITH(parse(text), "config.json:1: routed weights: got 27670116110564327424, expected at most 2^53");
}

TEST_CASE("a sharded checkpoint reads like a single one and hashes differently", "[unit][workloads]") {
  const TemporaryFolder folder;
  const std::map<std::string, TinyTensor> tensors = tiny_tensors(1);
  const workloads::Checkpoint whole(write_tiny_model(folder, "whole", tensors));
  folder.write("parts/config.json", tiny_config());
  std::map<std::string, TinyTensor> parts[2];
  std::string index = R"({"metadata": {"total_size": 1}, "weight_map": {)";
  for (const auto& entry : tensors) {
    const std::size_t part = entry.first.find("layers.1") != std::string::npos ? 1 : 0;
    parts[part].insert(entry);
    index += "\n\"" + entry.first + "\": \"model-0000" + std::to_string(part + 1) + "-of-00002.safetensors\",";
  }
  index.back() = '}';
  write_tensors(folder.file("parts/model-00001-of-00002.safetensors"), parts[0]);
  write_tensors(folder.file("parts/model-00002-of-00002.safetensors"), parts[1]);
  folder.write("parts/model.safetensors.index.json", index + "}\n");
  const workloads::Checkpoint sharded(folder.file("parts"));
  CHECK(sharded.tensor_names() == whole.tensor_names());
  for (const auto& entry : tensors) CHECK(sharded.read(entry.first, entry.second.shape).data == entry.second.data);
  CHECK(whole.hash().size() == 64);
  CHECK(whole.hash() != sharded.hash());
  CHECK(whole.hash() == workloads::Checkpoint(folder.file("whole") + "/").hash());

  folder.write("parts/model.safetensors.index.json", R"({"weight_map": {"lm_head.weight": "../x"}})");
  CHECK_THROWS_WITH(workloads::Checkpoint(folder.file("parts")), Catch::Contains("expected a file beside the index"));
  folder.write("parts/model.safetensors.index.json",
               R"({"weight_map": {"model.layers.1.input_layernorm.weight": "model-00001-of-00002.safetensors"}})");
  CHECK_THROWS_WITH(workloads::Checkpoint(folder.file("parts")), Catch::Contains("expected a shard that holds"));
}

TEST_CASE("a folder that is no whole checkpoint is refused", "[unit][workloads]") {
  const TemporaryFolder folder;
  CHECK_THROWS_WITH(workloads::Checkpoint(folder.path()), Catch::Contains(folder.path() + "/config.json"));
  CHECK_THROWS_AS(workloads::Checkpoint("/proc/1/nothing"), base::InputError);
  folder.write("m/config.json", tiny_config());
  CHECK_THROWS_WITH(
      workloads::Checkpoint(folder.file("m")),
      Catch::Contains("weights: got nothing, expected model.safetensors or model.safetensors.index.json"));
  const std::string model = write_tiny_model(folder, "m", tiny_tensors(1));
  std::filesystem::resize_file(model + "/model.safetensors", 5000);
  CHECK_THROWS_AS(workloads::Checkpoint(model), base::InputError);
  std::map<std::string, TinyTensor> tensors = tiny_tensors(1);
  tensors.erase("lm_head.weight");
  const workloads::Checkpoint without(write_tiny_model(folder, "m", tensors));
  CHECK_THROWS_WITH(without.read("lm_head.weight", {17, 12}),
                    Catch::Contains("lm_head.weight: got nothing, expected a tensor of shape [17, 12]"));
}

TEST_CASE("a checkpoint of more layers than config.json counts is refused, but for those that predict further tokens",
          "[unit][workloads]") {
  const TemporaryFolder folder;
  std::map<std::string, TinyTensor> tensors = tiny_tensors(1);
  tensors["model.layers.2.input_layernorm.weight"] = tensors["model.layers.1.input_layernorm.weight"];
  const std::string model = write_tiny_model(folder, "m", tensors);
  const auto with = [&](const std::string& further) {
    std::string config = tiny_config();
    replace(config, "{", "{" + further);
    folder.write("m/config.json", config);
    return workloads::Checkpoint(model).network().layers;
  };
  const std::string refusal = model + ": tensor model.layers.2.input_layernorm.weight: got layer 2, expected ";
  CHECK_THROWS_WITH(with(""), refusal + "at most 2 layers, as config.json says");
  CHECK_THROWS_WITH(with("\"num_nextn_predict_layers\": 0,"), refusal + "at most 2 layers, as config.json says");
  CHECK(with("\"num_nextn_predict_layers\": 1,") == 2);
}

TEST_CASE("of a checkpoint that is quantised already the shapes are read, and no weights", "[unit][workloads]") {
  const TemporaryFolder folder;
  const std::string model = write_tiny_model(folder, "m", tiny_tensors(1));
  std::string config = tiny_config();
  replace(config, "{", "{\n\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4},");
  folder.write("m/config.json", config);
  const workloads::Checkpoint checkpoint(model);
  CHECK(checkpoint.network().experts == kTinyExperts);
  CHECK_THROWS_WITH(checkpoint.read("lm_head.weight", {17, 12}),
                    model +
                        "/config.json:2: quantization_config: got gptq, expected none: weights are read as bf16, "
                        "f16 or f32");
  CHECK(checkpoint.quantised());
  std::string said = "{\"quant_method\": \"gptq\", \"bits\": 4}";
  const auto says = [&](const std::string& text) {
    replace(config, "\"quantization_config\": " + said, "\"quantization_config\": " + text);
    said = text;
    folder.write("m/config.json", config);
    return workloads::Checkpoint(model);
  };
  for (const char* none : {"null", "{}"}) {
    CHECK_FALSE(says(none).quantised());
    CHECK(says(none).read("lm_head.weight", {17, 12}).data.size() == 17 * 12);
  }
  for (const char* unnamed : {"{\"quant_method\": null}", "{\"quant_method\": {}}", "true"})
    CHECK_THROWS_WITH(says(unnamed).read("lm_head.weight", {17, 12}),
                      Catch::Contains("/config.json:2: quantization_config: got it, expected none"));
}

TEST_CASE("a plan reads back as it was written, and the same plan gives the same bytes", "[unit][workloads]") {
  const TemporaryFolder folder;
  const Network network = parse(mixtral(64, 64, 2, 8));
  workloads::Plan plan = workloads::uniform_plan(network, std::string(64, 'a'), numerics::Format::integer(3), 64);
  plan.made_from.sensitivity = std::string(64, 'b');
  plan.made_from.trace = std::string(64, 'c');
  plan.memory_bytes = 123456789012;
  plan.memory_budget_bytes = 123456789013;
  plan.loss = 0.1 + 0.2;
  plan.solver = {{"allocator", "exact"}, {"status", "optimal: \"proved\""}};
  plan.experts[5].format = numerics::Format::nested(4);
  plan.experts[6].format = numerics::Format::ternary();
  plan.experts[7].format = {numerics::Format::integer(2), numerics::Format::mwq(2, 3, 1), numerics::Format::nested(4)};
  workloads::write_plan(plan, folder.file("plan.yaml"));
  const workloads::Plan back = workloads::read_plan(folder.file("plan.yaml"));
  CHECK(back.made_from == plan.made_from);
  CHECK(back.group_size == 64);
  CHECK(back.memory_bytes == plan.memory_bytes);
  CHECK(back.memory_budget_bytes == plan.memory_budget_bytes);
  CHECK(back.loss == plan.loss);
  CHECK(back.solver == plan.solver);
  CHECK(back.experts == plan.experts);
  CHECK(back.at(0, 5).format == numerics::Format::nested(4));
  CHECK(back.at(0, 7).format == plan.experts[7].format);
  CHECK(back.at(0, 7).format.name() == "int2/mwq2+1of3/nested4");
  CHECK_THAT(base::read_file(folder.file("plan.yaml")),
             Catch::Contains("expert: 7, format: {gate: int2, up: mwq2+1of3, down: nested4}}"));
  CHECK(back.at(1, 7).format == numerics::Format::integer(3));
  workloads::write_plan(back, folder.file("again.yaml"));
  CHECK(base::read_file(folder.file("again.yaml")) == base::read_file(folder.file("plan.yaml")));
  CHECK_NOTHROW(workloads::check_plan(back, "plan.yaml", network, std::string(64, 'a')));
}

TEST_CASE("a plan says what each class of requests reads of an expert's stored copy", "[unit][workloads]") {
  using numerics::Format;
  const TemporaryFolder folder;
  const Network network = parse(mixtral(64, 64, 2, 8));
  workloads::Plan plan = workloads::uniform_plan(network, std::string(64, 'a'), Format::mwq(2, 2, 0), 64);
  CHECK(plan.read(plan.at(0, 0), 2) == Format::mwq(2, 2, 2));  // without classes: so many planes more
  CHECK_FALSE(plan.read(plan.at(0, 0), 3));
  CHECK_FALSE(plan.read(plan.at(0, 0), 0xffffffff));
  CHECK(plan.expected_level(plan.at(0, 0)) == "at most 2: mwq2+0of2 stores 4 planes and reads 2");
  CHECK(plan.widest_read(plan.at(0, 0), 1) == Format::mwq(2, 2, 1));
  CHECK(plan.widest_read(plan.at(0, 0), 9) == Format::mwq(2, 2, 2));

  plan.class_shares = {0.5, 0.3, 0.2};
  plan.experts[0].reads = {Format::mwq(2, 2, 2), Format::mwq(2, 2, 0), Format::mwq(2, 2, 1)};
  plan.experts[1].format = Format::integer(3);
  workloads::write_plan(plan, folder.file("plan.yaml"));
  const workloads::Plan back = workloads::read_plan(folder.file("plan.yaml"));
  CHECK(back.class_shares == plan.class_shares);
  CHECK(back.experts == plan.experts);
  CHECK(back.read(back.at(0, 0), 1) == Format::mwq(2, 2, 0));
  CHECK(back.read(back.at(0, 1), 2) == Format::integer(3));
  CHECK_FALSE(back.read(back.at(0, 1), 3));
  CHECK(back.expected_level(back.at(0, 1)) == "below 3, the plan's classes");
  CHECK(back.widest_read(back.at(0, 0), 2) == Format::mwq(2, 2, 2));

  const std::string text = base::read_file(folder.file("plan.yaml"));
  const auto refused = [&](const std::string& from, const std::string& to, const std::string& expected) {
    std::string changed = text;
    replace(changed, from, to);
    CHECK_THROWS_WITH(workloads::read_plan(folder.write("changed.yaml", changed)), Catch::Contains(expected));
  };
  refused("mwq2+1of2]", "mwq2+1of3]", "experts[0].reads: got mwq2+1of3, expected a reading of mwq2+0of2's stored copy");
  refused("mwq2+1of2]", "int3]", "experts[0].reads: got int3, expected a reading of mwq2+0of2's stored copy");
  refused(", mwq2+1of2]", "]", "experts[0].reads: got 2 formats, expected 3, one for each of class_shares");
  refused("class_shares: [0.5, 0.3, 0.2]\n", "", "experts[0].reads: got 3 formats, expected class_shares in a plan");
  refused("0.3, 0.2]", "0.3, 0.1]", "class_shares: got shares that add up to 0.9, expected a sum of 1");
  refused("0.3, 0.2]", "0.7, -0.2]", "class_shares");
}

TEST_CASE("formats named with + between them take turns over layers and experts", "[unit][workloads]") {
  const Network network = parse(mixtral(64, 64, 2, 8));
  const auto plan = workloads::named_plan("int2+int3", network, std::string(64, 'a'));
  REQUIRE(plan);
  CHECK(plan->at(0, 0).format == numerics::Format::integer(2));
  CHECK(plan->at(0, 1).format == numerics::Format::integer(3));
  CHECK(plan->at(1, 0).format == numerics::Format::integer(3));
  CHECK(plan->at(1, 7).format == numerics::Format::integer(2));
  CHECK(workloads::named_plan("int4", network, "")->at(1, 7).format == numerics::Format::integer(4));
  // MWQ's own + is no separator.
  CHECK(workloads::named_plan("mwq2+1of3", network, "")->at(1, 7).format == numerics::Format::mwq(2, 3, 1));
  const auto mixed = workloads::named_plan("mwq2+1+int3", network, "");
  CHECK(mixed->at(0, 0).format == numerics::Format::mwq(2, 1, 1));
  CHECK(mixed->at(0, 1).format == numerics::Format::integer(3));
  for (const char* wrong : {"int2+", "+int2", "int2+int9", "int2 +int3"})
    CHECK_THROWS_WITH(workloads::named_plan(wrong, network, ""),
                      Catch::Contains(std::string("--plan: got '") + wrong + "'"));
}

TEST_CASE("a plan for another model, or not for all of this one, is refused", "[unit][workloads]") {
  const TemporaryFolder folder;
  const Network network = parse(mixtral(64, 64, 2, 8));
  const std::string hash(64, 'a');
  const workloads::Plan plan = workloads::uniform_plan(network, hash, numerics::Format::integer(4), 64);
  workloads::write_plan(plan, folder.file("plan.yaml"));
  const std::string text = base::read_file(folder.file("plan.yaml"));
  const auto check = [&](const std::string& from, const std::string& to, const std::string& expected) {
    std::string changed = text;
    replace(changed, from, to);
    const std::string path = folder.write("changed.yaml", changed);
    CHECK_THROWS_WITH(workloads::check_plan(workloads::read_plan(path), path, network, hash),
                      Catch::Contains(expected));
  };
  CHECK_THROWS_WITH(
      workloads::check_plan(workloads::read_plan(folder.file("plan.yaml")), "plan.yaml", network, std::string(64, 'b')),
      Catch::Contains("plan.yaml:3: made_from.checkpoint: got " + hash + " (another model)"));
  const std::string third = "  - {layer: 0, expert: 2, format: int4}\n";
  check(third, "", "experts: got 15 entries, expected 16");
  check(third, "  - {layer: 0, expert: 9, format: int4}\n", "changed.yaml:10: expert: got 9, expected less than 8");
  check(third, "  - {layer: 2, expert: 2, format: int4}\n", "layer: got 2, expected a layer with experts of test");
  check(third, "  - {layer: 0, expert: 1, format: int4}\n", "got layer 0 expert 1 a second time, expected one entry");
  check("expert: 2, format: int4", "expert: 2, format: int9", "changed.yaml:10: experts[2].format: got ");
  check("expert: 2, format: int4", "expert: 2, format: {gate: int4, up: int4}",
        "changed.yaml:10: experts[2].format.down: got nothing");
  check("expert: 2, format: int4", "expert: 2, format: {gate: int4, up: int9, down: int4}",
        "changed.yaml:10: experts[2].format.up: got 'int9'");
  check("expert: 2, format: int4", "expert: 2, format: {gate: int4, up: int4, down: int4, left: int4}",
        "changed.yaml:10: experts[2].format.left: got ");
  check("expert: 2, format: int4", "expert: 2, format: int4/int4/int2", "changed.yaml:10: experts[2].format: got ");
  check("expert: 2, format: int4", "expert: 2, fromat: int4", "experts[2].format: got nothing");
  check("plan_version: 1", "plan_version: 2", "changed.yaml:1: plan_version: got 2, expected ");
  check("group_size: 64", "group_size: 12", "group_size: got 12, expected a multiple of 8");
  check("checkpoint: \"aaaa", "checkpoint: \"Aaaa", "made_from.checkpoint: got ");
}
