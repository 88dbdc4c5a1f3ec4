// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The products of the output head: logits, and the gradients of hidden states and table. All of them are cut into
/// tiles of a fixed size, each formed by one thread, so their bits depend neither on the device nor on how much of the
/// vocabulary is processed at a time.
///
/// A Head may have only some rows of the vocabulary: row i is then token offset + i, and its owner counts labels and
/// ids from the offset.

#include <algorithm>
#include <cmath>
#include <type_traits>

#include "gpt2/detail/kernels/dot_products.hpp"
#include "gpt2/detail/kernels/packets.hpp"
#include "gpt2/detail/kernels/parallel.hpp"
#include "gpt2/detail/kernels/products.hpp"
#include "gpt2/detail/rows.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// A table in the head: rows, all of which are scored.
template <class Rows>
struct Head {
  using A = Accumulator<typename Rows::value_type>;  // the type of all results

  Rows rows;
  A logit_soft_cap = 0;  // 0 for no cap

  [[nodiscard]] Index vocab_size() const { return rows.rows; }
  [[nodiscard]] Index embedding_dim() const { return rows.cols; }
};

/// Rows [first, first + size) as they are stored, to be multiplied, and the function that turns the products into
/// logits. Rows that need more than their stored elements, such as quantised ones, have overloads of both functions.
template <class S>
[[nodiscard]] RowView<S> stored_rows_at(const RowView<S>& rows, Index first, Index size) {
  return {rows.row(first), size, rows.cols, rows.row_stride};
}
template <class S, class A>
void finish_products(const RowView<S>& /*rows*/, Index /*first*/, const RowView<const A>& /*states*/,
                     const RowView<A>& /*products*/) {}

/// The tiles of the head's work. The defaults keep a tile and its operands in the second-level cache, unless a BLAS
/// forms it, and the logits of a round at 2 MiB, or one tile's width if there are very many states.
struct HeadTiling {
  Index states = uses_blas ? 1024 : 256;  ///< of a tile
  Index rows = uses_blas ? 1024 : 256;    ///< of a tile: rows of the table, columns of logits
  Index hidden_cols =
      uses_blas ? 1024 : 96;  ///< of a tile of the states' gradient: narrow, for threads to share
  Index bytes_per_round = Index{2} << 20U;  ///< of logits in memory, if a vocabulary is processed in rounds
  /// Tiles of at most this many states are formed by dot_products(), others by Eigen's product.
  Index states_for_dot_products = uses_blas ? 16 : most_states_for_dot_products();

  /// Rows of the table in a round: whole tiles, at least one, at most sixteen.
  template <class A>
  [[nodiscard]] Index rows_per_round(Index states_size) const {
    const Index logits = bytes_per_round / Index{sizeof(A)};
    const Index tiles = logits / (std::max)(states_size, Index{1}) / rows;
    return std::clamp(tiles, Index{1}, Index{16}) * rows;
  }
};

/// Calls body(first, last) for parts of `size` products, on the device's threads; products of a BLAS are formed one
/// after the other by the calling thread, so that its threads and the device's do not multiply.
template <class D, class Body>
void for_products(const D& device, bool by_eigen, Index size, Index cost, const Body& body) {
  if (uses_blas && by_eigen) {
    body(Index{0}, size);
  } else {
    for_parts(device, size, cost, body);
  }
}

/// A part of a matrix.
struct Tile {
  Index first_row;
  Index rows;
  Index first_col;
  Index cols;
};

/// The tiles of a matrix, those of one band of columns after each other.
struct Tiles {
  Index rows;
  Index cols;
  Index tile_rows;
  Index tile_cols;

  [[nodiscard]] Index down() const { return (rows + tile_rows - 1) / tile_rows; }
  [[nodiscard]] Index size() const { return down() * ((cols + tile_cols - 1) / tile_cols); }
  [[nodiscard]] Tile operator[](Index i) const {
    const Index row = i % down() * tile_rows;
    const Index col = i / down() * tile_cols;
    return {row, (std::min)(tile_rows, rows - row), col, (std::min)(tile_cols, cols - col)};
  }
};

/// The tile of some rows.
template <class U>
[[nodiscard]] RowView<U> part(const RowView<U>& rows, const Tile& tile) {
  return {rows.row(tile.first_row) + tile.first_col, tile.rows, tile.cols, rows.row_stride};
}

