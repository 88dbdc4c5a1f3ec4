// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// A 64-bit hash at memory's speed, by which ranks compare their arguments. It is no defence against deliberate
/// collisions.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "gpt2/detail/rows.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// Eight hashes side by side, each of every eighth word, so that eight multiplications overlap. Each step is a
/// bijection of a lane, so two inputs that differ in one word have different lanes.
class Hash {
 public:
  /// Adds bytes; the hash is that of all of them, however they were divided.
  void add(const void* data, std::size_t size) noexcept {
    if (size == 0) return;  // data may be null
    const auto* bytes = static_cast<const std::byte*>(data);
    size_ += size;
    if (pending_ > 0) {
      const std::size_t taken = (std::min)(size, line - pending_);
      std::memcpy(rest_.data() + pending_, bytes, taken);
      pending_ += taken;
      bytes += taken;
      size -= taken;
      if (pending_ < line) return;
      mix(lanes_, rest_.data());
      pending_ = 0;
    }
    auto lanes = lanes_;  // a copy, which the compiler keeps in registers
    for (; size >= line; size -= line, bytes += line) mix(lanes, bytes);
    lanes_ = lanes;
    if (size > 0) std::memcpy(rest_.data(), bytes, size);
    pending_ = size;
  }
  void add_word(std::uint64_t word) noexcept { add(&word, sizeof(word)); }

  [[nodiscard]] std::uint64_t value() const noexcept {
    Lanes lanes = lanes_;
    auto rest = rest_;
    std::fill(rest.begin() + static_cast<std::ptrdiff_t>(pending_), rest.end(), std::byte{});
    mix(lanes, rest.data());
    std::uint64_t hash = size_;
    for (const std::uint64_t lane : lanes) hash = mixed(hash, lane);
    return mixed(hash, hash >> 29U);
  }

 private:
  static constexpr std::size_t line = 64;
  using Lanes = std::array<std::uint64_t, line / 8>;

  [[nodiscard]] static constexpr std::uint64_t mixed(std::uint64_t lane, std::uint64_t word) noexcept {
    lane = (lane ^ word) * 0x9E3779B97F4A7C15U;
    return lane ^ (lane >> 32U);
  }
  static void mix(Lanes& lanes, const std::byte* bytes) noexcept {
    // Unrolled by hand, as GCC does not at -O2.
    [&]<std::size_t... i>(std::index_sequence<i...>) {
      std::array<std::uint64_t, sizeof...(i)> words;  // NOLINT(cppcoreguidelines-pro-type-member-init)
      std::memcpy(words.data(), bytes, line);
      ((lanes[i] = mixed(lanes[i], words[i])), ...);
    }
    (std::make_index_sequence<line / 8>());
  }

  Lanes lanes_ = {1, 2, 3, 4, 5, 6, 7, 8};
  std::array<std::byte, line> rest_{};  // bytes that do not fill a line yet
  std::size_t pending_ = 0;             // their number
  std::uint64_t size_ = 0;
};

/// The hash of hidden states: of shape, scalar and bits.
template <class U>
[[nodiscard]] std::uint64_t hash_of(const RowView<U>& rows) noexcept {
  Hash hash;
  hash.add_word(static_cast<std::uint64_t>(rows.rows));
  hash.add_word(static_cast<std::uint64_t>(rows.cols));
  hash.add_word(sizeof(U));
  const auto cols = static_cast<std::size_t>(rows.cols);
  if (rows.row_stride == rows.cols || rows.rows == 1) {
    hash.add(rows.data, static_cast<std::size_t>(rows.rows) * cols * sizeof(U));
  } else {
    for (Index i = 0; i < rows.rows; ++i) hash.add(rows.row(i), cols * sizeof(U));
  }
  return hash.value();
}

/// The hash of ids: of shape and values, whatever their type.
template <class I>
[[nodiscard]] std::uint64_t hash_of(const IdView<I>& ids) noexcept {
  Hash hash;
  hash.add_word(static_cast<std::uint64_t>(ids.rank));
  hash.add_word(static_cast<std::uint64_t>(ids.batch));
  hash.add_word(static_cast<std::uint64_t>(ids.seq_length));
  for (Index sequence = 0; sequence < ids.batch; ++sequence) {
    for (Index place = 0; place < ids.seq_length; ++place) {
      hash.add_word(static_cast<std::uint64_t>(ids(sequence, place)));
    }
  }
  return hash.value();
}

}  // namespace gpt2::detail
