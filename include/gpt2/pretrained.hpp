// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Embedding layers from and to Hugging Face checkpoints: a folder with config.json and model.safetensors, or
/// the latter in shards.
///
///     const auto embeddings = gpt2::from_pretrained<gpt2::GPT2Embeddings<float>>("path/to/gpt2");

#include <array>
#include <concepts>
#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "gpt2/checkpoint.hpp"
#include "gpt2/config_json.hpp"
#include "gpt2/detail/files/file_system.hpp"
#include "gpt2/detail/files/replace_file.hpp"
#include "gpt2/detail/files/strict_json.hpp"
#include "gpt2/embedding.hpp"
#include "gpt2/embeddings.hpp"
#include "gpt2/error.hpp"
#include "gpt2/position_embeddings.hpp"
#include "gpt2/safetensors.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

namespace detail {

template <class E>
struct PretrainedScalar {};
template <class T>
struct PretrainedScalar<GPT2Embeddings<T>> {
  using type = T;
};
template <class T>
struct PretrainedScalar<GPT2PositionEmbeddings<T>> {
  using type = T;
};

}  // namespace detail

/// The layers that can be loaded from a checkpoint: GPT2Embeddings<T> and GPT2PositionEmbeddings<T>.
template <class E>
concept Pretrained = requires {
  typename detail::PretrainedScalar<E>::type;
};

/// Loads an embedding layer from a checkpoint: its tables, found and checked as Checkpoint says. Other tensors are
/// ignored, and so are fields of config.json that say nothing of the tables. F64, F32, F16 and BF16 become any T,
/// rounded once, to nearest even.
/// Shape: wte `[vocab_size, n_embd]`, wpe `[n_positions, n_embd]`, as config.json has them.
/// Throws: CheckpointError: ConfigInvalid, IndexInvalid, TensorNotFound, AmbiguousTensor,
/// UnexpectedDType, UnexpectedShape, IoError, or any kind that SafeTensors::open throws.
/// Complexity: mapped, a table whose type is T and whose bytes are aligned for it is not read at all.
/// Otherwise the two tables are read, and nothing else.
/// Lifetime: a mapped table keeps its pages; see SafeTensors::open for changes of the file.
/// Source: transformers.PreTrainedModel.from_pretrained.
template <Pretrained E>
[[nodiscard]] E from_pretrained(const Checkpoint& checkpoint);

/// The same by the path that Checkpoint::open takes.
template <Pretrained E>
[[nodiscard]] E from_pretrained(const std::filesystem::path& path, LoadMode mode = LoadMode::mapped);

/// Writes a checkpoint that from_pretrained and transformers read: model.safetensors, then config.json.
/// The folder is created if it is missing; existing files are replaced, each whole or not at all, with their permission
/// bits, and may be the ones that the tables are mapped from. The new ones have only the two tables and the fields of
/// GPT2Config: saving over a full model discards its blocks.
/// Throws: ConfigError if config is not valid; ShapeError if the tables do not have its shapes;
/// CheckpointError (IoError). In the first two cases nothing is written.
/// Source: transformers.PreTrainedModel.save_pretrained.
template <Scalar T>
void save_pretrained(const std::filesystem::path& folder, const GPT2Config& config,
                     const GPT2Embeddings<T>& embeddings);

// Implementation.

namespace detail {

/// Throws: ShapeError unless a table has the shape of the config.
template <Scalar T>
void check_table(std::string_view name, const Embedding<T>& table, std::string_view rows_name, Index rows,
                 Index cols) {
  if (table.num_embeddings() == rows && table.embedding_dim() == cols) return;
  throw ShapeError("", name, "[" + std::string(rows_name) + ", n_embd] = " + to_text({rows, cols}),
                   to_text({table.num_embeddings(), table.embedding_dim()}));
}

/// Throws: ConfigError if a text of the config cannot be written as JSON.
inline void check_utf8(const GPT2Config& config) {
  for_each_field(config, [](const char* name, const auto& value, FieldRange /*range*/) {
    const auto require_utf8 = [name](std::string_view text) {
      if (find_invalid_utf8(text) != text.npos) throw ConfigError(name, printable(text), "is not UTF-8");
    };
    if constexpr (std::convertible_to<decltype(value), std::string_view>) {
      require_utf8(value);
    } else if constexpr (std::same_as<decltype(value), const std::optional<std::string>&>) {
      if (value) require_utf8(*value);
    }
  });
}

/// The text of a config.json for tables of T.
/// Throws: ConfigError.
template <Scalar T>
[[nodiscard]] std::string config_text(const GPT2Config& config) {
  constexpr std::string_view dtype = std::same_as<T, double>        ? "float64"
                                     : std::same_as<T, float>       ? "float32"
                                     : std::same_as<T, Eigen::half> ? "float16"
                                                                    : "bfloat16";
  check_utf8(config);
  nlohmann::json json;
  to_json(json, config);  // not by a constructor, which would leak its members if memory runs out
  json["dtype"] = dtype;  // transformers loads the model in this type
  return JsonDocument(std::move(json))->dump(2) + "\n";
}

/// Throws: CheckpointError (IoError) unless the folder exists afterwards.
inline void create_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    throw CheckpointError(path_text(folder), "", kinds::io_error, "cannot be created: " + error.message());
}

}  // namespace detail

template <Pretrained E>
E from_pretrained(const Checkpoint& checkpoint) {
  using T = typename detail::PretrainedScalar<E>::type;
  if constexpr (std::same_as<E, GPT2PositionEmbeddings<T>>) {
    return E(checkpoint.wpe<T>());
  } else {
    Embedding<T> wte = checkpoint.wte<T>();
    return E(std::move(wte), checkpoint.wpe<T>());
  }
}

template <Pretrained E>
E from_pretrained(const std::filesystem::path& path, LoadMode mode) {
  return from_pretrained<E>(Checkpoint::open(path, mode));
}

template <Scalar T>
void save_pretrained(const std::filesystem::path& folder, const GPT2Config& config,
                     const GPT2Embeddings<T>& embeddings) {
  config.validate();
  detail::check_table("wte", embeddings.wte, "vocab_size", config.vocab_size, config.n_embd);
  detail::check_table("wpe", embeddings.wpe, "n_positions", config.n_positions, config.n_embd);

  const std::string text = detail::config_text<T>(config);
  detail::create_folder(folder);

  // GPT2Model's names; GPT2LMHeadModel and the others add their own prefix.
  const std::array tensors{named_tensor("wte.weight", embeddings.wte),
                           named_tensor("wpe.weight", embeddings.wpe)};
  save_safetensors(folder / "model.safetensors", tensors);
  const std::array parts{std::as_bytes(std::span(text))};
  detail::replace_file(folder / "config.json", parts);
}

}  // namespace gpt2
