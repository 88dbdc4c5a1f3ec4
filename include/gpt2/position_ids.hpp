// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Position ids: which row of wpe each token gets. Counting from 0, going on after a cache, under an
/// attention mask, and for several documents packed into one row.

#include <cmath>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <new>
#include <string>
#include <type_traits>

#include "gpt2/detail/arguments/ids.hpp"
#include "gpt2/error.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// The number of tokens that came before, in a key-value cache: positions go on from there. May stand
/// wherever GPT2Embeddings takes position ids. It is the same for each sequence of a batch; behind padded
/// ones, position_ids_from_attention_mask() of the longer mask has the positions.
struct PastLength {
  Index value = 0;  ///< at least 0
};

/// What GPT2Embeddings takes as positions.
template <class P>
concept PositionIds = Ids<P> || std::same_as<P, PastLength>;

/// What arange counts in: any Id, float or double.
template <class I>
concept Countable = Id<I> || std::floating_point<I>;

namespace detail {

/// Ids of rank 1.
template <class X>
concept IdSequence = Ids<X> && ids_rank<X>
== 1;

/// Ids or bools.
template <class X>
concept MaskArgument = Ids<X> || std::same_as < std::remove_cv_t<id_scalar_t<X>>,
bool > ;

}  // namespace detail

/// 0, 1, … up to but without `end`. The arguments of all three forms are converted to I, int64 unless named:
/// arange<double>(2.5) counts to 2, arange(2.5) to 1.
/// Shape: `[max(0, end)]`.
/// Throws: ArgumentError if end is negative or not finite.
/// Source: torch.arange.
template <Countable I = std::int64_t>
[[nodiscard]] Eigen::Matrix<I, Eigen::Dynamic, 1> arange(std::type_identity_t<I> end);

/// start, start + 1, … up to but without `end`.
/// Shape: `[ceil(end - start)]`.
/// Throws: ArgumentError if end lies before start or either is not finite.
/// Source: torch.arange.
template <Countable I = std::int64_t>
[[nodiscard]] Eigen::Matrix<I, Eigen::Dynamic, 1> arange(std::type_identity_t<I> start,
                                                         std::type_identity_t<I> end);

/// start, start + step, … up to (step > 0) or down to (step < 0), but without `end`. Floating values are
/// start + i * step, computed in double and rounded once.
/// Shape: `[ceil((end - start) / step)]`, counted without overflow.
/// Throws: ArgumentError if step is 0, if end lies on its other side, or if a number is not finite.
/// Source: torch.arange.
template <Countable I = std::int64_t>
[[nodiscard]] Eigen::Matrix<I, Eigen::Dynamic, 1> arange(std::type_identity_t<I> start,
                                                         std::type_identity_t<I> end,
                                                         std::type_identity_t<I> step);

/// past_length, past_length + 1, … for every sequence of input_ids, in their scalar and rank. Knows no table,
/// so it checks no n_positions.
/// Shape: as input_ids: `[seq_length]` or `[batch, seq_length]`.
/// Throws: ArgumentError if past_length is negative; IndexError if the last position does not fit the scalar.
template <Ids X>
[[nodiscard]] auto position_ids_like(const X& input_ids, Index past_length = 0);
template <Id I>
[[nodiscard]] IdVector<I> position_ids_like(std::initializer_list<I> input_ids, Index past_length = 0);

/// The positions of the real tokens of a padded batch: 0, 1, … counting only places where the mask is 1;
/// places where it is 0 get masked_position, which is not looked at later but must be a row of wpe.
/// Left, right and inner padding.
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
/// token behind it is at position 0. Ids are compared by value, whatever their types.
/// Shape: as input_ids; every sequence of a batch starts at 0.
template <Ids X>
[[nodiscard]] auto position_ids_reset_after(const X& input_ids, std::int64_t eos_token_id);
template <Id I>
[[nodiscard]] IdVector<std::int64_t> position_ids_reset_after(std::initializer_list<I> input_ids,
                                                              std::int64_t eos_token_id);

// Implementation.

