// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The tied output head of GPT-2: wte a second time, transposed, to score the vocabulary. Logits and their
/// gradient, the k best tokens, and the cross-entropy of a language model.
///
/// All functions share the following. wte is any Table, and an Embedding<T> if a gradient is added to it. T is the
/// table's scalar; everything is computed and returned in A = Accumulator<T>. hidden: `[n, embedding_dim]`, or a
/// Tensor3 `[batch, seq_length, embedding_dim]`, which is viewed as `[batch * seq_length, embedding_dim]`; of T or A,
/// or maps of const memory. Hidden states and tables of another type than A are converted first, a table a block at a
/// time. Everything is checked before anything is written or a gradient changed; only if memory runs out inside Eigen's
/// matrix product (which needs less than 1 MB) may a gradient be left with a part of the terms added. Outputs may not
/// overlap inputs. No result depends on the device or on an address, bit for bit. The options may be omitted before a
/// device: `logits(wte, hidden, device)`.

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "gpt2/embedding.hpp"
#include "gpt2/table.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// The options of the head.
struct HeadOptions {
  /// The number of rows that are tokens, if the table is padded after them: the other rows have no logits,
  /// and get no gradient. 0 for every row.
  Index vocab_size = 0;
  /// Each logit becomes cap * tanh(logit / cap). 0 for no cap; else a positive number that A can hold.
  double logit_soft_cap = 0;

  /// Whether all options are equal.
  bool operator==(const HeadOptions&) const = default;
};

/// The options of a function, or the device that would follow them if they are omitted.
template <class O, class Options>
concept OptionsOrDevice = std::convertible_to<const O&, const Options&> || Device<O>;

/// Writable rows of A: a Matrix, Map or Block, a Tensor3 or a TensorMap of one.
template <class H, class A>
concept HeadOutput = HiddenOfRank<H, 2> && std::same_as<hidden_scalar_t<H>, A>;

/// The logits, hidden · wteᵀ: there is no bias.
/// Shape: `[n, vocab_size]`.
/// Throws: ArgumentError if vocab_size is outside [0, num_embeddings] or logit_soft_cap is invalid;
/// ShapeError if hidden does not fit.
/// Source: lm_head of transformers.GPT2LMHeadModel.
template <Table E, HiddenInput<table_scalar_t<E>, 2> H, OptionsOrDevice<HeadOptions> O = HeadOptions,
          Device D = Eigen::DefaultDevice>
[[nodiscard]] Matrix<Accumulator<table_scalar_t<E>>> logits(const E& wte, const H& hidden,
                                                            const O& options = {}, const D& device = {});

/// Writes the result of logits() to `out`. Allocates nothing for up to eight hidden states in A, as in decoding; for
/// more, at most the memory of Eigen's matrix product, and for a table of another type a block of it in A.
/// Shape: out `[n, vocab_size]`; for a Tensor3 also `[batch, seq_length, vocab_size]`.
/// Throws: as logits(); ShapeError if out does not fit. Then out is as it was.
template <Table E, HiddenInput<table_scalar_t<E>, 2> H, HeadOutput<Accumulator<table_scalar_t<E>>> Out,
          OptionsOrDevice<HeadOptions> O = HeadOptions, Device D = Eigen::DefaultDevice>
void logits_into(const E& wte, const H& hidden, Out&& out, const O& options = {}, const D& device = {});

/// The gradient of the hidden states, grad_logits · wte, and of the table: wte.grad() += grad_logitsᵀ ·
/// hidden. It reaches every row below vocab_size, the one at padding_idx included, as it does with PyTorch's
/// tied weights: padding_idx is about looking rows up.
/// Shape: grad_logits as out of logits_into(), of T or A; result `[n, embedding_dim]`.
/// Throws: as logits(); ShapeError if grad_logits does not fit. Then the gradient is as it was.
/// Complexity: with a soft cap the logits are formed again, some at a time.
template <Scalar T, HiddenInput<T, 2> H, HiddenInput<T, 2> G, OptionsOrDevice<HeadOptions> O = HeadOptions,
          Device D = Eigen::DefaultDevice>
[[nodiscard]] Matrix<Accumulator<T>> logits_backward(Embedding<T>& wte, const H& hidden, const G& grad_logits,
                                                     const O& options = {}, const D& device = {});

/// Writes the result of logits_backward() to `grad_hidden`.
/// Shape: grad_hidden as hidden, or `[n, embedding_dim]`.
/// Throws: as logits_backward(); ShapeError if grad_hidden does not fit. Then it is as it was.
template <Scalar T, HiddenInput<T, 2> H, HiddenInput<T, 2> G, HeadOutput<Accumulator<T>> Out,
          OptionsOrDevice<HeadOptions> O = HeadOptions, Device D = Eigen::DefaultDevice>
void logits_backward_into(Embedding<T>& wte, const H& hidden, const G& grad_logits, Out&& grad_hidden,
                          const O& options = {}, const D& device = {});

/// The k best tokens of each hidden state, best first.
template <class A>
struct TopK {
  IdMatrix<std::int64_t> ids;  ///< `[n, k]`
  Matrix<A> logits;            ///< `[n, k]`
};

/// The k tokens with the highest logits, bit for bit as if all logits() were sorted. Of equal logits the lower id comes
/// first. A NaN ranks above every number.
/// Shape: `[n, k]`.
/// Throws: as logits(); ArgumentError if k is outside [0, vocab_size].
/// Complexity: memory O(k) for each state, and 2 MiB of logits (256 of each state if these are more).
/// Source: torch.topk.
template <Table E, HiddenInput<table_scalar_t<E>, 2> H, OptionsOrDevice<HeadOptions> O = HeadOptions,
          Device D = Eigen::DefaultDevice>
