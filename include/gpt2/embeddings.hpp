// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// GPT2Embeddings<T>: the input layer of GPT-2, wte[input_ids] + wpe[position_ids] (+ wte[token_type_ids]), and
/// its gradient.

#include <algorithm>
#include <array>
#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>
#include <utility>

#include "gpt2/config.hpp"
#include "gpt2/detail/arguments/broadcast.hpp"
#include "gpt2/detail/arguments/hidden.hpp"
#include "gpt2/detail/arguments/ids.hpp"
#include "gpt2/detail/kernels/row_sums.hpp"
#include "gpt2/embedding.hpp"
#include "gpt2/error.hpp"
#include "gpt2/initialization.hpp"
#include "gpt2/position_embeddings.hpp"
#include "gpt2/position_ids.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// The input layer of GPT-2: what enters its first block, before dropout.
///
/// The sum is `(wte[input_ids] + wpe[position_ids]) + wte[token_type_ids]`, formed in Accumulator<T> and
/// rounded once to the output's scalar: in float and double bit for bit what Hugging Face's model computes.
///
/// Shapes, for all that follows. input_ids: `[seq_length]` or `[batch, seq_length]`. position_ids and
/// token_type_ids: `[seq_length]`, `[1, seq_length]` or `[batch, seq_length]`; one sequence goes for the
/// whole batch. PastLength{n} may stand for position ids n, n + 1, …. Result: `[seq_length, n_embd]` or
/// `[batch, seq_length, n_embd]`.
///
/// Throws, in all that follows, with nothing written: IndexError if a token, token type or position is out of
/// its table, or past_length + seq_length is more than n_positions; ShapeError if shapes do not fit;
/// ArgumentError if a past length is negative.
///
/// Source: the embedding part of transformers.GPT2Model.forward.
template <Scalar T>
class GPT2Embeddings {
  using BracedIds = std::initializer_list<std::int64_t>;  // what a braced list among later arguments becomes

 public:
  /// Fresh tables, N(0, initializer_range²), each drawn from a stream of its own.
  /// Throws: ConfigError if config is not valid; ArgumentError if no memory could hold a table.
  explicit GPT2Embeddings(const GPT2Config& config, std::uint64_t seed = default_seed)
      : wte(fresh_wte(config, seed)), wpe(detail::fresh_wpe<T>(config, seed)) {}

  /// Tables that are there already.
  /// Shape: token_table `[vocab_size, n_embd]`, position_table `[n_positions, n_embd]`.
  /// Throws: ShapeError if their embedding_dim differ.
  GPT2Embeddings(Embedding<T> token_table, Embedding<T> position_table)
      : wte(std::move(token_table)), wpe(std::move(position_table)) {
    check_tables();
  }

  /// Embeds tokens at positions 0, 1, ….
  template <Ids X, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Hidden<T, ids_rank<X>> operator()(const X& input_ids, const D& device = {}) const {
    return embed_ids(input_ids, PastLength{}, device);
  }
  template <Id I, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Matrix<T> operator()(std::initializer_list<I> input_ids, const D& device = {}) const {
    return embed_ids(detail::as_span(input_ids), PastLength{}, device);
  }

  /// Embeds tokens at the positions given.
  template <Ids X, PositionIds P = BracedIds, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Hidden<T, ids_rank<X>> operator()(const X& input_ids, const P& position_ids,
                                                  const D& device = {}) const {
    return embed_ids(input_ids, position_ids, device);
  }
  template <Id I, PositionIds P = BracedIds, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Matrix<T> operator()(std::initializer_list<I> input_ids, const P& position_ids,
                                     const D& device = {}) const {
    return embed_ids(detail::as_span(input_ids), position_ids, device);
  }

  /// Embeds tokens at the positions given and adds the embeddings of their types, which are rows of wte, too.
  template <Ids X, PositionIds P = BracedIds, Ids Y = BracedIds, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Hidden<T, ids_rank<X>> operator()(const X& input_ids, const P& position_ids,
                                                  const Y& token_type_ids, const D& device = {}) const {
    return embed_ids(input_ids, position_ids, device, token_type_ids);
  }
  template <Id I, PositionIds P = BracedIds, Ids Y = BracedIds, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Matrix<T> operator()(std::initializer_list<I> input_ids, const P& position_ids,
                                     const Y& token_type_ids, const D& device = {}) const {
    return embed_ids(detail::as_span(input_ids), position_ids, device, token_type_ids);
  }

