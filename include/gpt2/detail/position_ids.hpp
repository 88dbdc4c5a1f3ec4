// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The definitions of position_ids.hpp.

#include <cmath>
#include <limits>
#include <new>
#include <string>

#include "gpt2/detail/arguments/ids.hpp"
#include "gpt2/error.hpp"
#include "gpt2/position_ids.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

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
    const auto from = static_cast<double>(start);
    const auto to = static_cast<double>(end);
    const auto by = static_cast<double>(step);
    const double distance = to - from;
    // If the distance overflows, half of it does not, and half the step divides it to the same number.
    const double size = std::ceil(std::isfinite(distance) ? distance / by : (to / 2 - from / 2) / (by / 2));
    constexpr auto limit = static_cast<double>((std::numeric_limits<Index>::max)());
    return size < limit ? static_cast<std::uint64_t>(size) : (std::numeric_limits<std::uint64_t>::max)();
  } else {
    // Unsigned differences, because those of signed extremes do not fit their type.
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
    const auto from = static_cast<double>(start);
    const double way = static_cast<double>(i) * static_cast<double>(step);
    if (std::isfinite(way)) return static_cast<I>(from + way);
    // Half of it is no more than the largest double, and as exact.
    return static_cast<I>(2 * (from / 2 + static_cast<double>(i) * (static_cast<double>(step) / 2)));
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

/// Whether an id has a value, which need not fit its type.
template <Id I>
[[nodiscard]] constexpr bool has_value(I id, std::int64_t wanted) {
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
  if (size > static_cast<std::uint64_t>((std::numeric_limits<Index>::max)()) / sizeof(I))
    throw std::bad_alloc();
  Eigen::Matrix<I, Eigen::Dynamic, 1> values(static_cast<Index>(size));
  for (Index i = 0; i < values.size(); ++i) values[i] = detail::arange_value<I>(start, step, i);
  return values;
}

template <Ids X, Id N>
auto position_ids_like(const X& input_ids, N past_length) {
  const Index past = PastLength(past_length).value;
  using I = std::remove_cv_t<id_scalar_t<X>>;
  const detail::StoredIds stored(input_ids);
  const auto& ids = stored.view();
  if (past < 0) throw ArgumentError("past_length", past_length, "is negative");
  if (ids.seq_length > 0) {
    const std::uint64_t last =
        static_cast<std::uint64_t>(past) + static_cast<std::uint64_t>(ids.seq_length - 1);
    constexpr auto largest = static_cast<std::uint64_t>((std::numeric_limits<I>::max)());
    if (last > largest) {
      // Of the 64-bit types only the signed ones can get here: their range ends at 2^63, one more than `end` can be.
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
          static_cast<I>(static_cast<std::uint64_t>(past) + static_cast<std::uint64_t>(place));
    }
  }
  return positions;
}

template <Id I, Id N>
IdVector<I> position_ids_like(std::initializer_list<I> input_ids, N past_length) {
  return position_ids_like(detail::as_span(input_ids), past_length);
}

template <detail::MaskArgument Mask>
auto position_ids_from_attention_mask(const Mask& attention_mask, std::int64_t masked_position) {
  const detail::StoredIds stored(attention_mask);
  const auto& mask = stored.view();
  if (masked_position < 0) throw ArgumentError("masked_position", masked_position, "is negative");
  for (Index sequence = 0; sequence < mask.batch; ++sequence) {
    for (Index place = 0; place < mask.seq_length; ++place) {
      if (static_cast<std::uint64_t>(mask(sequence, place)) > 1) {
        throw ArgumentError("attention_mask", mask.coordinates(sequence, place), mask(sequence, place),
                            "is neither 0 nor 1");
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
  const detail::StoredIds stored(lengths);
  const auto& documents = stored.view();
  constexpr auto limit =
      static_cast<std::uint64_t>((std::numeric_limits<Index>::max)()) / sizeof(std::int64_t);
  std::uint64_t total = 0;
  for (Index i = 0; i < documents.seq_length; ++i) {
    const auto length = documents(0, i);
    const auto fail = [&](const char* problem) {
      throw ArgumentError("lengths", documents.coordinates(0, i), length, problem);
    };
    if (std::is_signed_v<decltype(length)> && static_cast<std::int64_t>(length) < 0) fail("is negative");
    if (static_cast<std::uint64_t>(length) > limit - total) fail("makes the row longer than memory can be");
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
  const detail::StoredIds stored(input_ids);
  const auto& ids = stored.view();
  auto positions = detail::ids_shaped_like<std::int64_t, ids_rank<X>>(ids);
  std::int64_t* out = positions.data();
  for (Index sequence = 0; sequence < ids.batch; ++sequence) {
    std::int64_t position = 0;
    for (Index place = 0; place < ids.seq_length; ++place) {
      *out++ = position++;
      if (detail::has_value(ids(sequence, place), eos_token_id)) position = 0;
    }
  }
  return positions;
}

template <Id I>
IdVector<std::int64_t> position_ids_reset_after(std::initializer_list<I> input_ids,
                                                std::int64_t eos_token_id) {
  return position_ids_reset_after(detail::as_span(input_ids), eos_token_id);
}

}  // namespace gpt2
