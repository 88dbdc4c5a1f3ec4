// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The text of numbers, shapes and places in errors, and the storage of their details.

#include <array>
#include <charconv>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "gpt2/version.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

namespace detail {

/// The shortest decimal text that reads back as the same number.
template <class Number>
requires std::is_arithmetic_v<Number>
[[nodiscard]] std::string to_text(Number value) {
  if constexpr (std::is_floating_point_v<Number>) {
    std::array<char, 64> buffer{};
    const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value).ptr;
    return {buffer.data(), end};
  } else if constexpr (std::is_signed_v<Number>) {
    return std::to_string(static_cast<long long>(value));
  } else {
    return std::to_string(static_cast<unsigned long long>(value));
  }
}

/// `[2, 3, 768]`; `[]` if there are no numbers.
[[nodiscard]] inline std::string to_text(const std::vector<std::int64_t>& numbers) {
  std::string text = "[";
  for (const std::int64_t number : numbers) text += (text.size() > 1 ? ", " : "") + to_text(number);
  return text + "]";
}

/// `table: name[1, 3]`, of which table and coordinates may be empty.
[[nodiscard]] inline std::string to_text(std::string_view table, std::string_view name,
                                         const std::vector<std::int64_t>& coordinates) {
  std::string text(table);
  if (!table.empty()) text += ": ";
  text += name;
  return coordinates.empty() ? text : text + to_text(coordinates);
}

/// The details of an error, shared by its copies: exceptions are copied while they are in flight, and a copy must
/// not throw. There is no move, so a moved-from error still has its details.
template <class Details>
class SharedDetails {
 public:
  explicit SharedDetails(Details details) : details_(std::make_shared<const Details>(std::move(details))) {}
  SharedDetails(const SharedDetails&) noexcept = default;
  SharedDetails& operator=(const SharedDetails&) noexcept = default;
  ~SharedDetails() = default;

  const Details* operator->() const noexcept { return details_.get(); }

 private:
  std::shared_ptr<const Details> details_;
};

}  // namespace detail

}  // namespace gpt2
