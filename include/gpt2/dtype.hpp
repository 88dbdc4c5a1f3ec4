// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The types that the tensors of a safetensors file can have.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "gpt2/version.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// The type of a tensor's elements: the format's 22 types, in the order in which the reference implementation
/// sorts them, with the largest alignments last.
enum class DType : std::uint8_t {
  BOOL,
  F4,
  F6_E2M3,
  F6_E3M2,
  U8,
  I8,
  F8_E5M2,
  F8_E4M3,
  F8_E8M0,
  F8_E4M3FNUZ,
  F8_E5M2FNUZ,
  I16,
  U16,
  F16,
  BF16,
  I32,
  U32,
  F32,
  C64,
  F64,
  I64,
  U64,
};

/// The type's name in a file: "F32".
[[nodiscard]] constexpr std::string_view to_string(DType dtype) noexcept;

/// The type of that name, or nothing.
[[nodiscard]] constexpr std::optional<DType> parse_dtype(std::string_view name) noexcept;

/// The number of bits of an element; fewer than 8 for F4 and F6.
[[nodiscard]] constexpr unsigned bits(DType dtype) noexcept;

// Implementation.

namespace detail {

struct DTypeInfo {
  std::string_view name;
  unsigned bits;
};

inline constexpr std::array<DTypeInfo, 22> dtype_infos{{
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},
}};

}  // namespace detail

constexpr std::string_view to_string(DType dtype) noexcept {
  return detail::dtype_infos[static_cast<std::size_t>(dtype)].name;
}

constexpr unsigned bits(DType dtype) noexcept {
  return detail::dtype_infos[static_cast<std::size_t>(dtype)].bits;
}

constexpr std::optional<DType> parse_dtype(std::string_view name) noexcept {
  for (std::size_t i = 0; i < detail::dtype_infos.size(); ++i) {
    if (detail::dtype_infos[i].name == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

static_assert(to_string(DType::BOOL) == "BOOL" && to_string(DType::U64) == "U64");

}  // namespace gpt2
