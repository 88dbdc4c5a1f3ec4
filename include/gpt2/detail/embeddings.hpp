// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The definitions of embeddings.hpp. Each argument takes the same path: stored, checked, a source of rows, the kernel.

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <tuple>

#include "gpt2/detail/arguments/hidden.hpp"
#include "gpt2/detail/arguments/ids.hpp"
#include "gpt2/detail/arguments/past_length.hpp"
#include "gpt2/detail/embedding.hpp"
#include "gpt2/detail/initialization.hpp"
#include "gpt2/detail/kernels/row_sources.hpp"
#include "gpt2/detail/kernels/row_sums.hpp"
#include "gpt2/embeddings.hpp"
#include "gpt2/error.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

namespace detail {

inline constexpr ArgumentName out_argument{"", "out"};
inline constexpr ArgumentName inputs_embeds_argument{"", "inputs_embeds"};
inline constexpr ArgumentName grad_output_argument{"", "grad_output"};

/// The rows of wpe for positions that belong to ids of a shape.
/// Throws: ShapeError, IndexError, ArgumentError.
template <Table Wpe, class P>
[[nodiscard]] auto position_rows(const Wpe& wpe, const StoredIds<P>& position_ids,
                                 const SequenceShape& shape) {
  if constexpr (std::same_as<P, PastLength>) {
    check_past_length(position_ids.past_length(), shape.seq_length, wpe.num_embeddings());
    return RowsFrom{stored_rows(wpe), position_ids.past_length()};
  } else {
    return RowsAtIds{stored_rows(wpe),
                     checked_ids(position_ids, shape, wpe.num_embeddings(), position_ids_argument)};
  }
}

/// The rows of wte for tokens, and for token types that belong to ids of a shape.
/// Throws: IndexError.
template <Table Wte, class X>
[[nodiscard]] auto token_rows(const Wte& wte, const StoredIds<X>& input_ids) {
  return RowsAtIds{stored_rows(wte), checked_ids(input_ids, wte.num_embeddings(), input_ids_argument)};
}
/// Throws: ShapeError, IndexError.
template <Table Wte, class Y>
[[nodiscard]] auto type_rows(const Wte& wte, const StoredIds<Y>& token_type_ids, const SequenceShape& shape) {
  return RowsAtIds{stored_rows(wte),
                   checked_ids(token_type_ids, shape, wte.num_embeddings(), token_type_ids_argument)};
}

/// The rank of the ids that inputs_embeds replace, given the other ids.
template <class E, class... Others>
inline constexpr int embeds_rank = TensorHidden<E> ? 2 : (std::max)({1, ids_rank<Others>...});

/// The shape of such ids. If inputs_embeds is a matrix, the largest batch among the others divides it.
template <class E, class... Others>
[[nodiscard]] SequenceShape embeds_shape(const E& inputs_embeds, const StoredIds<Others>&... others) {
  if constexpr (TensorHidden<E>) {
    return {inputs_embeds.dimension(0), inputs_embeds.dimension(1), 2};
  } else if constexpr (embeds_rank<E, Others...> == 1) {
    return {1, inputs_embeds.rows(), 1};
  } else {
    SequenceShape shape{-1, 0, 2};
    const auto consider = [&shape](const auto& other) {
      if constexpr (requires { other.shape(); }) {
        if (other.shape().rank == 2 && other.shape().batch > shape.batch) shape = other.shape();
      }
    };
    (consider(others), ...);
    return shape;
  }
}

/// A fresh wte, which depends on the seed, vocab_size, n_embd and initializer_range alone.
template <Scalar T>
[[nodiscard]] Embedding<T> fresh_wte(const GPT2Config& config, std::uint64_t seed) {
  config.validate();
  return Embedding<T>(fresh_table<T>(config.vocab_size, config.n_embd, config.initializer_range, seed,
                                     wte_stream, "vocab_size"));
}

}  // namespace detail

