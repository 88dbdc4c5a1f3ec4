// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Quantised tables to and from safetensors files. A table called "wte" is three tensors: "wte.weight", I8
/// `[num_embeddings, embedding_dim]`, and "wte.scale" and "wte.offset", F32 `[num_embeddings]`.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt2/checkpoint.hpp"
#include "gpt2/detail/files/safetensors_header.hpp"
#include "gpt2/detail/files/strict_json.hpp"
#include "gpt2/detail/owned_table.hpp"
#include "gpt2/error.hpp"
#include "gpt2/quantized_embedding.hpp"
#include "gpt2/safetensors.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// The tensors of a table, to be written by save_safetensors(), with those of other tables or alone.
/// Lifetime: their bytes are the table's; so not of a temporary.
[[nodiscard]] inline std::array<NamedTensor, 3> named_tensor(std::string_view name,
                                                             const QuantizedEmbedding& table);
std::array<NamedTensor, 3> named_tensor(std::string_view name, const QuantizedEmbedding&& table) = delete;
/// The name that named_tensor() had in 0.1.
[[nodiscard]] inline std::array<NamedTensor, 3> named_tensors(std::string_view name,
                                                              const QuantizedEmbedding& table);
std::array<NamedTensor, 3> named_tensors(std::string_view name, const QuantizedEmbedding&& table) = delete;

/// Writes a file with one table in it.
/// Throws: as save_safetensors().
inline void save_quantized(const std::filesystem::path& path, std::string_view name,
                           const QuantizedEmbedding& table);

/// Reads the table of that name from a checkpoint, or by the path that Checkpoint::open takes: usually that of a file.
/// Other tensors are ignored.
/// Throws: CheckpointError: TensorNotFound, UnexpectedDType, UnexpectedShape, UnexpectedValue for an invalid scale or
/// offset, or any kind that Checkpoint throws.
/// Complexity: O(the table's size); other tensors' bytes are not read.
[[nodiscard]] inline QuantizedEmbedding load_quantized(const Checkpoint& checkpoint, std::string_view name);
[[nodiscard]] inline QuantizedEmbedding load_quantized(const std::filesystem::path& path,
                                                       std::string_view name);

// Implementation.

namespace detail {

/// Matches any extent in an expected shape.
inline constexpr std::uint64_t free_size = (std::numeric_limits<std::uint64_t>::max)();

/// The tensor of that name, which must have the given type and shape.
/// Throws: CheckpointError.
[[nodiscard]] inline TensorView checked_tensor(const Checkpoint& checkpoint, const std::string& name,
                                               DType dtype, const std::vector<std::uint64_t>& shape) {
  TensorView tensor = checkpoint[name];
  const auto fail = [&](std::string_view kind, const std::string& expected) {
    throw CheckpointError(checkpoint.file_of(name), printable(name), kind,
                          "is " + tensor_text(tensor.dtype, tensor.shape) + ", expected " + expected);
  };
  if (tensor.dtype != dtype) fail(kinds::unexpected_dtype, std::string(to_string(dtype)));
  const auto fits = [](std::uint64_t found, std::uint64_t expected) {
    return expected == free_size || found == expected;
  };
  if (!std::equal(tensor.shape.begin(), tensor.shape.end(), shape.begin(), shape.end(), fits)) {
    fail(kinds::unexpected_shape,
         to_text(shape.size()) + " dimensions" +
             (shape.front() == free_size ? "" : ": one of " + to_text(shape.front())));
  }
  // A table without elements may still have a size that no Index can count.
  constexpr auto limit = static_cast<std::uint64_t>((std::numeric_limits<Index>::max)());
  const bool is_countable =
      tensor.bytes.size() <= limit && std::all_of(tensor.shape.begin(), tensor.shape.end(),
                                                  [](std::uint64_t extent) { return extent <= limit; });
  if (!is_countable) fail(kinds::unexpected_shape, "no more than an Index can count");
  return tensor;
}

}  // namespace detail

inline std::array<NamedTensor, 3> named_tensor(std::string_view name, const QuantizedEmbedding& table) {
  const auto rows = static_cast<std::uint64_t>(table.num_embeddings());
  const auto cols = static_cast<std::uint64_t>(table.embedding_dim());
  const std::string prefix(name);
  const auto bytes_of = [](const auto& numbers) {
    return std::as_bytes(std::span(numbers.data(), static_cast<std::size_t>(numbers.size())));
  };
  return {{{prefix + ".weight", {DType::I8, {rows, cols}, bytes_of(table.values())}},
           {prefix + ".scale", {DType::F32, {rows}, bytes_of(table.scales())}},
           {prefix + ".offset", {DType::F32, {rows}, bytes_of(table.offsets())}}}};
}

inline std::array<NamedTensor, 3> named_tensors(std::string_view name, const QuantizedEmbedding& table) {
  return named_tensor(name, table);
}

inline void save_quantized(const std::filesystem::path& path, std::string_view name,
                           const QuantizedEmbedding& table) {
  save_safetensors(path, named_tensor(name, table));
}

inline QuantizedEmbedding load_quantized(const Checkpoint& checkpoint, std::string_view name) {
  const std::string prefix(name);
  const TensorView weight = detail::checked_tensor(checkpoint, prefix + ".weight", DType::I8,
                                                   {detail::free_size, detail::free_size});
  const auto rows = static_cast<Index>(weight.shape[0]);
  const auto cols = static_cast<Index>(weight.shape[1]);
  const auto floats_of = [&](const std::string& tensor_name) {
    const TensorView tensor = detail::checked_tensor(checkpoint, tensor_name, DType::F32, {weight.shape[0]});
    Eigen::VectorXf floats(rows);
    if (rows > 0) std::memcpy(floats.data(), tensor.bytes.data(), tensor.bytes.size());
    return floats;
  };
  Eigen::VectorXf scales = floats_of(prefix + ".scale");
  Eigen::VectorXf offsets = floats_of(prefix + ".offset");
  auto values = detail::OwnedTable<std::int8_t>::uninitialised(rows, cols);
  if (values.size() > 0) std::memcpy(values.data(), weight.bytes.data(), weight.bytes.size());
  try {
    return {std::move(values), std::move(scales), std::move(offsets)};
  } catch (const ArgumentError& error) {
    throw CheckpointError(checkpoint.file_of(prefix + ".weight"), detail::printable(prefix),
                          kinds::unexpected_value, error.what());
  }
}

inline QuantizedEmbedding load_quantized(const std::filesystem::path& path, std::string_view name) {
  return load_quantized(Checkpoint::open(path), name);
}

}  // namespace gpt2