  /// Writes what operator() returns to `out`, of T or a wider scalar. Allocates nothing.
  /// Shape: out `[seq_length, n_embd]`; for a batch `[batch, seq_length, n_embd]` or a matrix
  /// `[batch * seq_length, n_embd]`.
  template <Ids X, PositionIds P, HiddenOutput<T, ids_rank<X>> Out, Device D = Eigen::DefaultDevice>
  void forward_into(const X& input_ids, const P& position_ids, Out&& out, const D& device = {}) const {
    embed_ids_into(detail::evaluated(input_ids), detail::evaluated(position_ids), out, device);
  }
  template <Ids X, PositionIds P, HiddenOutput<T, ids_rank<X>> Out, Ids Y, Device D = Eigen::DefaultDevice>
  void forward_into(const X& input_ids, const P& position_ids, Out&& out, const Y& token_type_ids,
                    const D& device = {}) const {
    embed_ids_into(detail::evaluated(input_ids), detail::evaluated(position_ids), out, device,
                   detail::evaluated(token_type_ids));
  }

  /// Puts vectors of the caller's (soft prompts, say) in the place of wte's rows.
  /// Shape: inputs_embeds `[seq_length, n_embd]` gives a Matrix; `[batch, seq_length, n_embd]`, or a matrix
  /// `[batch * seq_length, n_embd]` with position ids or token types `[batch, seq_length]`, a Tensor3.
  template <HiddenInput<T, 2> E, PositionIds P, Device D = Eigen::DefaultDevice>
  [[nodiscard]] auto embed(const E& inputs_embeds, const P& position_ids, const D& device = {}) const {
    return embed_hidden(inputs_embeds, device, detail::evaluated(position_ids));
  }
  template <HiddenInput<T, 2> E, PositionIds P, Ids Y, Device D = Eigen::DefaultDevice>
  [[nodiscard]] auto embed(const E& inputs_embeds, const P& position_ids, const Y& token_type_ids,
                           const D& device = {}) const {
    return embed_hidden(inputs_embeds, device, detail::evaluated(position_ids),
                        detail::evaluated(token_type_ids));
  }

  /// Writes what embed() returns to `out`, of T or a wider scalar. Allocates nothing.
  template <HiddenInput<T, 2> E, PositionIds P, HiddenOutput<T, 2> Out, Device D = Eigen::DefaultDevice>
  void embed_into(const E& inputs_embeds, const P& position_ids, Out&& out, const D& device = {}) const {
    embed_hidden_into(inputs_embeds, out, device, detail::evaluated(position_ids));
  }
  template <HiddenInput<T, 2> E, PositionIds P, HiddenOutput<T, 2> Out, Ids Y,
            Device D = Eigen::DefaultDevice>
  void embed_into(const E& inputs_embeds, const P& position_ids, Out&& out, const Y& token_type_ids,
                  const D& device = {}) const {
    embed_hidden_into(inputs_embeds, out, device, detail::evaluated(position_ids),
                      detail::evaluated(token_type_ids));
  }

  /// Adds the gradient of the sum to wte.grad() (tokens, then token types) and wpe.grad(); see
  /// Embedding::backward. Positions that go for the whole batch get the sum over it.
  /// Shape: grad_output as out of forward_into(), of T or Accumulator<T>.
  template <Ids X, PositionIds P, HiddenInput<T, ids_rank<X>> G, Device D = Eigen::DefaultDevice>
  void backward(const X& input_ids, const P& position_ids, const G& grad_output, const D& device = {}) {
    ids_backward(detail::evaluated(input_ids), grad_output, device, detail::evaluated(position_ids));
  }
  template <Ids X, PositionIds P, HiddenInput<T, ids_rank<X>> G, Ids Y, Device D = Eigen::DefaultDevice>
  void backward(const X& input_ids, const P& position_ids, const G& grad_output, const Y& token_type_ids,
                const D& device = {}) {
    ids_backward(detail::evaluated(input_ids), grad_output, device, detail::evaluated(position_ids),
                 detail::evaluated(token_type_ids));
  }

  /// The same for embed(): adds to wpe.grad() and, for token types, wte.grad(). The gradient of inputs_embeds is
  /// grad_output itself.
  /// Shape: grad_output as inputs_embeds of embed().
  template <PositionIds P, HiddenInput<T, 2> G, Device D = Eigen::DefaultDevice>
  void backward_embeds(const P& position_ids, const G& grad_output, const D& device = {}) {
    embeds_backward(grad_output, device, detail::evaluated(position_ids));
  }
  template <PositionIds P, HiddenInput<T, 2> G, Ids Y, Device D = Eigen::DefaultDevice>
  void backward_embeds(const P& position_ids, const G& grad_output, const Y& token_type_ids,
                       const D& device = {}) {
    embeds_backward(grad_output, device, detail::evaluated(position_ids), detail::evaluated(token_type_ids));
  }

  /// "wte.weight" and "wpe.weight", in this order, and their tables: an optimizer is a loop over them.
  [[nodiscard]] std::array<NamedParameter<Embedding<T>>, 2> parameters() {
    return {{{"wte.weight", &wte}, {"wpe.weight", &wpe}}};
  }
  [[nodiscard]] std::array<NamedParameter<const Embedding<T>>, 2> parameters() const {
    return {{{"wte.weight", &wte}, {"wpe.weight", &wpe}}};
  }