template <Scalar T, Table Wte, Table Wpe>
requires std::same_as<table_scalar_t<Wte>, T> && std::same_as<table_scalar_t<Wpe>, T>
GPT2Embeddings<T, Wte, Wpe>::GPT2Embeddings(const GPT2Config& config, std::uint64_t seed)
requires both_tables_must_be_Embedding<T, Wte, Wpe> : wte(detail::fresh_wte<T>(config, seed)),
                                                      wpe(detail::fresh_wpe<T>(config, seed)) {}

/// The tables are public, so they are compared before every use.
template <Scalar T, Table Wte, Table Wpe>
requires std::same_as<table_scalar_t<Wte>, T> && std::same_as<table_scalar_t<Wpe>, T>
void GPT2Embeddings<T, Wte, Wpe>::check_tables() const {
  if (wte.embedding_dim() != wpe.embedding_dim()) {
    throw ShapeError("", "wpe", detail::to_text({wpe.num_embeddings(), wte.embedding_dim()}),
                     detail::to_text({wpe.num_embeddings(), wpe.embedding_dim()}));
  }
}

template <Scalar T, Table Wte, Table Wpe>
requires std::same_as<table_scalar_t<Wte>, T> && std::same_as<table_scalar_t<Wpe>, T>
template <class Out, class D, class X, class P, class... Types>
void GPT2Embeddings<T, Wte, Wpe>::write_sum(Out& out, const D& device, const detail::StoredIds<X>& input_ids,
                                            const detail::StoredIds<P>& position_ids,
                                            const detail::StoredIds<Types>&... token_type_ids) const {
  check_tables();
  const auto shape = input_ids.shape();
  const auto tokens = detail::token_rows(wte, input_ids);
  const auto positions = detail::position_rows(wpe, position_ids, shape);
  const auto sum = [&](const auto&... types) {
    const auto rows = detail::checked_rows(out, shape, wte.embedding_dim(), detail::out_argument);
    detail::sum_rows<Accumulator<T>>(shape, rows, device, tokens, positions, types...);
  };
  sum(detail::type_rows(wte, token_type_ids, shape)...);
}

template <Scalar T, Table Wte, Table Wpe>
requires std::same_as<table_scalar_t<Wte>, T> && std::same_as<table_scalar_t<Wpe>, T>
template <class D, class X, class P, class... Types>
Hidden<T, ids_rank<X>> GPT2Embeddings<T, Wte, Wpe>::sum_ids(const D& device, const X& input_ids,
                                                            const P& position_ids,
                                                            const Types&... token_type_ids) const {
  const detail::StoredIds<X> stored(input_ids);
  auto out = detail::make_hidden<T, ids_rank<X>>(stored.shape(), wte.embedding_dim());
  write_sum(out, device, stored, detail::StoredIds<P>(position_ids),
            detail::StoredIds<Types>(token_type_ids)...);
  return out;
}

template <Scalar T, Table Wte, Table Wpe>
requires std::same_as<table_scalar_t<Wte>, T> && std::same_as<table_scalar_t<Wpe>, T>
template <class Out, class D, class E, class P, class... Types>
void GPT2Embeddings<T, Wte, Wpe>::write_embeds_sum(Out& out, const D& device, const E& inputs_embeds,
                                                   const detail::StoredIds<P>& position_ids,
                                                   const detail::StoredIds<Types>&... token_type_ids) const {
  static_assert(HiddenOfRank<Out, detail::embeds_rank<E, P, Types...>>, "a sequence's out is a matrix");
  check_tables();
  const auto shape = detail::embeds_shape(inputs_embeds, position_ids, token_type_ids...);
  const auto given =
      detail::checked_rows(inputs_embeds, shape, wte.embedding_dim(), detail::inputs_embeds_argument);
  const detail::GivenRows embeds{given, shape.seq_length};
  const auto positions = detail::position_rows(wpe, position_ids, shape);
  const auto sum = [&](const auto&... types) {
    const auto rows = detail::checked_rows(out, shape, wte.embedding_dim(), detail::out_argument);
    detail::sum_rows<Accumulator<T>>(shape, rows, device, embeds, positions, types...);
  };
  sum(detail::type_rows(wte, token_type_ids, shape)...);
}

