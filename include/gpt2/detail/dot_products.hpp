// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The rows of a table times a few hidden states: what decoding one token comes down to. It is bound by
/// reading the table, once. Eigen's matrix product has no fast path for half, and is slow where states are
/// few.

#include <algorithm>
#include <type_traits>

#include "gpt2/detail/hidden.hpp"
#include "gpt2/detail/widen.hpp"
#include "gpt2/types.hpp"

namespace gpt2::detail {

/// With more states than this, Eigen's matrix product is as fast.
inline constexpr Index most_states_for_dot_products = 8;

/// Rows go together so that memory delivers several streams; states so that what is loaded of a row is used
/// more than once, with half as many rows, for eight sums and what they are made of fit in sixteen registers.
inline constexpr int rows_per_step = 8;
inline constexpr int states_per_step = 2;

/// sums[s][r] += states[s] * rows[r] for rows from first_row on, packet by packet; size is a multiple of a
/// packet's. A single state is done as soon as memory delivers, so what lies `ahead` of the rows is asked for
/// early.
template <unsigned states_size, unsigned rows_size, unsigned first_row = 0, class S, class A>
void add_products(Index size, const A* const* states, const S* const* rows, Index ahead,
                  Packet<A> (*sums)[rows_per_step]) {
  using Eigen::internal::ploadu;
  using Eigen::internal::pmadd;
  Packet<A> local[states_size][rows_size];
  for (unsigned s = 0; s < states_size; ++s) {
    for (unsigned r = 0; r < rows_size; ++r) local[s][r] = sums[s][first_row + r];
  }
  for (Index j = 0; j < size; j += packet_size<A>) {
    Packet<A> state[states_size];
    for (unsigned s = 0; s < states_size; ++s) state[s] = ploadu<Packet<A>>(states[s] + j);
    for (unsigned r = 0; r < rows_size; ++r) {
      if constexpr (states_size == 1) Eigen::internal::prefetch(rows[first_row + r] + ahead + j);
      const auto row = load_widened<Packet<A>>(rows[first_row + r] + j);
      for (unsigned s = 0; s < states_size; ++s) local[s][r] = pmadd(state[s], row, local[s][r]);
    }
  }
  for (unsigned s = 0; s < states_size; ++s) {
    for (unsigned r = 0; r < rows_size; ++r) sums[s][first_row + r] = local[s][r];
  }
}

/// The same for any number of states and rows_per_step rows.
template <class S, class A>
void add_products(Index states_size, Index size, const A* const* states, const S* const* rows, Index ahead,
                  Packet<A> (*sums)[rows_per_step]) {
  constexpr int half = rows_per_step / 2;
  Index s = 0;
  for (; s + states_per_step <= states_size; s += states_per_step) {
    add_products<states_per_step, half>(size, states + s, rows, ahead, sums + s);
    add_products<states_per_step, half, half>(size, states + s, rows, ahead, sums + s);
  }
  if (s < states_size) add_products<1, rows_per_step>(size, states + s, rows, ahead, sums + s);
}

/// out(s, r) = states.row(s) · rows.row(r), for at most most_states_for_dot_products states. Allocates
/// nothing. The bits of each sum depend on nothing but its two rows.
template <class S, class A>
void dot_products(const RowView<const A>& states, const RowView<const S>& rows, const RowView<A>& out) {
  constexpr Index most_states = most_states_for_dot_products;
  const Index whole = states.cols - states.cols % packet_size<A>;
  const Index rest = states.cols - whole;

  // The columns behind the last whole packet, filled up with zeros.
  A states_rest[most_states][packet_size<A>] = {};
  const A* state_ends[most_states] = {};
  for (Index s = 0; s < states.rows; ++s) {
    std::copy_n(states.row(s) + whole, rest, states_rest[s]);
    state_ends[s] = states_rest[s];
  }

  for (Index first = 0; first < rows.rows; first += rows_per_step) {
    Packet<A> sums[most_states][rows_per_step];
    for (Index s = 0; s < states.rows; ++s) {
      for (Index r = 0; r < rows_per_step; ++r) sums[s][r] = Eigen::internal::pset1<Packet<A>>(A(0));
    }
    // Where rows run out, the last one is repeated, and its other sums are left.
    const S* stored[rows_per_step];
    for (Index r = 0; r < rows_per_step; ++r) stored[r] = rows.row(std::min(first + r, rows.rows - 1));

    const Index ahead = first + Index{2} * rows_per_step <= rows.rows ? rows_per_step * rows.row_stride : 0;

    const A* state[most_states] = {};
    if (std::is_same_v<S, A> || states.rows <= states_per_step) {
      for (Index s = 0; s < states.rows; ++s) state[s] = states.row(s);
      add_products(states.rows, whole, state, stored, ahead, sums);
    } else {
      // A row that is used more than once is widened once, some columns at a time.
      constexpr Index piece = 256;
      A widened_rows[rows_per_step][piece];
      const A* row[rows_per_step];
      for (Index column = 0; column < whole; column += piece) {
        const Index size = std::min(piece, whole - column);
        for (Index s = 0; s < states.rows; ++s) state[s] = states.row(s) + column;
        for (Index r = 0; r < rows_per_step; ++r) {
          widen(size, widened_rows[r], stored[r] + column);
          row[r] = widened_rows[r];
        }
        add_products(states.rows, size, state, row, 0, sums);
      }
    }
    if (rest > 0) {
      A rows_rest[rows_per_step][packet_size<A>] = {};
      const A* row_ends[rows_per_step];
      for (Index r = 0; r < rows_per_step; ++r) {
        widen(rest, rows_rest[r], stored[r] + whole);
        row_ends[r] = rows_rest[r];
      }
      add_products(states.rows, packet_size<A>, state_ends, row_ends, 0, sums);
    }
    for (Index s = 0; s < states.rows; ++s) {
      for (Index r = 0; r < std::min<Index>(rows_per_step, rows.rows - first); ++r) {
        out.row(s)[first + r] = Eigen::internal::predux(sums[s][r]);
      }
    }
  }
}

}  // namespace gpt2::detail