  /// The token table, `[vocab_size, n_embd]`, under its name in checkpoints.
  Embedding<T> wte;
  /// The position table, `[n_positions, n_embd]`, under its name in checkpoints.
  Embedding<T> wpe;

 private:
  // Three kinds of rows can be summed: those of a table at checked ids, consecutive ones, and given ones.
  template <class I>
  struct RowsAtIds {
    detail::RowView<const T> table;
    detail::IdView<I> ids;

    const T* operator()(Index sequence, Index place) const {
      return table.row(static_cast<Index>(ids(sequence, place)));
    }
  };
  struct RowsFrom {
    detail::RowView<const T> table;
    Index first;

    const T* operator()(Index /*sequence*/, Index place) const { return table.row(first + place); }
  };
  template <class U>
  struct GivenRows {
    detail::RowView<U> rows;
    Index seq_length;

    const U* operator()(Index sequence, Index place) const { return rows.row(sequence * seq_length + place); }
  };

  static constexpr detail::IdArgument input_ids_argument{"wte", "input_ids"};
  static constexpr detail::IdArgument token_type_ids_argument{"wte", "token_type_ids"};

  static Embedding<T> fresh_wte(const GPT2Config& config, std::uint64_t seed) {
    config.validate();
    return Embedding<T>(detail::fresh_table<T>(config.vocab_size, config.n_embd, config.initializer_range,
                                               seed, detail::wte_stream, "vocab_size"));
  }

  /// The tables are public, so they are compared before every use.
  void check_tables() const {
    if (wte.embedding_dim() != wpe.embedding_dim()) {
      throw ShapeError("wpe", detail::to_text({wpe.num_embeddings(), wte.embedding_dim()}),
                       detail::to_text({wpe.num_embeddings(), wpe.embedding_dim()}));
    }
  }

  /// The rows at ids that are checked here, one sequence of them standing for a whole batch.
  template <class X>
  static RowsAtIds<std::remove_cv_t<id_scalar_t<X>>> checked_rows_at(const Embedding<T>& table, const X& ids,
                                                                     const detail::SequenceShape& shape,
                                                                     const detail::IdArgument& argument) {
    return {detail::rows_of(table.weight()),
            detail::checked_broadcast(ids, shape, table.num_embeddings(), argument)};
  }

  template <class P>
  auto checked_position_rows(const P& position_ids, const detail::SequenceShape& shape) const {
    if constexpr (std::same_as<P, PastLength>) {
      detail::check_past_length(position_ids.value, shape.seq_length, wpe.num_embeddings());
      return RowsFrom{detail::rows_of(wpe.weight()), position_ids.value};
    } else {
      return checked_rows_at(wpe, position_ids, shape, detail::position_ids_argument);
    }
  }

  /// Checks positions, token types (none or one) and out, then sums all rows into out.
  template <class Tokens, class P, class Out, class D, class... Types>
  void sum_into(const Tokens& tokens, const detail::SequenceShape& shape, const P& position_ids, Out&& out,
                const D& device, const Types&... token_type_ids) const {
    const auto positions = checked_position_rows(position_ids, shape);
    const auto sum = [&](const auto&... sources) {
      const auto rows = detail::checked_rows(out, shape, wte.embedding_dim(), "out");
      detail::sum_rows<Accumulator<T>>(shape, rows, device, sources...);
    };
    sum(tokens, positions, checked_rows_at(wte, token_type_ids, shape, token_type_ids_argument)...);
  }

  template <class X, class P, class Out, class D, class... Types>
  void embed_ids_into(const X& input_ids, const P& position_ids, Out&& out, const D& device,
                      const Types&... token_type_ids) const {
    check_tables();
    const auto shape = detail::shape_of(detail::id_view(input_ids));
    const auto tokens = checked_rows_at(wte, input_ids, shape, input_ids_argument);
    sum_into(tokens, shape, position_ids, out, device, token_type_ids...);
  }

  template <class X, class P, class D, class... Types>
  Hidden<T, ids_rank<X>> embed_ids(const X& input_ids, const P& position_ids, const D& device,
                                   const Types&... token_type_ids) const {
    const auto& in_memory = detail::evaluated(input_ids);
    auto out = detail::make_hidden<T, ids_rank<X>>(detail::shape_of(detail::id_view(in_memory)),
                                                   wte.embedding_dim());
    embed_ids_into(in_memory, detail::evaluated(position_ids), out, device,
                   detail::evaluated(token_type_ids)...);
    return out;
  }

