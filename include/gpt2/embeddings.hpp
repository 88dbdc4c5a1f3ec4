// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// GPT2Embeddings<T>: the input layer of GPT-2, wte[input_ids] + wpe[position_ids] (+ wte[token_type_ids]) over any
/// tables, and its gradient.

#include <array>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <utility>

#include "gpt2/config.hpp"
#include "gpt2/detail/arguments/past_length.hpp"
#include "gpt2/embedding.hpp"
#include "gpt2/position_embeddings.hpp"
#include "gpt2/position_ids.hpp"
#include "gpt2/quantized_embedding.hpp"
#include "gpt2/random.hpp"
#include "gpt2/table.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// Only tables with a gradient can be trained. Named for the compiler's message.
template <class T, class Wte, class Wpe>
concept both_tables_must_be_Embedding = std::same_as<Wte, Embedding<T>> && std::same_as<Wpe, Embedding<T>>;

/// The input layer of GPT-2: dropout of its result is the input of the first block.
///
/// The sum is `(wte[input_ids] + wpe[position_ids]) + wte[token_type_ids]`, formed in Accumulator<T> and
/// rounded once to the output's scalar: in float and double it has the bits of Hugging Face's model.
///
/// Shapes, for all that follows. input_ids: `[seq_length]` or `[batch, seq_length]`. position_ids and
/// token_type_ids: `[seq_length]`, `[1, seq_length]` or `[batch, seq_length]`; a single sequence is
/// broadcast over the batch. PastLength{n} is short for position ids n, n + 1, …. Result: `[seq_length, n_embd]` or
/// `[batch, seq_length, n_embd]`.
///
/// Throws, in all that follows, with nothing written: IndexError if a token, token type or position is out of
/// its table, or past_length + seq_length is more than n_positions; ShapeError if shapes do not fit;
/// ArgumentError if a past length is negative.
///
/// wte and wpe are any tables of T, Embedding<T> unless named. backward(), backward_embeds(), parameters() and fresh
/// tables exist if both are Embedding<T>.
///
/// Source: the embedding part of transformers.GPT2Model.forward.
template <Scalar T, Table Wte = Embedding<T>, Table Wpe = Wte>
requires std::same_as<table_scalar_t<Wte>, T> && std::same_as<table_scalar_t<Wpe>, T>
class GPT2Embeddings {
  using BracedIds = std::initializer_list<std::int64_t>;  // the type of a braced list in any later argument

 public:
  /// Fresh tables, N(0, initializer_range²), each drawn from a stream of its own.
  /// Throws: ConfigError if config is not valid; ArgumentError if no memory could hold a table.
  explicit GPT2Embeddings(const GPT2Config& config, std::uint64_t seed = default_seed) requires
      both_tables_must_be_Embedding<T, Wte, Wpe>;

  /// Wraps existing tables.
  /// Shape: token_table `[vocab_size, n_embd]`, position_table `[n_positions, n_embd]`.
  /// Throws: ShapeError if their embedding_dim differ.
  GPT2Embeddings(Wte token_table, Wpe position_table)
      : wte(std::move(token_table)), wpe(std::move(position_table)) {
    check_tables();
  }

  /// Embeds tokens at positions 0, 1, ….
  template <Ids X, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Hidden<T, ids_rank<X>> operator()(const X& input_ids, const D& device = {}) const {
    return sum_ids(device, input_ids, PastLength());
  }
  template <Id I, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Matrix<T> operator()(std::initializer_list<I> input_ids, const D& device = {}) const {
    return sum_ids(device, detail::as_span(input_ids), PastLength());
  }

  /// Embeds tokens at the positions given.
  template <Ids X, PositionIds P = BracedIds, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Hidden<T, ids_rank<X>> operator()(const X& input_ids, const P& position_ids,
                                                  const D& device = {}) const {
    return sum_ids(device, input_ids, position_ids);
  }
  template <Id I, PositionIds P = BracedIds, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Matrix<T> operator()(std::initializer_list<I> input_ids, const P& position_ids,
                                     const D& device = {}) const {
    return sum_ids(device, detail::as_span(input_ids), position_ids);
  }

  /// Embeds tokens at the positions given and adds the embeddings of their types, which are rows of wte as well.
  template <Ids X, PositionIds P = BracedIds, Ids Y = BracedIds, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Hidden<T, ids_rank<X>> operator()(const X& input_ids, const P& position_ids,
                                                  const Y& token_type_ids, const D& device = {}) const {
    return sum_ids(device, input_ids, position_ids, token_type_ids);
  }
  template <Id I, PositionIds P = BracedIds, Ids Y = BracedIds, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Matrix<T> operator()(std::initializer_list<I> input_ids, const P& position_ids,
                                     const Y& token_type_ids, const D& device = {}) const {
    return sum_ids(device, detail::as_span(input_ids), position_ids, token_type_ids);
  }

