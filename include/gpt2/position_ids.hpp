// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Position ids: the row of wpe for each token. Counted from 0, after a cache, under an attention mask, and for
/// several documents packed into one row.

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <type_traits>
#include <utility>

#include "gpt2/error.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// The number of tokens in the key-value cache: positions continue from there. GPT2Embeddings takes it in place of
/// position ids. It is the same for each sequence of a batch; after padded ones, take the positions from
/// position_ids_from_attention_mask() of the longer mask.
struct PastLength {
  /// No tokens.
  constexpr PastLength() = default;
  /// Throws: ArgumentError if n is more than an Index holds.
  template <Id I>
  constexpr explicit PastLength(I n) : value(static_cast<Index>(n)) {
    if (std::in_range<Index>(n)) return;
    throw ArgumentError("past_length", n, "is more than an Index holds");
  }

  Index value = 0;  ///< at least 0 wherever it is used
};

/// The types that GPT2Embeddings takes as positions.
template <class P>
concept PositionIds = Ids<P> || std::same_as<P, PastLength>;

/// The types that arange counts in: any Id, float or double.
template <class I>
concept Countable = Id<I> || std::same_as<I, float> || std::same_as<I, double>;

namespace detail {

template <class X>
inline constexpr bool is_id_sequence = false;
template <Ids X>
inline constexpr bool is_id_sequence<X> = ids_rank<X> == 1;

/// Ids of rank 1.
template <class X>
concept IdSequence = is_id_sequence<X>;

template <class X>
inline constexpr bool is_mask = Ids<X> || std::same_as<std::remove_cv_t<id_scalar_t<X>>, bool>;

/// Ids or bools.
template <class X>
concept MaskArgument = is_mask<X>;

}  // namespace detail

/// 0, 1, … up to, but without, `end`. The arguments of all three forms are converted to I, int64 by default:
/// arange<double>(2.5) counts to 2, arange(2.5) to 1.
/// Shape: `[ceil(end)]`.
/// Throws: ArgumentError if end is negative or not finite.
/// Source: torch.arange.
template <Countable I = std::int64_t>
[[nodiscard]] Eigen::Matrix<I, Eigen::Dynamic, 1> arange(std::type_identity_t<I> end);

/// start, start + 1, … up to, but without, `end`.
/// Shape: `[ceil(end - start)]`.
/// Throws: ArgumentError if end lies before start or either is not finite.
/// Source: torch.arange.
template <Countable I = std::int64_t>
[[nodiscard]] Eigen::Matrix<I, Eigen::Dynamic, 1> arange(std::type_identity_t<I> start,
                                                         std::type_identity_t<I> end);

/// start, start + step, … up to (step > 0) or down to (step < 0), but without `end`. Floating values are
/// start + i * step, computed in double, without overflow on the way, and rounded once.
/// Shape: `[ceil((end - start) / step)]`, counted without overflow.
/// Throws: ArgumentError if step is 0, if end lies on its other side, or if a number is not finite.
/// Source: torch.arange.
template <Countable I = std::int64_t>
[[nodiscard]] Eigen::Matrix<I, Eigen::Dynamic, 1> arange(std::type_identity_t<I> start,
                                                         std::type_identity_t<I> end,
                                                         std::type_identity_t<I> step);

/// past_length, past_length + 1, … for every sequence of input_ids, in their scalar and rank. There is no table to
/// check against, so n_positions is not checked.
/// Shape: as input_ids: `[seq_length]` or `[batch, seq_length]`.
/// Throws: ArgumentError if past_length is negative or more than an Index holds; IndexError if the last position does
/// not fit the scalar.
template <Ids X, Id N = Index>
[[nodiscard]] auto position_ids_like(const X& input_ids, N past_length = 0);
template <Id I, Id N = Index>
[[nodiscard]] IdVector<I> position_ids_like(std::initializer_list<I> input_ids, N past_length = 0);

/// The positions of the real tokens of a padded batch: 0, 1, … counting only places with mask 1; places with mask 0
/// get masked_position, which must be a row of wpe, although its values do not matter. Padding may be left, right or
/// inside.
/// Shape: as attention_mask: `[batch, seq_length]`, or `[seq_length]` for one sequence.
/// Throws: ArgumentError if a mask value is neither 0 nor 1 or masked_position is negative.
/// Source: transformers' generate: cumsum(attention_mask) - 1, masked places filled with 0 (5.x) or 1 (4.x).
template <detail::MaskArgument Mask>
[[nodiscard]] auto position_ids_from_attention_mask(const Mask& attention_mask,
                                                    std::int64_t masked_position = 0);

/// The positions of several documents packed into one row: 0 … lengths[0]-1, 0 … lengths[1]-1, …
/// Shape: `[sum(lengths)]`.
/// Throws: ArgumentError if a length is negative or their sum overflows.
template <detail::IdSequence X>
[[nodiscard]] IdVector<std::int64_t> packed_position_ids(const X& lengths);
template <Id I>
[[nodiscard]] IdVector<std::int64_t> packed_position_ids(std::initializer_list<I> lengths);

/// The positions of documents that each end with eos_token_id: the EOS belongs to the document it ends, the
/// token after it is at position 0. Ids are compared by value, whatever their types.
/// Shape: as input_ids; every sequence of a batch starts at 0.
template <Ids X>
[[nodiscard]] auto position_ids_reset_after(const X& input_ids, std::int64_t eos_token_id);
template <Id I>
[[nodiscard]] IdVector<std::int64_t> position_ids_reset_after(std::initializer_list<I> input_ids,
                                                              std::int64_t eos_token_id);

}  // namespace gpt2

#include "gpt2/detail/position_ids.hpp"
