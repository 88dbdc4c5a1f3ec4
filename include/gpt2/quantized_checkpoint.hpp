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

#include "gpt2/error.hpp"
#include "gpt2/quantized_embedding.hpp"
#include "gpt2/safetensors.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// The tensors of a table, to be written by save_safetensors(), with those of other tables or alone.
/// Lifetime: their bytes are the table's.
[[nodiscard]] inline std::array<NamedTensor, 3> named_tensors(std::string_view name,
                                                              const QuantizedEmbedding& table);

/// Writes a file with one table in it.
/// Throws: as save_safetensors().
inline void save_quantized(const std::filesystem::path& path, std::string_view name,
                           const QuantizedEmbedding& table);

/// Reads the table of that name from a file, which may have other tensors, too.
/// Throws: CheckpointError: TensorNotFound, UnexpectedDType, UnexpectedShape, UnexpectedValue for a scale or
/// offset that is none, or what SafeTensors::open throws.
/// Complexity: O(the table's size); other tensors' bytes are not read.
[[nodiscard]] inline QuantizedEmbedding load_quantized(const std::filesystem::path& path,
                                                       std::string_view name);

// Implementation.

namespace detail {

/// In a shape that is asked for, a size that may be any.
inline constexpr std::uint64_t free_size = (std::numeric_limits<std::uint64_t>::max)();

/// The tensor of that name, which must have a type and a shape.
/// Throws: CheckpointError.
[[nodiscard]] inline TensorView checked_tensor(const SafeTensors& file, const std::filesystem::path& path,
                                               const std::string& name, DType dtype,
                                               const std::vector<std::uint64_t>& shape) {
  if (!file.contains(name)) {
    throw CheckpointError(path.string(), name, "TensorNotFound", "there is no tensor of this name");
  }
  TensorView tensor = file[name];
  const auto fail = [&](std::string_view kind, const std::string& expected) {
    throw CheckpointError(path.string(), name, kind,
                          "is " + tensor_text(tensor.dtype, tensor.shape) + ", expected " + expected);
  };
  if (tensor.dtype != dtype) fail("UnexpectedDType", std::string(to_string(dtype)));
  const auto fits = [](std::uint64_t found, std::uint64_t expected) {
    return expected == free_size || found == expected;
  };
  if (!std::equal(tensor.shape.begin(), tensor.shape.end(), shape.begin(), shape.end(), fits)) {
    fail("UnexpectedShape", to_text(shape.size()) + " dimensions" +
                                (shape.front() == free_size ? "" : ": one of " + to_text(shape.front())));
  }
  return tensor;
}

}  // namespace detail

inline std::array<NamedTensor, 3> named_tensors(std::string_view name, const QuantizedEmbedding& table) {
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

inline void save_quantized(const std::filesystem::path& path, std::string_view name,
                           const QuantizedEmbedding& table) {
  save_safetensors(path, named_tensors(name, table));
}

inline QuantizedEmbedding load_quantized(const std::filesystem::path& path, std::string_view name) {
  const SafeTensors file = SafeTensors::open(path);
  const std::string prefix(name);
  const TensorView weight = detail::checked_tensor(file, path, prefix + ".weight", DType::I8,
                                                   {detail::free_size, detail::free_size});
  // What fits in a file fits in an Index; of a table without elements, one size may still be anything.
  constexpr auto limit = static_cast<std::uint64_t>(std::numeric_limits<Index>::max());
  if (std::max(weight.shape[0], weight.shape[1]) > limit) {
    throw CheckpointError(path.string(), prefix + ".weight", "UnexpectedShape",
                          "is larger than memory can be");
  }
  const auto rows = static_cast<Index>(weight.shape[0]);
  const auto cols = static_cast<Index>(weight.shape[1]);
  const auto floats_of = [&](const std::string& tensor_name) {
    const TensorView tensor = detail::checked_tensor(file, path, tensor_name, DType::F32, {weight.shape[0]});
    Eigen::VectorXf floats(rows);
    if (rows > 0) std::memcpy(floats.data(), tensor.bytes.data(), tensor.bytes.size());
    return floats;
  };
  Eigen::VectorXf scales = floats_of(prefix + ".scale");
  Eigen::VectorXf offsets = floats_of(prefix + ".offset");
  Matrix<std::int8_t> values(rows, cols);
  if (values.size() > 0) std::memcpy(values.data(), weight.bytes.data(), weight.bytes.size());
  try {
    return {std::move(values), std::move(scales), std::move(offsets)};
  } catch (const ArgumentError& error) {
    throw CheckpointError(path.string(), prefix, "UnexpectedValue", error.what());
  }
}

}  // namespace gpt2::inline GPT2_EMBEDDINGS_ABI
