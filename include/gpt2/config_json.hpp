// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// GPT2Config from and to JSON, as Hugging Face's config.json has it.
///
///     const auto config = gpt2::from_pretrained<gpt2::GPT2Config>("path/to/gpt2");
///     const nlohmann::json json = config;
///     assert(json.get<gpt2::GPT2Config>() == config);

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "gpt2/config.hpp"
#include "gpt2/detail/files/file_system.hpp"
#include "gpt2/detail/files/foreign_file.hpp"
#include "gpt2/detail/files/model_folder.hpp"
#include "gpt2/detail/files/read_only_file.hpp"
#include "gpt2/detail/files/strict_json.hpp"
#include "gpt2/error.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// JSON in memory: nlohmann's json, or its ordered_json, which keeps the order of its members.
template <class J>
concept JsonValue = std::same_as<J, nlohmann::json> || std::same_as<J, nlohmann::ordered_json>;

/// Reads a config; `json.get<GPT2Config>()` calls this. Absent fields keep their defaults, unknown ones are ignored.
/// Integers must be JSON integers: 768.0, "768" and true are errors. Hugging Face's other names (hidden_size,
/// max_position_embeddings, num_attention_heads, num_hidden_layers) are also read; n_ctx is read as n_positions if
/// neither n_positions nor max_position_embeddings is present. The result is valid.
/// Throws: ConfigError naming the invalid field as the document spells it; `config` is then as it was. A list of
/// several eos_token_ids, which newer versions of transformers allow, is refused.
/// Source: transformers.GPT2Config.from_dict, attribute_map.
template <JsonValue Json>
void from_json(const Json& json, GPT2Config& config);

/// Writes every field, null for empty ones, and "model_type": "gpt2".
/// Source: transformers.GPT2Config.to_dict.
template <JsonValue Json>
void to_json(Json& json, const GPT2Config& config);

/// Reads a config from the text of a config.json. The text must be strict JSON: no comments, duplicate
/// keys, NaN or Infinity, numbers beyond double's range, bytes after its end, or nesting deeper than
/// 127.
/// Throws: ConfigError, with an empty field if the text is not JSON.
[[nodiscard]] inline GPT2Config parse_config(std::string_view text);

/// Reads a config from `path`: a config.json, a folder that holds one, a model.safetensors beside one, or an entry of
/// the Hugging Face cache.
/// Throws: CheckpointError: kind IoError if it cannot be read; ConfigInvalid if it is invalid (tensor() is then the
/// field) or larger than 4 MiB. For a git-lfs pointer, an HTML page and the like the message names the kind of file and
/// the remedy.
/// Source: transformers.GPT2Config.from_pretrained.
template <class C>
requires std::same_as<C, GPT2Config>
[[nodiscard]] C from_pretrained(const std::filesystem::path& path);

// Implementation.

namespace detail {

/// A field's other name; empty if it has none.
[[nodiscard]] inline std::string_view config_alias(std::string_view name) {
  if (name == "n_embd") return "hidden_size";
  if (name == "n_positions") return "max_position_embeddings";
  if (name == "n_head") return "num_attention_heads";
  if (name == "n_layer") return "num_hidden_layers";
  return "";
}

/// Reads one JSON value into a field of the same type; does not convert.
template <class Json>
struct ConfigFieldReader {
  std::string_view name;
  const Json& value;