[[nodiscard]] TopK<Accumulator<table_scalar_t<E>>> top_k(const E& wte, const H& hidden, Index k,
                                                         const O& options = {}, const D& device = {});

/// How the losses of all positions are reduced.
enum class Reduction {
  mean,  ///< over the positions that are not ignored
  sum,   ///< of all of them
};

/// The options of cross_entropy().
struct CrossEntropyOptions {
  /// Positions with this label are ignored: no loss, no gradient, whatever their hidden state. It need not be
  /// outside the vocabulary.
  std::int64_t ignore_index = -100;
  /// The reduction of the losses of all positions; gradients are those of the reduced loss.
  Reduction reduction = Reduction::mean;
  /// The options of the logits.
  HeadOptions head = {};
  /// Memory for logits. With room for all logits of 64 states or more (or of all states), states are processed in
  /// chunks and each logit is formed once. With less, as with 0, logits are formed twice, 2 MiB of them at a time: a
  /// third more products. At GPT-2's 50,257 floats per state, the default, 64 MiB, has room for 333 states.
  std::size_t workspace_bytes = std::size_t{64} << 20U;

  /// Whether all options are equal.
  bool operator==(const CrossEntropyOptions&) const = default;
};

/// A loss and its gradient.
template <class A>
struct CrossEntropy {
  A loss;                 ///< of all positions, reduced
  Matrix<A> grad_hidden;  ///< `[n, embedding_dim]`
};

/// The cross-entropy of logits() and labels, its gradient for the hidden states, and that for the table,
/// which is added to wte.grad(); as in logits_backward(), also to the row at padding_idx. Labels are not
/// shifted: the label of a position is the token after it.
///
/// If all positions are ignored, or there are none, the mean is NaN, the sum 0, and the gradients are zeros. A logit
/// of -infinity is a token of probability 0, with an infinite loss if it is the label. A state with a logit that is NaN
/// or infinity, or with no logit above -infinity, has no softmax: loss and gradients are NaN, as in PyTorch.
/// Exponentials are summed in A, sums and losses in double. Results agree to rounding for any workspace, and to the bit
/// for the same workspace_bytes and shapes.
/// Shape: labels `[n]`, or `[batch, seq_length]` if hidden is a Tensor3 or a matrix of as many rows.
/// Throws: as logits(); ShapeError if labels do not fit; IndexError if a label is neither ignore_index nor in
/// [0, vocab_size). Then the gradient is as it was.
/// Complexity: three products of all states and the table, four with less workspace. Memory is the workspace, or as
/// much of it as the logits take (without one 2 MiB), the results, a copy of the hidden states if some are ignored, and
/// less than 1 MB for Eigen's matrix product.
/// Source: torch.nn.functional.cross_entropy.
template <Scalar T, HiddenInput<T, 2> H, Ids L, OptionsOrDevice<CrossEntropyOptions> O = CrossEntropyOptions,
          Device D = Eigen::DefaultDevice>
[[nodiscard]] CrossEntropy<Accumulator<T>> cross_entropy(Embedding<T>& wte, const H& hidden, const L& labels,
                                                         const O& options = {}, const D& device = {});

/// Writes the gradient of the hidden states to `grad_hidden` and returns the loss; else as cross_entropy().
/// Shape: grad_hidden as hidden, or `[n, embedding_dim]`.
/// Throws: as cross_entropy(); ShapeError if grad_hidden does not fit. Then it is as it was.
template <Scalar T, HiddenInput<T, 2> H, Ids L, HeadOutput<Accumulator<T>> Out,
          OptionsOrDevice<CrossEntropyOptions> O = CrossEntropyOptions, Device D = Eigen::DefaultDevice>
Accumulator<T> cross_entropy_into(Embedding<T>& wte, const H& hidden, const L& labels, Out&& grad_hidden,
                                  const O& options = {}, const D& device = {});

/// The loss that cross_entropy() returns, bit for bit, and no gradient.
/// Shape, Throws: as cross_entropy().
/// Complexity: one product, and 2 MiB of logits whatever the workspace, which only determines the bits of the result.
template <Table E, HiddenInput<table_scalar_t<E>, 2> H, Ids L,
          OptionsOrDevice<CrossEntropyOptions> O = CrossEntropyOptions, Device D = Eigen::DefaultDevice>
[[nodiscard]] Accumulator<table_scalar_t<E>> cross_entropy_loss(const E& wte, const H& hidden,
                                                                const L& labels, const O& options = {},
                                                                const D& device = {});

/// The loss of each position, not reduced; 0 if its label is ignored. options.reduction does not matter.
/// Shape: `[n]`; else as cross_entropy().
/// Throws, Complexity: as cross_entropy_loss().
/// Source: torch.nn.functional.cross_entropy(reduction="none").
template <Table E, HiddenInput<table_scalar_t<E>, 2> H, Ids L,
          OptionsOrDevice<CrossEntropyOptions> O = CrossEntropyOptions, Device D = Eigen::DefaultDevice>
[[nodiscard]] Eigen::VectorX<Accumulator<table_scalar_t<E>>> cross_entropy_losses(
    const E& wte, const H& hidden, const L& labels, const O& options = {}, const D& device = {});

}  // namespace gpt2

#include "gpt2/detail/lm_head.hpp"
