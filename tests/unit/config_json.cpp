// SPDX-License-Identifier: MIT
#include "gpt2/config_json.hpp"

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "catch.hpp"
#include "support.hpp"
#include "temporary_folder.hpp"

namespace config_json_tests {

using namespace gpt2;
using test::contains;
using test::error_of;

namespace {

ConfigError parse_error(std::string_view text) {
  INFO(text);
  return error_of<ConfigError>([&] { static_cast<void>(parse_config(text)); });
}

CheckpointError load_error(const std::filesystem::path& path) {
  return error_of<CheckpointError>([&] { static_cast<void>(from_pretrained<GPT2Config>(path)); });
}

}  // namespace

TEST_CASE("an empty object is GPT-2 base", "[config_json]") {
  CHECK(parse_config("{}") == GPT2Config{});
  CHECK(nlohmann::json::object().get<GPT2Config>() == GPT2Config{});
}

TEST_CASE("every field is read under its Hugging Face name", "[config_json]") {
  const GPT2Config config = parse_config(R"({
    "model_type": "gpt2", "vocab_size": 11, "n_positions": 7, "n_embd": 4, "n_layer": 2, "n_head": 1, "n_inner": 9,
    "activation_function": "relu", "resid_pdrop": 0, "embd_pdrop": 0.25, "attn_pdrop": 1, "layer_norm_epsilon": 1e-6,
    "initializer_range": 0.5, "summary_type": "last", "summary_use_proj": false, "summary_activation": "tanh",
    "summary_proj_to_labels": false, "summary_first_dropout": 0.5, "scale_attn_weights": false, "use_cache": false,
    "bos_token_id": null, "eos_token_id": 3, "pad_token_id": 0, "scale_attn_by_inverse_layer_idx": true,
    "reorder_and_upcast_attn": true, "add_cross_attention": true, "tie_word_embeddings": false})");
  GPT2Config expected;
  expected.vocab_size = 11;
  expected.n_positions = 7;
  expected.n_embd = 4;
  expected.n_layer = 2;
  expected.n_head = 1;
  expected.n_inner = 9;
  expected.activation_function = "relu";
  expected.resid_pdrop = 0;
  expected.embd_pdrop = 0.25;
  expected.attn_pdrop = 1;
  expected.layer_norm_epsilon = 1e-6;
  expected.initializer_range = 0.5;
  expected.summary_type = "last";
  expected.summary_use_proj = false;
  expected.summary_activation = "tanh";
  expected.summary_proj_to_labels = false;
  expected.summary_first_dropout = 0.5;
  expected.scale_attn_weights = false;
  expected.use_cache = false;
  expected.bos_token_id.reset();
  expected.eos_token_id = 3;
  expected.pad_token_id = 0;
  expected.scale_attn_by_inverse_layer_idx = true;
  expected.reorder_and_upcast_attn = true;
  expected.add_cross_attention = true;
  expected.tie_word_embeddings = false;
  CHECK(config == expected);
  CHECK(nlohmann::json(config).get<GPT2Config>() == expected);
  CHECK(parse_config(nlohmann::json(config).dump()) == expected);
}

TEST_CASE("further fields of a model hub's config.json are ignored", "[config_json]") {
  const GPT2Config config = parse_config(R"({
    "architectures": ["GPT2LMHeadModel"], "dtype": "float32", "torch_dtype": "float16", "n_ctx": 99,
    "n_positions": 7, "n_inner": null, "summary_activation": null, "pad_token_id": null,
    "task_specific_params": {"text-generation": {"do_sample": true, "max_length": 50}},
    "id2label": {"0": "A"}, "label2id": {"A": 0}, "transformers_version": "4.30.0"})");
  GPT2Config expected;
  expected.n_positions = 7;
  CHECK(config == expected);
}

TEST_CASE("a config is written with its model type, and null for empty fields", "[config_json]") {
  const nlohmann::json json = GPT2Config{};
  CHECK(json.at("model_type") == "gpt2");
  CHECK(json.at("n_inner").is_null());
  CHECK(json.at("summary_activation").is_null());
  CHECK(json.at("pad_token_id").is_null());
  CHECK(json.at("vocab_size") == 50257);
  CHECK(json.at("layer_norm_epsilon") == 1e-5);
  CHECK(json.at("tie_word_embeddings") == true);
  CHECK(json.size() == 27);  // the 26 fields and model_type
}

TEST_CASE("the other names of fields are read", "[config_json]") {
  const GPT2Config config = parse_config(
      R"({"hidden_size": 8, "max_position_embeddings": 16, "num_attention_heads": 2, "num_hidden_layers": 3})");
  CHECK(config.n_embd == 8);
  CHECK(config.n_positions == 16);
  CHECK(config.n_head == 2);
  CHECK(config.n_layer == 3);
}