  /// Writes the result of operator() to `out`, of T or a wider scalar; without position_ids, of positions 0, 1, ….
  /// Allocates nothing unless the ids must be copied first (see Ids).
  /// Shape: out `[seq_length, n_embd]`; for a batch `[batch, seq_length, n_embd]` or a matrix
  /// `[batch * seq_length, n_embd]`.
  template <Ids X, HiddenOutput<T, ids_rank<X>> Out, Device D = Eigen::DefaultDevice>
  void forward_into(const X& input_ids, Out&& out, const D& device = {}) const {
    write_sum(out, device, detail::StoredIds(input_ids), detail::StoredIds(PastLength()));
  }
  template <Ids X, PositionIds P, HiddenOutput<T, ids_rank<X>> Out, Device D = Eigen::DefaultDevice>
  void forward_into(const X& input_ids, const P& position_ids, Out&& out, const D& device = {}) const {
    write_sum(out, device, detail::StoredIds(input_ids), detail::StoredIds(position_ids));
  }
  template <Ids X, PositionIds P, HiddenOutput<T, ids_rank<X>> Out, Ids Y, Device D = Eigen::DefaultDevice>
  void forward_into(const X& input_ids, const P& position_ids, Out&& out, const Y& token_type_ids,
                    const D& device = {}) const {
    write_sum(out, device, detail::StoredIds(input_ids), detail::StoredIds(position_ids),
              detail::StoredIds(token_type_ids));
  }

  /// Embeds the caller's vectors (soft prompts, say) instead of rows of wte.
  /// Shape: inputs_embeds `[seq_length, n_embd]` gives a Matrix; `[batch, seq_length, n_embd]`, or a matrix
  /// `[batch * seq_length, n_embd]` with position ids or token types `[batch, seq_length]`, a Tensor3.
  template <HiddenInput<T, 2> E, PositionIds P, Device D = Eigen::DefaultDevice>
  [[nodiscard]] auto embed(const E& inputs_embeds, const P& position_ids, const D& device = {}) const {
    return sum_embeds(device, inputs_embeds, detail::StoredIds(position_ids));
  }
  template <HiddenInput<T, 2> E, PositionIds P, Ids Y, Device D = Eigen::DefaultDevice>
  [[nodiscard]] auto embed(const E& inputs_embeds, const P& position_ids, const Y& token_type_ids,
                           const D& device = {}) const {
    return sum_embeds(device, inputs_embeds, detail::StoredIds(position_ids),
                      detail::StoredIds(token_type_ids));
  }

  /// Writes the result of embed() to `out`, of T or a wider scalar. Allocates nothing unless the ids must be
  /// copied first (see Ids).
  template <HiddenInput<T, 2> E, PositionIds P, HiddenOutput<T, 2> Out, Device D = Eigen::DefaultDevice>
  void embed_into(const E& inputs_embeds, const P& position_ids, Out&& out, const D& device = {}) const {
    write_embeds_sum(out, device, inputs_embeds, detail::StoredIds(position_ids));
  }
  template <HiddenInput<T, 2> E, PositionIds P, HiddenOutput<T, 2> Out, Ids Y,
            Device D = Eigen::DefaultDevice>
  void embed_into(const E& inputs_embeds, const P& position_ids, Out&& out, const Y& token_type_ids,
                  const D& device = {}) const {
    write_embeds_sum(out, device, inputs_embeds, detail::StoredIds(position_ids),
                     detail::StoredIds(token_type_ids));
  }

  /// Adds the gradient of the sum to wte.grad() (tokens, then token types) and wpe.grad(); see
  /// Embedding::backward. Positions broadcast over the batch get the sum over it. Without position_ids, positions
  /// 0, 1, ….
  /// Shape: grad_output as out of forward_into(), of T or Accumulator<T>.
  template <Ids X, HiddenInput<T, ids_rank<X>> G, Device D = Eigen::DefaultDevice>
  void backward(const X& input_ids, const G& grad_output,
                const D& device = {}) requires both_tables_must_be_Embedding<T, Wte, Wpe> {
    ids_backward(grad_output, device, detail::StoredIds(input_ids), detail::StoredIds(PastLength()));
  }
  template <Ids X, PositionIds P, HiddenInput<T, ids_rank<X>> G, Device D = Eigen::DefaultDevice>
  void backward(const X& input_ids, const P& position_ids, const G& grad_output,
                const D& device = {}) requires both_tables_must_be_Embedding<T, Wte, Wpe> {
    ids_backward(grad_output, device, detail::StoredIds(input_ids), detail::StoredIds(position_ids));
  }
  template <Ids X, PositionIds P, HiddenInput<T, ids_rank<X>> G, Ids Y, Device D = Eigen::DefaultDevice>
  void backward(const X& input_ids, const P& position_ids, const G& grad_output, const Y& token_type_ids,
                const D& device = {}) requires both_tables_must_be_Embedding<T, Wte, Wpe> {
    ids_backward(grad_output, device, detail::StoredIds(input_ids), detail::StoredIds(position_ids),
                 detail::StoredIds(token_type_ids));
  }

