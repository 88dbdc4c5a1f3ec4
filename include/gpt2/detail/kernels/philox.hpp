// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Philox4x32-10, a counter-based generator: random bits are a function of a key and a counter, so any element's bits
/// can be computed at any time, in any order, on any thread.
/// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

#include <array>
#include <cstddef>
#include <cstdint>

#include "gpt2/version.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

using PhiloxBlock = std::array<std::uint32_t, 4>;
using PhiloxKey = std::array<std::uint32_t, 2>;

[[nodiscard]] constexpr PhiloxBlock philox(PhiloxBlock counter, PhiloxKey key) noexcept {
  constexpr int rounds = 10;
  for (int round = 0; round < rounds; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53U} * counter[0];
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57U} * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32U) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32U) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(product0)};
    key[0] += 0x9E3779B9U;
    key[1] += 0xBB67AE85U;
  }
  return counter;
}

/// The purpose of random bits. Two purposes never share a counter, whatever their seeds and streams.
enum class RandomDomain : std::uint32_t { tables, dropout, resizing };

/// 32 random bits for each element of an endless array, one array for each seed, stream and domain.
class ElementBits {
 public:
  constexpr ElementBits(std::uint64_t seed, std::uint64_t stream,
                        RandomDomain domain = RandomDomain::tables) noexcept
      : seed_(seed), stream_(stream), domain_(domain) {}

  /// The bits of an element. In order, four elements cost one Philox call.
  constexpr std::uint32_t operator()(std::uint64_t element) noexcept {
    if (element / 4 != block_number_ || !has_block_) {
      block_number_ = element / 4;
      has_block_ = true;
      // Four elements to a block leave the two highest bits of its number free: the domain's.
      const std::uint32_t domain = static_cast<std::uint32_t>(domain_) << 30U;
      block_ = philox({low(block_number_), high(block_number_) | domain, low(stream_), high(stream_)},
                      {low(seed_), high(seed_)});
    }
    return block_[static_cast<std::size_t>(element % 4)];
  }

 private:
  static constexpr std::uint32_t low(std::uint64_t bits) noexcept { return static_cast<std::uint32_t>(bits); }
  static constexpr std::uint32_t high(std::uint64_t bits) noexcept {
    return static_cast<std::uint32_t>(bits >> 32U);
  }

  std::uint64_t seed_;
  std::uint64_t stream_;
  RandomDomain domain_;
  std::uint64_t block_number_ = 0;
  bool has_block_ = false;
  PhiloxBlock block_{};
};

/// Each of the model's tables draws from a stream of its own, so that it depends on the seed and its own
/// sizes alone.
inline constexpr std::uint64_t wte_stream = 0;
inline constexpr std::uint64_t wpe_stream = 1;

}  // namespace gpt2::detail