TEST_CASE("a field and its other name may agree, but not contradict", "[config_json]") {
  CHECK(parse_config(R"({"n_embd": 8, "hidden_size": 8})").n_embd == 8);
  const ConfigError error = parse_error(R"({"n_embd": 8, "hidden_size": 9})");
  CHECK(error.field() == "hidden_size");
  CHECK(error.value() == "9");
  CHECK(std::string(error.what()) == "[gpt2.config_error] hidden_size = 9 contradicts n_embd = 8");
  CHECK(parse_error(R"({"max_position_embeddings": 1024, "n_positions": 512})").field() ==
        "max_position_embeddings");
  CHECK(parse_error(R"({"n_head": 1, "num_attention_heads": "1"})").field() == "num_attention_heads");
}

TEST_CASE("an error names the field as the document spells it", "[config_json]") {
  CHECK(std::string(parse_error(R"({"hidden_size": -1})").what()) ==
        "[gpt2.config_error] hidden_size = -1 is less than 1");
  CHECK(parse_error(R"({"max_position_embeddings": 0})").field() == "max_position_embeddings");
  CHECK(parse_error(R"({"num_hidden_layers": 2.5})").field() == "num_hidden_layers");
  CHECK(parse_error(R"({"n_ctx": -1})").field() == "n_ctx");
  CHECK(parse_error(R"({"n_embd": -1, "hidden_size": -1})").field() == "n_embd");
}

TEST_CASE("a config is an ordered document as well, in the order of the fields", "[config_json]") {
  GPT2Config config;
  config.n_embd = 5;
  config.n_inner = 7;
  const nlohmann::ordered_json json = config;
  CHECK(json.begin().key() == "model_type");
  CHECK((++json.begin()).key() == "vocab_size");
  CHECK(json.get<GPT2Config>() == config);
  CHECK(nlohmann::json(json) == nlohmann::json(config));
  nlohmann::ordered_json other = config;
  other["n_embd"] = {1, 2};
  CHECK(error_of<ConfigError>([&] { static_cast<void>(other.get<GPT2Config>()); }).value() == "[1,2]");
}

TEST_CASE("an integer beyond Index is refused, in either direction", "[config_json]") {
  // With a 32-bit Index these are the first that do not fit; with one of 64 bits the sizes are legal.
  constexpr bool wide = sizeof(Eigen::Index) == 8;
  const auto result = [](const std::string& value) -> std::string {
    try {
      return std::to_string(parse_config("{\"n_embd\": " + value + "}").n_embd);
    } catch (const ConfigError& error) {
      return error.what();
    }
  };
  CHECK(result("2147483648") ==
        (wide ? "2147483648" : "[gpt2.config_error] n_embd = 2147483648 is too large"));
  CHECK(result("4294967297") ==
        (wide ? "4294967297" : "[gpt2.config_error] n_embd = 4294967297 is too large"));
  CHECK(contains(result("-4294967295"), "n_embd = -4294967295 is less than"));
  CHECK(contains(result("9223372036854775808"), "is too large"));
}

TEST_CASE("n_ctx is read only if n_positions is present under neither name", "[config_json]") {
  CHECK(parse_config(R"({"n_ctx": 5})").n_positions == 5);
  CHECK(parse_config(R"({"n_ctx": 5, "n_positions": 6})").n_positions == 6);
  CHECK(parse_config(R"({"n_ctx": 5, "max_position_embeddings": 7})").n_positions == 7);
  CHECK(parse_error(R"({"n_ctx": 5.5})").field() == "n_ctx");
}

TEST_CASE("integers are taken as integers only", "[config_json]") {
  for (const std::string name : {"vocab_size", "n_positions", "n_embd", "n_layer", "n_head", "n_inner"}) {
    for (const std::string value :
         {"768.5", "768.0", "7.68e2", "\"768\"", "true", "false", "-1", "0", "-0", "1e30", "[768]", "{}",
          "9223372036854775808", "18446744073709551615", "18446744073709551616", "1e999"}) {
      const ConfigError error = parse_error("{\"" + name + "\": " + value + "}");
      CHECK(error.field() == name);
      CHECK_FALSE(error.value().empty());
      CHECK(contains(error.what(), name + " = "));
    }
  }
  constexpr const char* widest = R"({"vocab_size": 9223372036854775807})";
  if constexpr (sizeof(Index) == sizeof(std::int64_t)) {
    CHECK(parse_config(widest).vocab_size == std::numeric_limits<Index>::max());
  } else {
    CHECK(parse_error(widest).value() == "9223372036854775807");
  }
  CHECK(parse_error(R"({"n_embd": 768.5})").value() == "768.5");
  CHECK(parse_error(R"({"n_embd": "768"})").value() == "\"768\"");
  CHECK(parse_error(R"({"n_embd": null})").value() == "null");
}

TEST_CASE("a value of another type names its field", "[config_json]") {
  const std::pair<std::string_view, std::string_view> cases[] = {
      {"embd_pdrop", R"({"embd_pdrop": "0.1"})"},
      {"embd_pdrop", R"({"embd_pdrop": null})"},
      {"embd_pdrop", R"({"embd_pdrop": true})"},
      {"use_cache", R"({"use_cache": 1})"},
      {"use_cache", R"({"use_cache": null})"},
      {"activation_function", R"({"activation_function": 3})"},
      {"activation_function", R"({"activation_function": null})"},
      {"summary_activation", R"({"summary_activation": false})"},
      {"pad_token_id", R"({"pad_token_id": "0"})"},
      {"eos_token_id", R"({"eos_token_id": [50256, 50257]})"},
      {"eos_token_id", R"({"eos_token_id": -1})"},
      {"resid_pdrop", R"({"resid_pdrop": 1.5})"},
      {"layer_norm_epsilon", R"({"layer_norm_epsilon": -1e-5})"},
  };
  for (const auto& [field, text] : cases) CHECK(parse_error(text).field() == field);
}