namespace detail {

template <class I>
[[nodiscard]] constexpr bool is_finite(I value) {
  if constexpr (std::floating_point<I>) {
    return std::isfinite(value);
  } else {
    return true;
  }
}

/// The number of values of an arange whose step leads towards its end.
template <class I>
[[nodiscard]] std::uint64_t arange_size(I start, I end, I step) {
  if constexpr (std::floating_point<I>) {
    const double size =
        std::ceil((static_cast<double>(end) - static_cast<double>(start)) / static_cast<double>(step));
    constexpr auto limit = static_cast<double>(std::numeric_limits<Index>::max());
    return size < limit ? static_cast<std::uint64_t>(size) : (std::numeric_limits<std::uint64_t>::max)();
  } else {
    // Unsigned differences, for those of signed extremes do not fit their type.
    const auto low = static_cast<std::uint64_t>(step > 0 ? start : end);
    const auto high = static_cast<std::uint64_t>(step > 0 ? end : start);
    const std::uint64_t stride =
        step > 0 ? static_cast<std::uint64_t>(step) : std::uint64_t{0} - static_cast<std::uint64_t>(step);
    return high == low ? 0 : (high - low - 1) / stride + 1;
  }
}

template <class I>
[[nodiscard]] I arange_value(I start, I step, Index i) {
  if constexpr (std::floating_point<I>) {
    return static_cast<I>(static_cast<double>(start) + static_cast<double>(i) * static_cast<double>(step));
  } else {
    return static_cast<I>(static_cast<std::uint64_t>(start) +
                          static_cast<std::uint64_t>(i) * static_cast<std::uint64_t>(step));
  }
}

/// An uninitialised IdVector or IdMatrix in the shape of ids.
template <class I, int rank, class J>
[[nodiscard]] auto ids_shaped_like(const IdView<J>& ids) {
  if constexpr (rank == 1) {
    return IdVector<I>(ids.seq_length);
  } else {
    return IdMatrix<I>(ids.batch, ids.seq_length);
  }
}

/// Whether an id has the value wanted, which need not fit its type.
template <Id I>
[[nodiscard]] constexpr bool equal(I id, std::int64_t wanted) {
  if (std::is_unsigned_v<I> && wanted < 0) return false;
  return static_cast<std::uint64_t>(id) == static_cast<std::uint64_t>(wanted);
}

}  // namespace detail

template <Countable I>
Eigen::Matrix<I, Eigen::Dynamic, 1> arange(std::type_identity_t<I> end) {
  return arange<I>(I{0}, end, I{1});
}

template <Countable I>
Eigen::Matrix<I, Eigen::Dynamic, 1> arange(std::type_identity_t<I> start, std::type_identity_t<I> end) {
  return arange<I>(start, end, I{1});
}

template <Countable I>
Eigen::Matrix<I, Eigen::Dynamic, 1> arange(std::type_identity_t<I> start, std::type_identity_t<I> end,
                                           std::type_identity_t<I> step) {
  if (!detail::is_finite(start)) throw ArgumentError("start", start, "is not finite");
  if (!detail::is_finite(end)) throw ArgumentError("end", end, "is not finite");
  if (!detail::is_finite(step)) throw ArgumentError("step", step, "is not finite");
  if (step == I{0}) throw ArgumentError("step", step, "must not be 0");
  if (step > I{0} ? end < start : end > start) {
    throw ArgumentError(
        "step", step,
        "leads away from the end: start is " + detail::to_text(start) + ", end is " + detail::to_text(end));
  }
  const std::uint64_t size = detail::arange_size<I>(start, end, step);
  if (size > static_cast<std::uint64_t>(std::numeric_limits<Index>::max()) / sizeof(I))
    throw std::bad_alloc();
  Eigen::Matrix<I, Eigen::Dynamic, 1> values(static_cast<Index>(size));
  for (Index i = 0; i < values.size(); ++i) values[i] = detail::arange_value<I>(start, step, i);
  return values;
}

template <Ids X>
auto position_ids_like(const X& input_ids, Index past_length) {
  using I = std::remove_cv_t<id_scalar_t<X>>;
  const auto& evaluated = detail::evaluated(input_ids);
  const auto ids = detail::id_view(evaluated);
  if (past_length < 0) throw ArgumentError("past_length", past_length, "is negative");
  if (ids.seq_length > 0) {
    const std::uint64_t last =
        static_cast<std::uint64_t>(past_length) + static_cast<std::uint64_t>(ids.seq_length - 1);
    constexpr auto largest = static_cast<std::uint64_t>(std::numeric_limits<I>::max());
    if (last > largest) {
      // Of the 64-bit types only the signed ones get here: there the end of the range is 2^63, one too many.
      const auto end = static_cast<std::int64_t>(largest) + (sizeof(I) < sizeof(last) ? 1 : 0);
      throw IndexError("", "position_ids", {}, last, end,
                       ": the last position, past_length " + detail::to_text(past_length) + " + seq_length " +
                           detail::to_text(ids.seq_length) + " - 1, does not fit the ids' type");
    }
  }
  auto positions = detail::ids_shaped_like<I, ids_rank<X>>(ids);
  Index i = 0;
  for (Index sequence = 0; sequence < ids.batch; ++sequence) {
    for (Index place = 0; place < ids.seq_length; ++place) {
      positions.data()[i++] =
          static_cast<I>(static_cast<std::uint64_t>(past_length) + static_cast<std::uint64_t>(place));
    }
  }
  return positions;
}

