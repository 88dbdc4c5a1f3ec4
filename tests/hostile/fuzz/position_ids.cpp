// SPDX-License-Identifier: MIT
//
// arange and the position ids of masks, packed documents and caches, each against a loop.

#include "gpt2/position_ids.hpp"

#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "fuzz.hpp"
#include "gpt2/error.hpp"

using namespace gpt2;
using fuzz::check;
using fuzz::Choices;

namespace {

/// No more values than this are requested: the loops below give up.
constexpr int most_values = 4096;

template <class I>
I number(Choices& choices) {
  if constexpr (std::floating_point<I>) {
    return choices.yes() ? static_cast<I>(choices.any<std::int8_t>()) / I{4} : choices.any<I>();
  } else {
    if (choices.yes()) return static_cast<I>(choices.any<std::int8_t>());
    const I near_end = static_cast<I>(choices.below(8));
    return choices.yes() ? static_cast<I>(std::numeric_limits<I>::max() - near_end)
                         : static_cast<I>(std::numeric_limits<I>::min() + near_end);
  }
}

/// The values by a loop, as few as most_values; nothing if there are more.
template <class I>
std::optional<std::vector<I>> counted(I start, I end, I step) {
  std::vector<I> values;
  if constexpr (std::floating_point<I>) {
    const double size = std::ceil((double{end} - double{start}) / double{step});
    if (!(size < most_values)) return std::nullopt;
    for (int i = 0; i < size; ++i) values.push_back(static_cast<I>(double{start} + i * double{step}));
  } else {
    I value = start;
    while (step > 0 ? value < end : value > end) {
      if (values.size() == most_values) return std::nullopt;
      values.push_back(value);
      I next{};
      if (__builtin_add_overflow(value, step, &next)) break;
      value = next;
    }
  }
  return values;
}

template <class I>
void check_arange(Choices& choices) {
  const I start = number<I>(choices);
  const I end = number<I>(choices);
  const I step = number<I>(choices);
  const bool legal = std::isfinite(static_cast<double>(start)) && std::isfinite(static_cast<double>(end)) &&
                     std::isfinite(static_cast<double>(step)) && step != 0 &&
                     (step > 0 ? end >= start : end <= start);
  if (legal && !counted(start, end, step)) return;
  try {
    const auto values = arange<I>(start, end, step);
    check(legal, "a count by arange is a legal one");
    const std::vector<I> expected = *counted(start, end, step);
    check(values.size() == static_cast<Index>(expected.size()), "arange has as many values as the loop");
    for (Index i = 0; i < values.size(); ++i) {
      check(values[i] == expected[static_cast<std::size_t>(i)], "and the same ones");
    }
  } catch (const ArgumentError&) {
    check(!legal, "arange counts whenever that is legal");
  }
}

IdMatrix<std::int8_t> ids_of(Choices& choices, int bound) {
  const int rows = choices.below(4);
  IdMatrix<std::int8_t> ids(rows, choices.below(9));
  for (Index i = 0; i < ids.size(); ++i) ids.data()[i] = static_cast<std::int8_t>(choices.below(bound));
  return ids;
}

void check_mask(Choices& choices) {
  const IdMatrix<std::int8_t> mask = ids_of(choices, choices.below(4) == 0 ? 3 : 2);
  const std::int64_t masked_position = choices.any<std::int8_t>();
  const bool legal = masked_position >= 0 && (mask.array() <= 1).all();
  try {
    const IdMatrix<std::int64_t> positions = position_ids_from_attention_mask(mask, masked_position);
    check(legal, "a mask is of 0 and 1");
    for (Index i = 0; i < mask.rows(); ++i) {
      for (Index j = 0, next = 0; j < mask.cols(); ++j) {
        check(positions(i, j) == (mask(i, j) == 1 ? next++ : masked_position),
              "only real tokens are counted");
      }
    }
  } catch (const ArgumentError&) {
    check(!legal, "a mask of 0 and 1 is taken");
  }
}

void check_packed(Choices& choices) {
  std::vector<std::int16_t> lengths(static_cast<std::size_t>(choices.below(6)));
  for (std::int16_t& length : lengths) {
    length = static_cast<std::int16_t>(choices.below(20) - (choices.below(16) == 0 ? 10 : 0));
  }
  bool legal = true;
  std::vector<std::int64_t> expected;
  for (const std::int16_t length : lengths) {
    legal = legal && length >= 0;
    for (std::int64_t i = 0; i < length; ++i) expected.push_back(i);
  }
  try {
    const IdVector<std::int64_t> positions = packed_position_ids(lengths);
    check(legal && std::vector(positions.begin(), positions.end()) == expected, "documents begin at 0");
  } catch (const ArgumentError&) {
    check(!legal, "documents have lengths of at least 0");
  }
}

void check_reset(Choices& choices) {
  const IdMatrix<std::int8_t> ids = ids_of(choices, 4);
  const std::int64_t eos = choices.any<std::int8_t>();
  const IdMatrix<std::int64_t> positions = position_ids_reset_after(ids, eos);
  for (Index i = 0; i < ids.rows(); ++i) {
    for (Index j = 0; j < ids.cols(); ++j) {
      const bool begins = j == 0 || ids(i, j - 1) == eos;
      check(positions(i, j) == (begins ? 0 : positions(i, j - 1) + 1), "a document begins after an EOS");
    }
  }
}

void check_like(Choices& choices) {
  const IdMatrix<std::int8_t> ids = ids_of(choices, 4);
  const auto past_length = number<std::int64_t>(choices);
  const bool fits = ids.cols() == 0 || (past_length <= 127 && past_length + ids.cols() - 1 <= 127);
  try {
    const IdMatrix<std::int8_t> positions = position_ids_like(ids, past_length);
    check(past_length >= 0 && fits, "positions fit their type");
    for (Index i = 0; i < ids.rows(); ++i) {
      for (Index j = 0; j < ids.cols(); ++j) check(positions(i, j) == past_length + j, "and go on");
    }
  } catch (const ArgumentError&) {
    check(past_length < 0, "a length is at least 0");
  } catch (const IndexError&) {
    check(!fits, "positions that fit are given");
  }
}

}  // namespace

FUZZ_TARGET(position_ids) {
  Choices choices(data, size);
  while (!choices.empty()) {
    switch (choices.below(10)) {
      case 0:
        check_arange<std::int8_t>(choices);
        break;
      case 1:
        check_arange<std::int64_t>(choices);
        break;
      case 2:
        check_arange<std::uint64_t>(choices);
        break;
      case 3:
        check_arange<float>(choices);
        break;
      case 4:
        check_arange<double>(choices);
        break;
      case 5:
        check_mask(choices);
        break;
      case 6:
        check_packed(choices);
        break;
      case 7:
        check_reset(choices);
        break;
      default:
        check_like(choices);
    }
  }
  return 0;
}