TEST_CASE("another model's config is refused", "[config_json]") {
  const ConfigError error = parse_error(R"({"model_type": "bert"})");
  CHECK(error.field() == "model_type");
  CHECK(error.value() == "\"bert\"");
  CHECK(parse_error(R"({"model_type": null})").field() == "model_type");
}

TEST_CASE("a value that is not a JSON object has no field", "[config_json]") {
  for (const std::string_view text : {"", "{", "null", "[]", "7", "\"gpt2\"", "{} {}", "{\"n_embd\": NaN}",
                                      "{\"n_embd\": 1, \"n_embd\": 1}", "{\"n_embd\": 1,}", "// {}\n{}"}) {
    CHECK(parse_error(text).field().empty());
  }
  CHECK(parse_error("[1]").value() == "[1]");
  CHECK(contains(parse_error("{\"layer_norm_epsilon\": Infinity}").what(),
                 "Infinity for layer_norm_epsilon is no JSON value"));
}

TEST_CASE("a document that nests deeper than the stack is refused, and not followed", "[config_json]") {
  const auto nested = [](int depth) {
    nlohmann::json value = 1;
    for (int i = 0; i < depth; ++i) {
      nlohmann::json outer = nlohmann::json::array();
      outer.push_back(std::move(value));
      value = std::move(outer);
    }
    return value;
  };
  const auto config_error = [](const nlohmann::json& json) {
    return error_of<ConfigError>([&] { static_cast<void>(json.get<GPT2Config>()); });
  };
  nlohmann::json json;
  json["n_embd"] = nested(127);
  CHECK(config_error(json).value().starts_with("[[["));
  json["n_embd"] = nested(128);
  CHECK(config_error(json).value() == "JSON that nests deeper than 127 levels");
  json["n_embd"] = nested(200'000);
  CHECK(config_error(json).value() == "JSON that nests deeper than 127 levels");
  CHECK(config_error(nested(200'000)).field() == "");
}

TEST_CASE("a config that cannot be read leaves the old one as it was", "[config_json]") {
  GPT2Config config;
  config.n_embd = 5;
  const GPT2Config before = config;
  const nlohmann::json json = {{"n_embd", 7}, {"n_layer", "two"}};
  CHECK(error_of<ConfigError>([&] { json.get_to(config); }).field() == "n_layer");
  CHECK(config == before);
}

TEST_CASE("a config loads from its file and from the folder that holds it", "[config_json]") {
  const test::TemporaryFolder folder;
  test::write_file(folder / "config.json", R"({"n_embd": 12})");
  CHECK(from_pretrained<GPT2Config>(folder.path()).n_embd == 12);
  CHECK(from_pretrained<GPT2Config>(folder / "config.json").n_embd == 12);
}

TEST_CASE("a file's fault names file, field and value", "[config_json]") {
  const test::TemporaryFolder folder;
  const std::filesystem::path path = folder / "config.json";
  test::write_file(path, R"({"n_embd": 768.5})");
  const CheckpointError error = load_error(folder.path());
  CHECK(error.kind() == "ConfigInvalid");
  CHECK(error.path() == path.string());
  CHECK(error.tensor() == "n_embd");
  CHECK(std::string(error.what()) ==
        "[gpt2.checkpoint_error] " + path.string() + ": n_embd: 768.5 is not an integer [ConfigInvalid]");

  test::write_file(path, "{");
  CHECK(load_error(path).kind() == "ConfigInvalid");
  CHECK(load_error(path).tensor().empty());
  test::write_file(path, "");
  CHECK(load_error(path).kind() == "ConfigInvalid");
}

TEST_CASE("a config file has a largest size", "[config_json]") {
  const test::TemporaryFolder folder;
  const std::filesystem::path path = folder / "config.json";
  std::string text = R"({"n_embd": 3})";
  text.resize(4 * 1024 * 1024, ' ');
  test::write_file(path, text);
  CHECK(from_pretrained<GPT2Config>(path).n_embd == 3);
  test::write_file(path, text + " ");
  CHECK(load_error(path).kind() == "ConfigInvalid");
}

TEST_CASE("a config that is missing, or a folder, cannot be read", "[config_json]") {
  const test::TemporaryFolder folder;
  CHECK(load_error(folder.path()).kind() == "IoError");
  CHECK(load_error(folder.path()).path() == (folder / "config.json").string());
  CHECK(load_error(folder / "none").kind() == "IoError");
  std::filesystem::create_directory(folder / "config.json");
  CHECK(load_error(folder.path()).kind() == "IoError");
}

}  // namespace config_json_tests