/// The rows in A: themselves, or a copy in `storage`.
template <class A, class S>
[[nodiscard]] RowView<const A> widened_rows(const RowView<S>& rows, Matrix<A>& storage) {
  if constexpr (std::is_same_v<std::remove_const_t<S>, A>) {
    return {rows.data, rows.rows, rows.cols, rows.row_stride};
  } else {
    // Not by resize(): it frees before it allocates, and once more if that fails.
    if (storage.size() < rows.rows * rows.cols) storage = Matrix<A>(rows.rows, rows.cols);
    for (Index i = 0; i < rows.rows; ++i) widen(rows.cols, storage.data() + i * rows.cols, rows.row(i));
    return {storage.data(), rows.rows, rows.cols, rows.cols};
  }
}

/// A logit of a hidden state with a soft cap, and the derivative, by the capped logit.
template <class A>
[[nodiscard]] A capped(A logit, A cap) {
  return cap * std::tanh(logit / cap);
}
template <class A>
[[nodiscard]] A capped_derivative(A capped_logit, A cap) {
  const A tanh = capped_logit / cap;
  return multiply_add(-tanh, tanh, A(1));
}

/// Turns products with a table's stored elements into logits. `first` is the row of the table that the first column
/// belongs to.
template <class Rows, class A>
void finish_logits(const Head<Rows>& head, Index first, const RowView<const A>& states,
                   const RowView<A>& logits) {
  finish_products(head.rows, first, states, logits);
  if (!(head.logit_soft_cap > 0)) return;
  for (Index i = 0; i < logits.rows; ++i) {
    A* const row = logits.row(i);
    for (Index j = 0; j < logits.cols; ++j) row[j] = capped(row[j], head.logit_soft_cap);
  }
}

/// out(i, j) = the logit of state i for row first + j of the table; first is a multiple of a tile's rows.
template <class Rows, class A, class D>
void form_logits(const Head<Rows>& head, const RowView<const A>& states, Index first, const RowView<A>& out,
                 const HeadTiling& tiling, const D& device) {
  const Tiles tiles{out.rows, out.cols, tiling.states, tiling.rows};
  const Index depth = states.cols;
  const Index cost = tiling.rows * depth * (std::min)(out.rows, tiling.states);
  const bool by_eigen = (std::min)(out.rows, tiling.states) > tiling.states_for_dot_products;
  for_products(device, by_eigen, tiles.size(), cost, [&](Index begin, Index end) {
    Matrix<A> storage;
    RowView<const A> block{};
    Index block_begin = -1;
    for (Index t = begin; t < end; ++t) {
      const Tile tile = tiles[t];
      const RowView<const A> some = middle_rows(states, tile.first_row, tile.rows);
      const auto stored = stored_rows_at(head.rows, first + tile.first_col, tile.cols);
      const RowView<A> result = part(out, tile);
      if (some.rows <= tiling.states_for_dot_products) {
        dot_products(some, stored, result);
      } else {
        if (block_begin != tile.first_col) block = widened_rows(stored, storage);
        block_begin = tile.first_col;
        as_operand(result).noalias() = as_operand(some) * as_operand(block).transpose();
      }
      finish_logits(head, first + tile.first_col, some, result);
    }
  });
}

/// Memory for the logits of some states: of one round of the vocabulary at a time, or of all rounds.
template <class A>
class LogitsMemory {
 public:
  /// `columns` are those of a round.
  LogitsMemory(Index states, Index vocab_size, Index columns, bool keeps_all)
      : logits_(states, keeps_all ? vocab_size : (std::min)(columns, vocab_size)),
        columns_(columns),
        keeps_all_(keeps_all) {}

  [[nodiscard]] bool keeps_all() const { return keeps_all_; }
  [[nodiscard]] Index columns() const { return columns_; }
  /// The place of the first states' logits for rows [first, first + size) of the table.
  [[nodiscard]] RowView<A> at(Index states, Index first, Index size) {
    return {logits_.data() + (keeps_all_ ? first : 0), states, size, logits_.cols()};
  }

 private:
  Matrix<A> logits_;
  Index columns_;
  bool keeps_all_;
};

