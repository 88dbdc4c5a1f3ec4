// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// GPT2PositionEmbeddings<T>: GPT-2's learned position table, wpe.

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <utility>

#include "gpt2/config.hpp"
#include "gpt2/embedding.hpp"
#include "gpt2/random.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// A table under its name in checkpoints, "wte.weight" or "wpe.weight": an optimizer loops over these.
template <class E>
struct NamedParameter {
  std::string_view name;  ///< the checkpoint's
  E* embedding;           ///< the table, which belongs to the layer
};

namespace detail {

/// A fresh wpe, which depends on the seed, n_positions, n_embd and initializer_range alone.
template <Scalar T>
[[nodiscard]] Embedding<T> fresh_wpe(const GPT2Config& config, std::uint64_t seed) {
  config.validate();
  return Embedding<T>(fresh_table<T>(config.n_positions, config.n_embd, config.initializer_range, seed,
                                     wpe_stream, "n_positions"));
}

}  // namespace detail

/// GPT-2's position embeddings: a learned vector for each of the n_positions places a token can be at.
///
/// Without them attention could not tell "dog bites man" from "man bites dog". They are looked up like
/// tokens, by position ids (see position_ids.hpp), and added to the token embeddings; GPT2Embeddings does
/// both.
///
/// Source: wpe of transformers.GPT2Model.
template <Scalar T>
class GPT2PositionEmbeddings {
 public:
  /// A fresh table, N(0, initializer_range²): the wpe of GPT2Embeddings for the same config and seed.
  /// Throws: ConfigError if config is not valid; ArgumentError if no memory could hold the table.
  explicit GPT2PositionEmbeddings(const GPT2Config& config, std::uint64_t seed = default_seed)
      : wpe(detail::fresh_wpe<T>(config, seed)) {}

  /// Wraps an existing table.
  explicit GPT2PositionEmbeddings(Embedding<T> position_table) : wpe(std::move(position_table)) {}

  /// The rows of the positions, bit for bit.
  /// Shape: position_ids `[seq_length]` gives a Matrix `[seq_length, n_embd]`; `[batch, seq_length]` gives a
  /// Tensor3 `[batch, seq_length, n_embd]`.
  /// Throws: IndexError if a position is outside [0, n_positions).
  template <Ids X, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Hidden<T, ids_rank<X>> operator()(const X& position_ids, const D& device = {}) const {
    return detail::lookup(wpe, position_ids, device, detail::position_ids_argument);
  }
  template <Id I, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Matrix<T> operator()(std::initializer_list<I> position_ids, const D& device = {}) const {
    return (*this)(detail::as_span(position_ids), device);
  }

  /// Writes the rows of the positions to `out`, converted to its scalar if that is wider. Allocates nothing
  /// unless the ids must be copied first (see Ids).
  /// Shape: position_ids `[seq_length]`, out `[seq_length, n_embd]`; or position_ids `[batch, seq_length]`,
  /// out `[batch, seq_length, n_embd]` or a matrix `[batch * seq_length, n_embd]`.
  /// Throws: IndexError if a position is outside [0, n_positions); ShapeError if out does not fit. Then out
  /// is as it was.
  template <Ids X, HiddenOutput<T, ids_rank<X>> Out, Device D = Eigen::DefaultDevice>
  void forward_into(const X& position_ids, Out&& out, const D& device = {}) const {
    detail::lookup_into(wpe, position_ids, out, device, detail::position_ids_argument);
  }

  /// Adds the gradient of a lookup to wpe.grad(); see Embedding::backward.
  /// Shape: position_ids and grad_output as position_ids and out of forward_into().
  /// Throws: IndexError if a position is outside [0, n_positions); ShapeError if grad_output does not fit. Then
  /// the gradient is as it was.
  template <Ids X, HiddenInput<T, ids_rank<X>> G, Device D = Eigen::DefaultDevice>
  void backward(const X& position_ids, const G& grad_output, const D& device = {}) {
    detail::backward(wpe, position_ids, grad_output, device, detail::position_ids_argument);
  }

  /// "wpe.weight" and the table.
  [[nodiscard]] std::array<NamedParameter<Embedding<T>>, 1> parameters() & {
    return {{{"wpe.weight", &wpe}}};
  }
  [[nodiscard]] std::array<NamedParameter<const Embedding<T>>, 1> parameters() const& {
    return {{{"wpe.weight", &wpe}}};
  }
  [[nodiscard]] std::array<NamedParameter<const Embedding<T>>, 1> parameters() const&& = delete;

  /// The table, `[n_positions, n_embd]`, under its name in checkpoints.
  Embedding<T> wpe;
};

}  // namespace gpt2