  /// The same for embed(): adds to wpe.grad() and, for token types, wte.grad(). The gradient of inputs_embeds is
  /// grad_output itself.
  /// Shape: grad_output as inputs_embeds of embed().
  template <PositionIds P, HiddenInput<T, 2> G, Device D = Eigen::DefaultDevice>
  void backward_embeds(const P& position_ids, const G& grad_output,
                       const D& device = {}) requires both_tables_must_be_Embedding<T, Wte, Wpe> {
    embeds_backward(grad_output, device, detail::StoredIds(position_ids));
  }
  template <PositionIds P, HiddenInput<T, 2> G, Ids Y, Device D = Eigen::DefaultDevice>
  void backward_embeds(const P& position_ids, const G& grad_output, const Y& token_type_ids,
                       const D& device = {}) requires both_tables_must_be_Embedding<T, Wte, Wpe> {
    embeds_backward(grad_output, device, detail::StoredIds(position_ids), detail::StoredIds(token_type_ids));
  }

  /// "wte.weight" and "wpe.weight", in this order, and their tables: an optimizer is a loop over them.
  [[nodiscard]] std::array<NamedParameter<Embedding<T>>, 2> parameters() & requires
      both_tables_must_be_Embedding<T, Wte, Wpe> {
    return {{{"wte.weight", &wte}, {"wpe.weight", &wpe}}};
  }
  [[nodiscard]] std::array<NamedParameter<const Embedding<T>>, 2> parameters() const& requires
      both_tables_must_be_Embedding<T, Wte, Wpe> {
    return {{{"wte.weight", &wte}, {"wpe.weight", &wpe}}};
  }
  [[nodiscard]] std::array<NamedParameter<const Embedding<T>>, 2> parameters() const&& = delete;

  /// The token table, `[vocab_size, n_embd]`, under its name in checkpoints.
  Wte wte;
  /// The position table, `[n_positions, n_embd]`, under its name in checkpoints.
  Wpe wpe;

 private:
  void check_tables() const;

  template <class Out, class D, class X, class P, class... Types>
  void write_sum(Out& out, const D& device, const detail::StoredIds<X>& input_ids,
                 const detail::StoredIds<P>& position_ids,
                 const detail::StoredIds<Types>&... token_type_ids) const;
  template <class D, class X, class P, class... Types>
  [[nodiscard]] Hidden<T, ids_rank<X>> sum_ids(const D& device, const X& input_ids, const P& position_ids,
                                               const Types&... token_type_ids) const;
  template <class Out, class D, class E, class P, class... Types>
  void write_embeds_sum(Out& out, const D& device, const E& inputs_embeds,
                        const detail::StoredIds<P>& position_ids,
                        const detail::StoredIds<Types>&... token_type_ids) const;
  template <class D, class E, class P, class... Types>
  [[nodiscard]] auto sum_embeds(const D& device, const E& inputs_embeds,
                                const detail::StoredIds<P>& position_ids,
                                const detail::StoredIds<Types>&... token_type_ids) const;
  template <class G, class D, class X, class P, class... Types>
  void ids_backward(const G& grad_output, const D& device, const detail::StoredIds<X>& input_ids,
                    const detail::StoredIds<P>& position_ids,
                    const detail::StoredIds<Types>&... token_type_ids);
  template <class G, class D, class P, class... Types>
  void embeds_backward(const G& grad_output, const D& device, const detail::StoredIds<P>& position_ids,
                       const detail::StoredIds<Types>&... token_type_ids);
  template <class G, class D, class Positions, class... Tokens>
  void add_gradients(const G& grad_output, const detail::SequenceShape& shape, const D& device,
                     const Positions& positions, const Tokens&... tokens);
};

/// Deduces the scalar that both tables give.
template <Table Wte, Table Wpe>
GPT2Embeddings(Wte, Wpe) -> GPT2Embeddings<table_scalar_t<Wte>, Wte, Wpe>;

/// The input layer with a quantised token table, and a position table that is quantised or float: P is
/// QuantizedEmbedding or Embedding<float>. It infers only.
template <Table P>
using QuantizedGPT2Embeddings = GPT2Embeddings<float, QuantizedEmbedding, P>;

}  // namespace gpt2

#include "gpt2/detail/embeddings.hpp"
