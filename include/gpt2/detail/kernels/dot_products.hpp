// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The rows of a table times a few hidden states: most of the work of decoding one token. Its speed is bound by reading
/// the table, once. Eigen's matrix product has no fast path for half, and is slow for a few states.

#include <algorithm>
#include <array>
#include <limits>
#include <type_traits>

#include "gpt2/detail/kernels/avx2.hpp"
#include "gpt2/detail/kernels/packets.hpp"
#include "gpt2/detail/rows.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {
inline namespace GPT2_EMBEDDINGS_PACKETS {

/// Several rows are processed together so that memory delivers several streams; several states so that each load of a
/// row is used more than once. A step has as many rows and states as the registers can hold sums for, beside the terms.
/// One or two states take four rows: more streams are not faster.
inline constexpr unsigned few_states = 2;
inline constexpr unsigned rows_for_few_states = 4;
inline constexpr unsigned most_states_per_step = 4;

/// With more states than this Eigen's matrix product is as fast, unless it has narrower registers than these products, or
/// both have AVX-512.
[[nodiscard]] inline Index most_states_for_dot_products() noexcept {
  return runs_avx2() || packet_size<float> >= 16 ? (std::numeric_limits<Index>::max)() : 128;
}

/// This many states stay in the second-level cache while the rows pass through it.
inline constexpr Index states_per_pass = 32;

/// Products formed with the registers that the program is compiled for.
template <class A>
struct CompiledProducts {
  static constexpr Index width = packet_size<A>;
  static constexpr unsigned rows_for_many_states = EIGEN_ARCH_DEFAULT_NUMBER_OF_REGISTERS >= 32 ? 6 : 3;

  /// out[s * rows_size + r] = the sum of states[s][j] * rows[r][j] over the columns j, a multiple of `width`. The
  /// rows `ahead` are prefetched, if asked for.
  template <unsigned states_size, unsigned rows_size, bool prefetches, class S>
  static void write(Index cols, const A* const* states, const S* const* rows, const S* const* ahead, A* out) {
    using Eigen::internal::ploadu;
    using Eigen::internal::predux;
    using Eigen::internal::pset1;
    Packet<A> sums[states_size][rows_size];
    for (auto& some : sums) std::fill_n(some, rows_size, pset1<Packet<A>>(A(0)));
    for (Index column = 0; column < cols; column += width) {
      Packet<A> state[states_size];
      GPT2_EMBEDDINGS_UNROLL
      for (unsigned s = 0; s < states_size; ++s) state[s] = ploadu<Packet<A>>(states[s] + column);
      GPT2_EMBEDDINGS_UNROLL
      for (unsigned r = 0; r < rows_size; ++r) {
        auto row = load_widened<Packet<A>>(rows[r] + column);
        if constexpr (states_size > 1) keep_in_register(row);
        if constexpr (prefetches) prefetch(ahead[r] + column);
        GPT2_EMBEDDINGS_UNROLL
        for (unsigned s = 0; s < states_size; ++s) sums[s][r] = multiply_add(state[s], row, sums[s][r]);
      }
    }
    GPT2_EMBEDDINGS_UNROLL
    for (unsigned s = 0; s < states_size; ++s) {
      GPT2_EMBEDDINGS_UNROLL
      for (unsigned r = 0; r < rows_size; ++r) out[s * rows_size + r] = predux(sums[s][r]);
    }
  }
};

#ifdef GPT2_EMBEDDINGS_DISPATCH
/// The same on a processor with AVX2 and FMA.
struct Avx2Products {
  static constexpr Index width = 8;
  static constexpr unsigned rows_for_many_states = 3;

  template <unsigned states_size, unsigned rows_size, bool prefetches, class S>
  GPT2_EMBEDDINGS_AVX2_FMA static void write(Index cols, const float* const* states, const S* const* rows,
                                             const S* const* ahead, float* out) {
    EightFloats sums[states_size][rows_size] = {};
    for (Index column = 0; column < cols; column += width) {
      EightFloats state[states_size];
      GPT2_EMBEDDINGS_UNROLL
      for (unsigned s = 0; s < states_size; ++s) state[s] = load_eight(states[s] + column);
      GPT2_EMBEDDINGS_UNROLL
      for (unsigned r = 0; r < rows_size; ++r) {
        const EightFloats row = load_eight(rows[r] + column);
        if constexpr (prefetches) prefetch(ahead[r] + column);
        GPT2_EMBEDDINGS_UNROLL
        for (unsigned s = 0; s < states_size; ++s) sums[s][r] = multiply_add(state[s], row, sums[s][r]);
      }
    }
    GPT2_EMBEDDINGS_UNROLL
    for (unsigned s = 0; s < states_size; ++s) {
      GPT2_EMBEDDINGS_UNROLL
      for (unsigned r = 0; r < rows_size; ++r) out[s * rows_size + r] = sum_of(sums[s][r]);
    }
  }
};
#endif

/// The same for any number of columns.
template <class Products, unsigned states_size, unsigned rows_size, bool prefetches, class S, class A>
void write_products(Index cols, const A* const* states, const S* const* rows, const S* const* ahead, A* out) {
  const Index whole = cols - cols % Products::width;
  Products::template write<states_size, rows_size, prefetches>(whole, states, rows, ahead, out);
  for (Index column = whole; column < cols; ++column) {
    for (unsigned s = 0; s < states_size; ++s) {
      for (unsigned r = 0; r < rows_size; ++r) {
        A& sum = out[s * rows_size + r];
        sum = multiply_add(states[s][column], static_cast<A>(widened(rows[r][column])), sum);
      }
    }
  }
}
/// The same for `fewest` to `most` states.
template <class Products, unsigned rows_size, bool prefetches, unsigned fewest, unsigned most, class S,
          class A>
void write_products_of(Index states_size, Index cols, const A* const* states, const S* const* rows,
                       const S* const* ahead, A* out) {
  if constexpr (fewest < most) {
    if (states_size > Index{fewest}) {
      return write_products_of<Products, rows_size, prefetches, fewest + 1, most>(states_size, cols, states,
                                                                                  rows, ahead, out);
    }
  }
  write_products<Products, fewest, rows_size, prefetches>(cols, states, rows, ahead, out);
}

/// See dot_products().
template <class Products, bool are_few, class S, class A>
void form_dot_products(const RowView<const A>& states, const RowView<const S>& rows, const RowView<A>& out) {
  constexpr unsigned rows_size = are_few ? rows_for_few_states : Products::rows_for_many_states;
  // The rows of a step lie far apart, so that each of their streams continues in the next step.
  const Index steps = (rows.rows + Index{rows_size} - 1) / Index{rows_size};
  const auto rows_of_step = [&](Index step) {
    std::array<const S*, rows_size> row;
    for (unsigned r = 0; r < rows_size; ++r) {
      row[r] = rows.row((std::min)(step + static_cast<Index>(r) * steps, rows.rows - 1));
    }
    return row;
  };
  for (Index step = 0; step < steps; ++step) {
    const auto row = rows_of_step(step);
    const auto next = rows_of_step(step + 1);
    for (Index first = 0; first < states.rows; first += Index{most_states_per_step}) {
      const Index size = (std::min)(Index{most_states_per_step}, states.rows - first);
      const A* state[most_states_per_step] = {};
      for (Index s = 0; s < size; ++s) state[s] = states.row(first + s);
      A products[most_states_per_step * rows_size];
      if constexpr (are_few) {
        write_products_of<Products, rows_size, false, 1, few_states>(size, rows.cols, state, row.data(),
                                                                     next.data(), products);
      } else if (first == 0 || first + size < states.rows) {
        write_products_of<Products, rows_size, false, few_states + 1, most_states_per_step>(
            size, rows.cols, state, row.data(), next.data(), products);
      } else {
        // The first states brought the rows into the caches. Memory would have nothing to do now.
        write_products_of<Products, rows_size, true, 1, most_states_per_step>(
            size, rows.cols, state, row.data(), next.data(), products);
      }
      for (Index s = 0; s < size; ++s) {
        const A* product = products + s * Index{rows_size};
        for (Index to = step; to < rows.rows; to += steps) out.row(first + s)[to] = *product++;
      }
    }
  }
}
template <class Products, class S, class A>
void form_dot_products(const RowView<const A>& states, const RowView<const S>& rows, const RowView<A>& out) {
  if (states.rows <= Index{few_states}) {
    form_dot_products<Products, true>(states, rows, out);
  } else {
    form_dot_products<Products, false>(states, rows, out);
  }
}

/// out(s, r) = states.row(s) · rows.row(r). Allocates nothing. The bits of each depend only on its two rows.
template <class S, class A>
void dot_products(const RowView<const A>& states, const RowView<const S>& rows, const RowView<A>& out) {
  for (Index first = 0; first < states.rows; first += states_per_pass) {
    const Index size = (std::min)(states_per_pass, states.rows - first);
    const RowView<const A> some{states.row(first), size, states.cols, states.row_stride};
    const RowView<A> result{out.row(first), size, out.cols, out.row_stride};
#ifdef GPT2_EMBEDDINGS_DISPATCH
    if constexpr (std::is_same_v<A, float>) {
      if (runs_avx2()) {
        form_dot_products<Avx2Products>(some, rows, result);
        continue;
      }
    }
#endif
    form_dot_products<CompiledProducts<A>>(some, rows, result);
  }
}

}  // namespace GPT2_EMBEDDINGS_PACKETS
}  // namespace gpt2::detail