template <Id I>
IdVector<I> position_ids_like(std::initializer_list<I> input_ids, Index past_length) {
  return position_ids_like(detail::as_span(input_ids), past_length);
}

template <detail::MaskArgument Mask>
auto position_ids_from_attention_mask(const Mask& attention_mask, std::int64_t masked_position) {
  const auto& evaluated = detail::evaluated(attention_mask);
  const auto mask = detail::id_view(evaluated);
  if (masked_position < 0) throw ArgumentError("masked_position", masked_position, "is negative");
  for (Index sequence = 0; sequence < mask.batch; ++sequence) {
    for (Index place = 0; place < mask.seq_length; ++place) {
      if (static_cast<std::uint64_t>(mask(sequence, place)) > 1) {
        throw ArgumentError(
            "attention_mask", mask(sequence, place),
            "at " + detail::to_text(mask.coordinates(sequence, place)) + " is neither 0 nor 1");
      }
    }
  }
  auto positions = detail::ids_shaped_like<std::int64_t, ids_rank<Mask>>(mask);
  std::int64_t* out = positions.data();
  for (Index sequence = 0; sequence < mask.batch; ++sequence) {
    std::int64_t position = 0;
    for (Index place = 0; place < mask.seq_length; ++place) {
      *out++ = mask(sequence, place) ? position++ : masked_position;
    }
  }
  return positions;
}

template <detail::IdSequence X>
IdVector<std::int64_t> packed_position_ids(const X& lengths) {
  const auto& evaluated = detail::evaluated(lengths);
  const auto documents = detail::id_view(evaluated);
  constexpr auto limit = static_cast<std::uint64_t>(std::numeric_limits<Index>::max()) / sizeof(std::int64_t);
  std::uint64_t total = 0;
  for (Index i = 0; i < documents.seq_length; ++i) {
    const auto length = documents(0, i);
    const auto fail = [&](const std::string& problem) {
      throw ArgumentError("lengths", length, "at " + detail::to_text(documents.coordinates(0, i)) + problem);
    };
    if (std::is_signed_v<decltype(length)> && static_cast<std::int64_t>(length) < 0) fail(" is negative");
    if (static_cast<std::uint64_t>(length) > limit - total) fail(" makes the row longer than memory can be");
    total += static_cast<std::uint64_t>(length);
  }
  IdVector<std::int64_t> positions(static_cast<Index>(total));
  std::int64_t* out = positions.data();
  for (Index i = 0; i < documents.seq_length; ++i) {
    const auto length = static_cast<std::int64_t>(documents(0, i));
    for (std::int64_t position = 0; position < length; ++position) *out++ = position;
  }
  return positions;
}

template <Id I>
IdVector<std::int64_t> packed_position_ids(std::initializer_list<I> lengths) {
  return packed_position_ids(detail::as_span(lengths));
}

template <Ids X>
auto position_ids_reset_after(const X& input_ids, std::int64_t eos_token_id) {
  const auto& evaluated = detail::evaluated(input_ids);
  const auto ids = detail::id_view(evaluated);
  auto positions = detail::ids_shaped_like<std::int64_t, ids_rank<X>>(ids);
  std::int64_t* out = positions.data();
  for (Index sequence = 0; sequence < ids.batch; ++sequence) {
    std::int64_t position = 0;
    for (Index place = 0; place < ids.seq_length; ++place) {
      *out++ = position++;
      if (detail::equal(ids(sequence, place), eos_token_id)) position = 0;
    }
  }
  return positions;
}

template <Id I>
IdVector<std::int64_t> position_ids_reset_after(std::initializer_list<I> input_ids,
                                                std::int64_t eos_token_id) {
  return position_ids_reset_after(detail::as_span(input_ids), eos_token_id);
}

}  // namespace gpt2::inline GPT2_EMBEDDINGS_ABI
