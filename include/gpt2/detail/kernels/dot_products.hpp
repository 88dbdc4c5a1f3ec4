// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The rows of a table times a few hidden states: most of the work of decoding one token. Its speed is bound by reading
/// the table, once. Eigen's matrix product has no fast path for half, and is slow for a few states.

#include <algorithm>
#include <limits>
#include <type_traits>

#include "gpt2/detail/kernels/avx2.hpp"
#include "gpt2/detail/kernels/packets.hpp"
#include "gpt2/detail/rows.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {
inline namespace GPT2_EMBEDDINGS_PACKETS {

/// Several rows are processed together so that memory delivers several streams; several states so that each load of a
/// row is used more than once. Two states by six rows, or four by three, are twelve sums, which sixteen registers hold
/// beside their terms.
inline constexpr unsigned rows_per_step = 6;
inline constexpr unsigned most_states_per_step = 4;

/// With more states than this Eigen's matrix product is as fast, if the program is compiled for this processor.
[[nodiscard]] inline Index most_states_for_dot_products() noexcept {
  return runs_avx2() ? (std::numeric_limits<Index>::max)() : 128;
}

/// This many states stay in the second-level cache while the rows pass through it.
inline constexpr Index states_per_pass = 32;

/// Products formed with the registers that the program is compiled for.
template <class A>
struct CompiledProducts {
  static constexpr Index width = packet_size<A>;

  /// out[s * stride + r] = the sum of states[s][j] * rows[r][j] over the columns j, a multiple of `width`.
  template <unsigned states_size, unsigned rows_size, class S>
  static void write(Index cols, const A* const* states, const S* const* rows, A* out, unsigned stride) {
    using Eigen::internal::ploadu;
    using Eigen::internal::pmadd;
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
        const auto row = load_widened<Packet<A>>(rows[r] + column);
        GPT2_EMBEDDINGS_UNROLL
        for (unsigned s = 0; s < states_size; ++s) sums[s][r] = pmadd(state[s], row, sums[s][r]);
      }
    }
    GPT2_EMBEDDINGS_UNROLL
    for (unsigned s = 0; s < states_size; ++s) {
      GPT2_EMBEDDINGS_UNROLL
      for (unsigned r = 0; r < rows_size; ++r) out[s * stride + r] = predux(sums[s][r]);
    }
  }
};

#ifdef GPT2_EMBEDDINGS_DISPATCH
/// The same on a processor with AVX2 and FMA.
struct Avx2Products {
  static constexpr Index width = 8;

  template <unsigned states_size, unsigned rows_size, class S>
  GPT2_EMBEDDINGS_AVX2_FMA static void write(Index cols, const float* const* states, const S* const* rows,
                                             float* out, unsigned stride) {
    EightFloats sums[states_size][rows_size] = {};
    for (Index column = 0; column < cols; column += width) {
      EightFloats state[states_size];
      GPT2_EMBEDDINGS_UNROLL
      for (unsigned s = 0; s < states_size; ++s) state[s] = load_eight(states[s] + column);
      GPT2_EMBEDDINGS_UNROLL
      for (unsigned r = 0; r < rows_size; ++r) {
        const EightFloats row = load_eight(rows[r] + column);
        GPT2_EMBEDDINGS_UNROLL
        for (unsigned s = 0; s < states_size; ++s) sums[s][r] = multiply_add(state[s], row, sums[s][r]);
      }
    }
    GPT2_EMBEDDINGS_UNROLL
    for (unsigned s = 0; s < states_size; ++s) {
      GPT2_EMBEDDINGS_UNROLL
      for (unsigned r = 0; r < rows_size; ++r) out[s * stride + r] = sum_of(sums[s][r]);
    }
  }
};
#endif

/// The same for 1 to most_states_per_step states, the rows of a step, and any number of columns. The sums of a
/// state are rows_per_step apart.
template <class Products, unsigned states_size, class S, class A>
void write_products(Index cols, const A* const* states, const S* const* rows, A* out) {
  constexpr unsigned rows_size = states_size <= 2 ? rows_per_step : rows_per_step / 2;
  const Index whole = cols - cols % Products::width;
  for (unsigned first = 0; first < rows_per_step; first += rows_size) {
    Products::template write<states_size, rows_size>(whole, states, rows + first, out + first, rows_per_step);
  }
  for (Index column = whole; column < cols; ++column) {
    for (unsigned s = 0; s < states_size; ++s) {
      for (unsigned r = 0; r < rows_per_step; ++r) {
        out[s * rows_per_step + r] += states[s][column] * static_cast<A>(widened(rows[r][column]));
      }
    }
  }
}
template <class Products, class S, class A>
void write_products(Index states_size, Index cols, const A* const* states, const S* const* rows, A* out) {
  switch (states_size) {
    case 1:
      return write_products<Products, 1>(cols, states, rows, out);
    case 2:
      return write_products<Products, 2>(cols, states, rows, out);
    case 3:
      return write_products<Products, 3>(cols, states, rows, out);
    default:
      return write_products<Products, 4>(cols, states, rows, out);
  }
}

/// See dot_products().
template <class Products, class S, class A>
void form_dot_products(const RowView<const A>& states, const RowView<const S>& rows, const RowView<A>& out) {
  // The rows of a step lie far apart, so that each of their streams continues in the next step.
  const Index steps = (rows.rows + Index{rows_per_step} - 1) / Index{rows_per_step};
  for (Index step = 0; step < steps; ++step) {
    const S* row[rows_per_step];
    for (unsigned r = 0; r < rows_per_step; ++r) {
      row[r] = rows.row((std::min)(step + static_cast<Index>(r) * steps, rows.rows - 1));
    }
    for (Index first = 0; first < states.rows; first += Index{most_states_per_step}) {
      const Index size = (std::min)(Index{most_states_per_step}, states.rows - first);
      const A* state[most_states_per_step] = {};
      for (Index s = 0; s < size; ++s) state[s] = states.row(first + s);
      A products[most_states_per_step * rows_per_step];
      write_products<Products>(size, rows.cols, state, row, products);
      for (Index s = 0; s < size; ++s) {
        const A* product = products + s * Index{rows_per_step};
        for (Index to = step; to < rows.rows; to += steps) out.row(first + s)[to] = *product++;
      }
    }
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
