// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// GPT2Config from and to JSON, as Hugging Face's config.json has it.
///
///     const auto config = gpt2::from_pretrained<gpt2::GPT2Config>("path/to/gpt2");
///     const nlohmann::json json = config;
///     assert(json.get<gpt2::GPT2Config>() == config);

#include <concepts>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "gpt2/config.hpp"
#include "gpt2/detail/files/read_only_file.hpp"
#include "gpt2/detail/files/strict_json.hpp"
#include "gpt2/error.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// Reads a config; this is what `json.get<GPT2Config>()` calls. Fields that are absent keep their defaults,
/// unknown ones are ignored. Integers must be JSON integers: 768.0, "768" and true are errors. Hugging Face's
/// other names (hidden_size, max_position_embeddings, num_attention_heads, num_hidden_layers) are read; n_ctx
/// stands for n_positions where neither that nor max_position_embeddings is there. The result is valid.
/// Throws: ConfigError naming the field that is wrong; `config` is then as it was. A list of several
/// eos_token_ids, which newer versions of transformers allow, is refused.
/// Source: transformers.GPT2Config.from_dict, attribute_map.
inline void from_json(const nlohmann::json& json, GPT2Config& config);

/// Writes every field, null for those that are empty, and "model_type": "gpt2".
/// Source: transformers.GPT2Config.to_dict.
inline void to_json(nlohmann::json& json, const GPT2Config& config);

/// Reads a config from the text of a config.json. The text must be strict JSON: no comments, duplicate
/// keys, NaN or Infinity, numbers beyond double's range, bytes behind its end, or nesting deeper than
/// 127.
/// Throws: ConfigError, with an empty field if the text is not JSON.
[[nodiscard]] inline GPT2Config parse_config(std::string_view text);

/// Reads a config from `path`, a config.json or a folder that holds one.
/// Throws: CheckpointError: kind IoError if it cannot be read; ConfigInvalid if it is wrong, where
/// tensor() is the field, or larger than 4 MiB.
/// Source: transformers.GPT2Config.from_pretrained.
template <class C>
requires std::same_as<C, GPT2Config>
[[nodiscard]] C from_pretrained(const std::filesystem::path& path);

// Implementation.

namespace detail {

/// The other name a field goes by, empty if it has none.
[[nodiscard]] inline std::string_view config_alias(std::string_view name) {
  if (name == "n_embd") return "hidden_size";
  if (name == "n_positions") return "max_position_embeddings";
  if (name == "n_head") return "num_attention_heads";
  if (name == "n_layer") return "num_hidden_layers";
  return "";
}

/// Reads one JSON value into a field's type, and nothing that would need a conversion.
struct ConfigFieldReader {
  std::string_view name;
  const nlohmann::json& value;

  void read(Eigen::Index& field) const {
    if (!value.is_number_integer()) fail("is not an integer");
    if (value.is_number_unsigned() &&
        value.get<std::uint64_t>() > static_cast<std::uint64_t>(std::numeric_limits<Eigen::Index>::max())) {
      fail("is too large");
    }
    field = static_cast<Eigen::Index>(value.get<std::int64_t>());
  }
  void read(double& field) const {
    if (!value.is_number()) fail("is not a number");
    field = value.get<double>();
  }
  void read(bool& field) const {
    if (!value.is_boolean()) fail("is not true or false");
    field = value.get<bool>();
  }
  void read(std::string& field) const {
    if (!value.is_string()) fail("is not a string");
    field = value.get<std::string>();
  }
  template <class Field>
  void read(std::optional<Field>& field) const {
    field.reset();
    if (!value.is_null()) read(field.emplace());
  }

  [[noreturn]] void fail(std::string_view problem) const {
    throw ConfigError(name, printable_json(value), problem);
  }
};

/// Visits every field of a config, and reads those that `json` has.
struct ConfigReader {
  const nlohmann::json& json;

  template <class Field>
  void operator()(std::string_view name, Field& field, FieldRange) const {
    const std::string_view alias = config_alias(name);
    const auto own = json.find(name);
    const auto other = alias.empty() ? json.end() : json.find(alias);
    if (own != json.end()) ConfigFieldReader{name, *own}.read(field);
    if (other != json.end()) {
      const ConfigFieldReader reader{alias, *other};
      const Field found = field;
      reader.read(field);
      if (own != json.end() && field != found) {
        reader.fail("contradicts " + std::string(name) + " = " + own->dump());
      }
    }
    if (name == "n_positions" && own == json.end() && other == json.end()) {
      if (const auto old = json.find("n_ctx"); old != json.end()) {
        ConfigFieldReader{"n_ctx", *old}.read(field);
      }
    }
  }
};

/// Visits every field of a config, and writes it to `json`.
struct ConfigWriter {
  nlohmann::json& json;

  template <class Field>
  void operator()(const char* name, const Field& field, FieldRange) const {
    json[name] = field;
  }
  template <class Field>
  void operator()(const char* name, const std::optional<Field>& field, FieldRange) const {
    json[name] = nullptr;
    if (field) json[name] = *field;
  }
};

}  // namespace detail

inline void from_json(const nlohmann::json& json, GPT2Config& config) {
  if (!json.is_object()) throw ConfigError("", detail::printable_json(json), "is not a JSON object");
  if (const auto type = json.find("model_type"); type != json.end()) {
    const auto* const name = type->get_ptr<const std::string*>();
    if (name == nullptr || *name != "gpt2") {
      throw ConfigError("model_type", detail::printable_json(*type), "is not \"gpt2\"");
    }
  }
  GPT2Config read;
  detail::for_each_field(read, detail::ConfigReader{json});
  read.validate();
  config = std::move(read);
}

inline void to_json(nlohmann::json& json, const GPT2Config& config) {
  json = nlohmann::json::object();
  json["model_type"] = "gpt2";
  detail::for_each_field(config, detail::ConfigWriter{json});
}

inline GPT2Config parse_config(std::string_view text) {
  try {
    const detail::JsonDocument document(detail::parse_strict_json(text));
    return document->get<GPT2Config>();
  } catch (const detail::JsonFault& fault) {
    if (!fault.member().empty()) throw ConfigError(fault.member(), fault.value(), fault.what());
    throw ConfigError("", "", std::string("the text ") + fault.what());
  }
}

template <class C>
requires std::same_as<C, GPT2Config> C from_pretrained(const std::filesystem::path& path) {
  constexpr std::uint64_t largest = std::uint64_t{4} * 1024 * 1024;
  std::error_code ignored;
  const bool is_folder = std::filesystem::is_directory(path, ignored);
  const detail::ReadOnlyFile file(is_folder ? path / "config.json" : path);
  if (file.size() > largest) throw CheckpointError(file.path(), "", "ConfigInvalid", "is larger than 4 MiB");
  try {
    return parse_config(file.read_text(0, file.size()));
  } catch (const ConfigError& error) {
    // The field moves from the problem to where CheckpointError has it.
    std::string problem = error.what();
    const std::string prefix = "[gpt2.config_error] " + error.field() + (error.field().empty() ? "" : " = ");
    if (problem.starts_with(prefix)) problem.erase(0, prefix.size());
    throw CheckpointError(file.path(), error.field(), "ConfigInvalid", problem);
  }
}

}  // namespace gpt2::inline GPT2_EMBEDDINGS_ABI