  /// Adds grad_output to the rows of a table that checked rows came from.
  template <class I, class U, class D>
  static void add_gradient(Embedding<T>& table, const RowsAtIds<I>& rows, const detail::SequenceShape& shape,
                           const detail::RowView<U>& grad_output, const D& device) {
    // A sequence that goes for the whole batch is counted once, as it was given.
    table.add_gradient(shape, rows.ids, table.occurrences(rows.ids), grad_output, device);
  }
  template <class U, class D>
  static void add_gradient(Embedding<T>& table, const RowsFrom& rows, const detail::SequenceShape& shape,
                           const detail::RowView<U>& grad_output, const D& device) {
    const auto id_at = [&rows](Index /*sequence*/, Index place) { return rows.first + place; };
    table.add_gradient(shape, id_at, nullptr, grad_output, device);
  }

  template <class X, class G, class D, class P, class... Types>
  void ids_backward(const X& input_ids, const G& grad_output, const D& device, const P& position_ids,
                    const Types&... token_type_ids) {
    check_tables();
    const auto shape = detail::shape_of(detail::id_view(input_ids));
    const auto tokens = checked_rows_at(wte, input_ids, shape, input_ids_argument);
    add_gradients(grad_output, shape, device, position_ids, tokens,
                  checked_rows_at(wte, token_type_ids, shape, token_type_ids_argument)...);
  }

  template <class G, class D, class P, class... Types>
  void embeds_backward(const G& grad_output, const D& device, const P& position_ids,
                       const Types&... token_type_ids) {
    check_tables();
    const auto shape = embeds_shape(grad_output, position_ids, token_type_ids...);
    add_gradients(grad_output, shape, device, position_ids,
                  checked_rows_at(wte, token_type_ids, shape, token_type_ids_argument)...);
  }

  /// Checks positions and grad_output, then adds it to the rows of wte, which are checked, and to those of wpe.
  template <class G, class D, class P, class... TokenRows>
  void add_gradients(const G& grad_output, const detail::SequenceShape& shape, const D& device,
                     const P& position_ids, const TokenRows&... tokens) {
    const auto positions = checked_position_rows(position_ids, shape);
    const auto rows = detail::checked_rows(grad_output, shape, wte.embedding_dim(), "grad_output");
    // Both gradients before either is changed, in case memory runs out.
    if constexpr (sizeof...(tokens) > 0) wte.prepare_gradient();
    wpe.prepare_gradient();
    (add_gradient(wte, tokens, shape, rows, device), ...);
    add_gradient(wpe, positions, shape, rows, device);
  }

  /// The rank of the ids that go with inputs_embeds, position ids and token types.
  template <class E, class... Others>
  static constexpr int embeds_rank = TensorHidden<E> ? 2 : (std::max)({1, ids_rank<Others>...});

  /// The shape of such ids. Where inputs_embeds is a matrix, the largest batch among the others divides it.
  template <class E, class... Others>
  static detail::SequenceShape embeds_shape(const E& inputs_embeds, const Others&... others) {
    if constexpr (TensorHidden<E>) {
      return {inputs_embeds.dimension(0), inputs_embeds.dimension(1), 2};
    } else if constexpr (embeds_rank<E, Others...> == 1) {
      return {1, inputs_embeds.rows(), 1};
    } else {
      detail::SequenceShape shape{-1, 0, 2};
      const auto consider = [&shape](const auto& other) {
        if constexpr (Ids<decltype(other)> && ids_rank<decltype(other)> == 2) {
          if (other.rows() > shape.batch) shape = {other.rows(), other.cols(), 2};
        }
      };
      (consider(others), ...);
      return shape;
    }
  }

  template <class E, class Out, class D, class P, class... Types>
  void embed_hidden_into(const E& inputs_embeds, Out&& out, const D& device, const P& position_ids,
                         const Types&... token_type_ids) const {
    static_assert(HiddenOfRank<Out, embeds_rank<E, P, Types...>>, "a sequence's out is a matrix");
    check_tables();
    const auto shape = embeds_shape(inputs_embeds, position_ids, token_type_ids...);
    const auto given = detail::checked_rows(inputs_embeds, shape, wte.embedding_dim(), "inputs_embeds");
    sum_into(GivenRows<hidden_scalar_t<const E>>{given, shape.seq_length}, shape, position_ids, out, device,
             token_type_ids...);
  }

  template <class E, class D, class P, class... Types>
  auto embed_hidden(const E& inputs_embeds, const D& device, const P& position_ids,
                    const Types&... token_type_ids) const {
    constexpr int rank = embeds_rank<E, P, Types...>;
    auto out = detail::make_hidden<T, rank>(embeds_shape(inputs_embeds, position_ids, token_type_ids...),
                                            wte.embedding_dim());
    embed_hidden_into(inputs_embeds, out, device, position_ids, token_type_ids...);
    return out;
  }
};

}  // namespace gpt2::inline GPT2_EMBEDDINGS_ABI