  void read(Eigen::Index& field) const {
    using Limits = std::numeric_limits<Eigen::Index>;
    if (!value.is_number_integer()) fail("is not an integer");
    if (value.is_number_unsigned()) {
      const auto number = value.template get<std::uint64_t>();
      if (number > static_cast<std::uint64_t>((Limits::max)())) fail("is too large");
      field = static_cast<Eigen::Index>(number);
    } else {
      const auto number = value.template get<std::int64_t>();
      // A document built by a program may have positive numbers of signed type.
      if (number > std::int64_t{(Limits::max)()}) fail("is too large");
      if (number < std::int64_t{(Limits::min)()}) fail("is less than 0");
      field = static_cast<Eigen::Index>(number);
    }
  }
  void read(double& field) const {
    if (!value.is_number()) fail("is not a number");
    field = value.template get<double>();
  }
  void read(bool& field) const {
    if (!value.is_boolean()) fail("is not true or false");
    field = value.template get<bool>();
  }
  void read(std::string& field) const {
    if (!value.is_string()) fail("is not a string");
    field = value.template get<std::string>();
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

/// The member of an object, or null.
template <class Json>
[[nodiscard]] const Json* find_member(const Json& json, std::string_view name) {
  const auto member = json.find(std::string(name));
  return member == json.end() ? nullptr : &*member;
}

/// Visits fields of a config, and reads and checks those that `json` has.
template <class Json>
struct ConfigReader {
  const Json& json;

  template <class Field>
  void operator()(std::string_view name, Field& field, FieldRange range) const {
    std::string_view spelling = name;
    const auto read = [&](std::string_view from, const Json& value) {
      ConfigFieldReader<Json>{from, value}.read(field);
      spelling = from;
    };
    const std::string_view alias = config_alias(name);
    const Json* const own = find_member(json, name);
    const Json* const other = alias.empty() ? nullptr : find_member(json, alias);
    if (other != nullptr) read(alias, *other);
    if (own != nullptr) {
      const Field found = field;
      read(name, *own);
      if (other != nullptr && std::not_equal_to<>{}(field, found)) {
        throw ConfigError(alias, printable_json(*other),
                          "contradicts " + std::string(name) + " = " + printable_json(*own));
      }
    }
    if (name == "n_positions" && own == nullptr && other == nullptr) {
      if (const Json* const old = find_member(json, "n_ctx")) read("n_ctx", *old);
    }
    FieldValidator{}(spelling, field, range);
  }
};

/// Visits every field of a config, and writes it to `json`.
template <class Json>
struct ConfigWriter {
  Json& json;

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

/// Throws: ConfigError unless `json` is an object that describes a GPT-2.
template <class Json>
void check_model_type(const Json& json) {
  if (!json.is_object()) throw ConfigError("", printable_json(json), "is not a JSON object");
  const Json* const type = find_member(json, "model_type");
  if (type == nullptr) return;
  const auto* const name = type->template get_ptr<const std::string*>();
  if (name == nullptr || *name != "gpt2") {
    throw ConfigError("model_type", printable_json(*type), "is not \"gpt2\"");
  }
}

/// A config of which only the fields that describe the embedding tables are read; the others keep their defaults.
/// Throws: ConfigError.
[[nodiscard]] inline GPT2Config read_table_sizes(const nlohmann::json& json) {
  check_model_type(json);
  GPT2Config sizes;
  for_each_field(sizes, [&](std::string_view name, auto& field, FieldRange range) {
    if (name == "vocab_size" || name == "n_positions" || name == "n_embd") {
      ConfigReader<nlohmann::json>{json}(name, field, range);
    }
  });
  return sizes;
}

/// Throws: ConfigError.
[[nodiscard]] inline JsonDocument parse_config_document(std::string_view text) {
  try {
    return parse_strict_json(text);
  } catch (const JsonFault& fault) {
    if (!fault.member().empty()) throw ConfigError(fault.member(), fault.value(), fault.what());
    throw ConfigError("", "", std::string("the text ") + fault.what());
  }
}

/// Returns read(). A ConfigError becomes a CheckpointError of the file `path`.
template <class Read>
[[nodiscard]] auto read_config(const std::string& path, const Read& read) {
  try {
    return read();
  } catch (const ConfigError& error) {
    // CheckpointError has the field as its tensor, so it is removed from the problem.
    std::string problem = error.what();
    const std::string prefix = "[gpt2.config_error] " + error.field() + (error.field().empty() ? "" : " = ");
    if (problem.starts_with(prefix)) problem.erase(0, prefix.size());
    throw CheckpointError(path, error.field(), kinds::config_invalid, problem);
  }
}

/// Reads a config.json.
/// Throws: CheckpointError.
[[nodiscard]] inline JsonDocument read_config_document(const std::filesystem::path& path) {
  constexpr std::uint64_t largest = std::uint64_t{4} * 1024 * 1024;
  const ReadOnlyFile file(path);
  const auto fail = [&](std::string_view problem) {
    throw CheckpointError(file.path(), "", kinds::config_invalid, problem);
  };
  const std::string begin = file.read_text(0, (std::min)(file.size(), std::uint64_t{foreign_file_bytes}));
  if (const std::string_view foreign = foreign_file_text(begin); !foreign.empty()) fail(foreign);
  if (file.size() > largest) fail("is larger than 4 MiB");
  const std::string text = file.read_text(0, file.size());
  return read_config(file.path(), [&] { return parse_config_document(text); });
}

}  // namespace detail

template <JsonValue Json>
void from_json(const Json& json, GPT2Config& config) {
  detail::check_model_type(json);
  GPT2Config read;
  detail::for_each_field(read, detail::ConfigReader<Json>{json});
  config = std::move(read);
}

template <JsonValue Json>
void to_json(Json& json, const GPT2Config& config) {
  json = Json::object();
  json["model_type"] = "gpt2";
  detail::for_each_field(config, detail::ConfigWriter<Json>{json});
}

inline GPT2Config parse_config(std::string_view text) {
  const detail::JsonDocument document = detail::parse_config_document(text);
  GPT2Config config;
  from_json(*document, config);
  return config;
}

template <class C>
requires std::same_as<C, GPT2Config> C from_pretrained(const std::filesystem::path& path) {
  std::filesystem::path file = path;
  const std::string name = detail::path_text(path.filename());
  if (name.ends_with(".safetensors") || name.ends_with(".index.json") || detail::is_folder(path)) {
    file = detail::find_model(path).config();
  }
  const detail::JsonDocument document = detail::read_config_document(file);
  return detail::read_config(detail::path_text(file), [&] {
    GPT2Config config;
    from_json(*document, config);
    return config;
  });
}

}  // namespace gpt2