template <Scalar T, Table Wte, Table Wpe>
requires std::same_as<table_scalar_t<Wte>, T> && std::same_as<table_scalar_t<Wpe>, T>
template <class D, class E, class P, class... Types>
auto GPT2Embeddings<T, Wte, Wpe>::sum_embeds(const D& device, const E& inputs_embeds,
                                             const detail::StoredIds<P>& position_ids,
                                             const detail::StoredIds<Types>&... token_type_ids) const {
  const auto shape = detail::embeds_shape(inputs_embeds, position_ids, token_type_ids...);
  auto out = detail::make_hidden<T, detail::embeds_rank<E, P, Types...>>(shape, wte.embedding_dim());
  write_embeds_sum(out, device, inputs_embeds, position_ids, token_type_ids...);
  return out;
}

template <Scalar T, Table Wte, Table Wpe>
requires std::same_as<table_scalar_t<Wte>, T> && std::same_as<table_scalar_t<Wpe>, T>
template <class G, class D, class X, class P, class... Types>
void GPT2Embeddings<T, Wte, Wpe>::ids_backward(const G& grad_output, const D& device,
                                               const detail::StoredIds<X>& input_ids,
                                               const detail::StoredIds<P>& position_ids,
                                               const detail::StoredIds<Types>&... token_type_ids) {
  check_tables();
  const auto shape = input_ids.shape();
  const auto tokens = detail::token_rows(wte, input_ids);
  const auto add = [&](const auto&... types) {
    add_gradients(grad_output, shape, device, detail::position_rows(wpe, position_ids, shape), tokens,
                  types...);
  };
  add(detail::type_rows(wte, token_type_ids, shape)...);
}

template <Scalar T, Table Wte, Table Wpe>
requires std::same_as<table_scalar_t<Wte>, T> && std::same_as<table_scalar_t<Wpe>, T>
template <class G, class D, class P, class... Types>
void GPT2Embeddings<T, Wte, Wpe>::embeds_backward(const G& grad_output, const D& device,
                                                  const detail::StoredIds<P>& position_ids,
                                                  const detail::StoredIds<Types>&... token_type_ids) {
  check_tables();
  const auto shape = detail::embeds_shape(grad_output, position_ids, token_type_ids...);
  const auto add = [&](const auto&... types) {
    add_gradients(grad_output, shape, device, detail::position_rows(wpe, position_ids, shape), types...);
  };
  add(detail::type_rows(wte, token_type_ids, shape)...);
}

/// Checks grad_output, then adds it to the rows of both tables, which have been checked.
template <Scalar T, Table Wte, Table Wpe>
requires std::same_as<table_scalar_t<Wte>, T> && std::same_as<table_scalar_t<Wpe>, T>
template <class G, class D, class Positions, class... Tokens>
void GPT2Embeddings<T, Wte, Wpe>::add_gradients(const G& grad_output, const detail::SequenceShape& shape,
                                                const D& device, const Positions& positions,
                                                const Tokens&... tokens) {
  const auto rows =
      detail::checked_rows(grad_output, shape, wte.embedding_dim(), detail::grad_output_argument);
  // All memory is allocated before either gradient is changed, in case it runs out.
  const std::array counts{detail::occurrences(wpe, positions), detail::occurrences(wte, tokens)...};
  if constexpr (sizeof...(tokens) > 0) (void)wte.mutable_grad();
  (void)wpe.mutable_grad();
  const auto add = [&](const auto& source, std::size_t i) {
    detail::add_gradient(wte, shape, source, counts[i], rows, device);
  };
  std::size_t i = 0;
  if constexpr (sizeof...(tokens) > 0) {
    const auto& first = std::get<0>(std::tie(tokens...));
    if (counts[0].empty() && counts[1].empty()) {  // both in one pass over grad_output
      detail::scatter_add(shape, rows, device, detail::scatter_to(wte, first),
                          detail::scatter_to(wpe, positions));
      ((i > 0 ? add(tokens, i + 1) : void(), ++i), ...);
      return;
    }
  }
  (add(tokens, ++i), ...);
  detail::add_gradient(wpe, shape, positions, counts[0], rows, device);
}

}  // namespace gpt2