/// Processes the vocabulary in rounds: forms the logits of each, unless they have been formed and kept, and calls
/// body(first, logits), in which `first` is the row of the first column.
template <class Rows, class A, class D, class Body>
void for_rounds(const Head<Rows>& head, const RowView<const A>& states, LogitsMemory<A>& memory,
                bool are_kept, const HeadTiling& tiling, const D& device, const Body& body) {
  const Index vocab_size = head.vocab_size();
  for (Index first = 0; first < vocab_size; first += memory.columns()) {
    const Index size = (std::min)(memory.columns(), vocab_size - first);
    const RowView<A> logits = memory.at(states.rows, first, size);
    if (!are_kept) form_logits(head, states, first, logits, tiling, device);
    body(first, logits);
  }
}

/// Given the gradient of the logits of rows [first, first + grad_logits.cols), adds grad_logits times these
/// rows to grad_hidden, and grad_logits transposed times states to the rows' gradient.
template <class S, class A, class D>
void add_head_gradients(const Head<RowView<S>>& head, const RowView<const A>& states, Index first,
                        const RowView<const A>& grad_logits, const RowView<A>& grad_hidden,
                        const RowView<A>& grad, const HeadTiling& tiling, const D& device) {
  const Index depth = states.cols;
  const Tiles hidden_tiles{states.rows, depth, tiling.states, tiling.hidden_cols};
  for_products(
      device, true, hidden_tiles.size(), tiling.hidden_cols * tiling.states * grad_logits.cols,
      [&](Index begin, Index end) {
        Matrix<A> storage;
        // The sums of a round, before they are added to those of all rounds.
        Matrix<A> sums((std::min)(tiling.states, states.rows), (std::min)(tiling.hidden_cols, depth));
        for (Index t = begin; t < end; ++t) {
          const Tile tile = hidden_tiles[t];
          const RowView<A> round{sums.data(), tile.rows, tile.cols, sums.cols()};
          as_operand(round).setZero();
          for (Index row = 0; row < grad_logits.cols; row += tiling.rows) {
            const Index size = (std::min)(tiling.rows, grad_logits.cols - row);
            const auto block =
                widened_rows(part(head.rows, {first + row, size, tile.first_col, tile.cols}), storage);
            add_product<A>(part(grad_logits, {tile.first_row, tile.rows, row, size}), block, round);
          }
          as_operand(part(grad_hidden, tile)) += as_operand(round);
        }
      });
  const Tiles grad_tiles{grad_logits.cols, depth, tiling.rows, tiling.rows};
  for_products(device, true, grad_tiles.size(), tiling.rows * tiling.rows * states.rows,
               [&](Index begin, Index end) {
                 for (Index t = begin; t < end; ++t) {
                   const Tile tile = grad_tiles[t];
                   add_transposed_product<A>(part(grad_logits, {0, states.rows, tile.first_row, tile.rows}),
                                             part(states, {0, states.rows, tile.first_col, tile.cols}),
                                             part(middle_rows(grad, first, grad_logits.cols), tile));
                 }
               });
}

/// Adds the gradients that follow from grad_logits, `[states, vocab_size]`: those of the states to grad_hidden, those
/// of the table to grad. With a soft cap the logits are formed again, in `memory`, a round at a time.
template <class S, class G, class A, class D>
void add_logits_gradients(const Head<RowView<S>>& head, const RowView<const A>& states,
                          const RowView<G>& grad_logits, const RowView<A>& grad_hidden,
                          const RowView<A>& grad, LogitsMemory<A>& memory, const HeadTiling& tiling,
                          const D& device) {
  const A cap = head.logit_soft_cap;
  const bool is_capped = cap > 0;
  Matrix<A> widened;
  for_rounds(head, states, memory, !is_capped, tiling, device, [&](Index first, const RowView<A>& logits) {
    auto gradients = widened_rows(part(grad_logits, {0, states.rows, first, logits.cols}), widened);
    if (is_capped) {
      for (Index i = 0; i < states.rows; ++i) {
        for (Index j = 0; j < logits.cols; ++j) {
          A& logit = logits.row(i)[j];
          logit = gradients.row(i)[j] * capped_derivative(logit, cap);
        }
      }
      gradients = {logits.data, logits.rows, logits.cols, logits.row_stride};
    }
    add_head_gradients(head, states, first, gradients, grad_hidden, grad, tiling, device);
  });
}

}  // namespace gpt2::detail
