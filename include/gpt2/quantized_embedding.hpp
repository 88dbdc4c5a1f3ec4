// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// QuantizedEmbedding: a table in a quarter of the memory, its rows int8 with a scale and an offset each; and
/// QuantizedGPT2Embeddings, the input layer of GPT-2 made of it. Both only infer.

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "gpt2/detail/arguments/broadcast.hpp"
#include "gpt2/detail/arguments/hidden.hpp"
#include "gpt2/detail/arguments/ids.hpp"
#include "gpt2/detail/kernels/head.hpp"
#include "gpt2/detail/kernels/packets.hpp"
#include "gpt2/detail/kernels/row_sums.hpp"
#include "gpt2/embedding.hpp"
#include "gpt2/error.hpp"
#include "gpt2/lm_head.hpp"
#include "gpt2/position_ids.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// A table of int8 rows: element (i, j) is scales[i] * values(i, j) + offsets[i], a float.
///
/// An offset is the middle of its row's range, a scale 1/254 of the range, so a row keeps 255 different
/// values, evenly spaced. With M the largest magnitude in the row, an element is off by at most
///
///     scale / 2 + 2^-23 * (M + scale)
///
/// half a step, and what floats round off. A scale is never less than the distance of the floats around M, so
/// the first term is what counts where a row has a range worth mentioning; a row of equal floats is kept
/// exactly, with a scale of 0.
///
/// It takes embedding_dim + 8 bytes for each row: 0.253 of a float table for GPT-2's 768 columns. Const
/// member functions may be called from several threads at once.
class QuantizedEmbedding {
 public:
  /// Quantises a table.
  /// Throws: ArgumentError by the name "weight[row, column]" if an element is NaN or infinite, or a double
  /// that no float comes near.
  template <Scalar T>
  explicit QuantizedEmbedding(const Embedding<T>& embedding);

  /// Takes parts that are there already, from a file, say.
  /// Shape: values `[num_embeddings, embedding_dim]`, scales and offsets `[num_embeddings]`.
  /// Throws: ShapeError if scales or offsets do not have an element for each row; ArgumentError by the name
  /// "scales[row]" or "offsets[row]" if one is NaN or infinite, or a scale negative.
  QuantizedEmbedding(Matrix<std::int8_t> values, Eigen::VectorXf scales, Eigen::VectorXf offsets);

  /// The number of rows.
  [[nodiscard]] Index num_embeddings() const noexcept { return values_.rows(); }
  /// The number of columns.
  [[nodiscard]] Index embedding_dim() const noexcept { return values_.cols(); }
  /// How many bytes the table takes: those of its three parts.
  [[nodiscard]] std::size_t memory_bytes() const noexcept;

  /// The int8 of the table.
  /// Shape: `[num_embeddings, embedding_dim]`.
  /// Lifetime: valid until the QuantizedEmbedding is assigned to or destroyed.
  [[nodiscard]] Eigen::Map<const Matrix<std::int8_t>> values() const noexcept;
  /// A scale for each row.
  /// Shape: `[num_embeddings]`.
  /// Lifetime: as values().
  [[nodiscard]] Eigen::Map<const Eigen::VectorXf> scales() const noexcept;
  /// An offset for each row.
  /// Shape: `[num_embeddings]`.
  /// Lifetime: as values().
  [[nodiscard]] Eigen::Map<const Eigen::VectorXf> offsets() const noexcept;

  /// The table as floats.
  /// Shape: `[num_embeddings, embedding_dim]`.
  [[nodiscard]] Matrix<float> dequantize() const;

  /// The rows of the ids, as floats.
  /// Shape: ids `[n]` gives a Matrix `[n, embedding_dim]`; `[batch, n]` gives a Tensor3
  /// `[batch, n, embedding_dim]`.
  /// Throws: IndexError if an id is outside [0, num_embeddings).
  template <Ids X, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Hidden<float, ids_rank<X>> operator()(const X& ids, const D& device = {}) const;
  template <Id I, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Matrix<float> operator()(std::initializer_list<I> ids, const D& device = {}) const;

  /// Writes the rows of the ids to `out`, of float or double. Allocates nothing.
  /// Shape: ids `[n]`, out `[n, embedding_dim]`; or ids `[batch, n]`, out `[batch, n, embedding_dim]` or a
  /// matrix `[batch * n, embedding_dim]`.
  /// Throws: IndexError if an id is outside [0, num_embeddings); ShapeError if out does not fit. Then out is
  /// as it was.
  template <Ids X, HiddenOutput<float, ids_rank<X>> Out, Device D = Eigen::DefaultDevice>
  void forward_into(const X& ids, Out&& out, const D& device = {}) const;

 private:
  static constexpr detail::IdArgument ids_argument{"embedding", "ids"};

  Matrix<std::int8_t> values_;
  Eigen::VectorXf scales_;
  Eigen::VectorXf offsets_;
};

/// What the position table beside a quantised token table may be: it is small, so float will do.
template <class P>
concept PositionTable = std::same_as<P, Embedding<float>> || std::same_as<P, QuantizedEmbedding>;

/// The input layer of GPT-2 with a quantised token table: as GPT2Embeddings, forwards only.
///
/// The sum is `(wte[input_ids] + wpe[position_ids]) + wte[token_type_ids]` in float.
///
/// Shapes, for all that follows. input_ids: `[seq_length]` or `[batch, seq_length]`. position_ids and
/// token_type_ids: `[seq_length]`, `[1, seq_length]` or `[batch, seq_length]`; one sequence goes for the
/// whole batch. PastLength{n} may stand for position ids n, n + 1, …. Result: `[seq_length, n_embd]` or
/// `[batch, seq_length, n_embd]`.
///
/// Throws, in all that follows, with nothing written: IndexError if a token, token type or position is out of
/// its table, or past_length + seq_length is more than n_positions; ShapeError if shapes do not fit;
/// ArgumentError if a past length is negative.
template <PositionTable P>
class QuantizedGPT2Embeddings {
  using BracedIds = std::initializer_list<std::int64_t>;  // what a braced list among later arguments becomes

 public:
  /// Tables that are there already.
  /// Shape: token_table `[vocab_size, n_embd]`, position_table `[n_positions, n_embd]`.
  /// Throws: ShapeError if their embedding_dim differ.
  QuantizedGPT2Embeddings(QuantizedEmbedding token_table, P position_table)
      : wte(std::move(token_table)), wpe(std::move(position_table)) {
    check_tables();
  }

  /// Embeds tokens at the positions given, 0, 1, … if none are, and adds the embeddings of their types.
  template <Ids X, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Hidden<float, ids_rank<X>> operator()(const X& input_ids, const D& device = {}) const {
    return embed(input_ids, PastLength{}, device);
  }
  template <Ids X, PositionIds Q = BracedIds, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Hidden<float, ids_rank<X>> operator()(const X& input_ids, const Q& position_ids,
                                                      const D& device = {}) const {
    return embed(input_ids, position_ids, device);
  }
  template <Ids X, PositionIds Q = BracedIds, Ids Y = BracedIds, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Hidden<float, ids_rank<X>> operator()(const X& input_ids, const Q& position_ids,
                                                      const Y& token_type_ids, const D& device = {}) const {
    return embed(input_ids, position_ids, device, token_type_ids);
  }
  template <Id I, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Matrix<float> operator()(std::initializer_list<I> input_ids, const D& device = {}) const {
    return embed(detail::as_span(input_ids), PastLength{}, device);
  }
  template <Id I, PositionIds Q = BracedIds, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Matrix<float> operator()(std::initializer_list<I> input_ids, const Q& position_ids,
                                         const D& device = {}) const {
    return embed(detail::as_span(input_ids), position_ids, device);
  }
  template <Id I, PositionIds Q = BracedIds, Ids Y = BracedIds, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Matrix<float> operator()(std::initializer_list<I> input_ids, const Q& position_ids,
                                         const Y& token_type_ids, const D& device = {}) const {
    return embed(detail::as_span(input_ids), position_ids, device, token_type_ids);
  }

  /// Writes what operator() returns to `out`, of float or double. Allocates nothing.
  /// Shape: out `[seq_length, n_embd]`; for a batch `[batch, seq_length, n_embd]` or a matrix
  /// `[batch * seq_length, n_embd]`.
  template <Ids X, PositionIds Q, HiddenOutput<float, ids_rank<X>> Out, Device D = Eigen::DefaultDevice>
  void forward_into(const X& input_ids, const Q& position_ids, Out&& out, const D& device = {}) const {
    embed_into(detail::evaluated(input_ids), detail::evaluated(position_ids), out, device);
  }
  template <Ids X, PositionIds Q, HiddenOutput<float, ids_rank<X>> Out, Ids Y,
            Device D = Eigen::DefaultDevice>
  void forward_into(const X& input_ids, const Q& position_ids, Out&& out, const Y& token_type_ids,
                    const D& device = {}) const {
    embed_into(detail::evaluated(input_ids), detail::evaluated(position_ids), out, device,
               detail::evaluated(token_type_ids));
  }

  /// The token table, `[vocab_size, n_embd]`.
  QuantizedEmbedding wte;
  /// The position table, `[n_positions, n_embd]`.
  P wpe;

 private:
  static constexpr detail::IdArgument input_ids_argument{"wte", "input_ids"};
  static constexpr detail::IdArgument token_type_ids_argument{"wte", "token_type_ids"};
  static constexpr detail::IdArgument position_ids_argument{"wpe", "position_ids", "n_positions"};

  void check_tables() const;

  template <class Q>
  auto checked_positions(const Q& position_ids, const detail::SequenceShape& shape) const;

  template <class X, class Q, class Out, class D, class... Types>
  void embed_into(const X& input_ids, const Q& position_ids, Out&& out, const D& device,
                  const Types&... token_type_ids) const;

  template <class X, class Q, class D, class... Types>
  Hidden<float, ids_rank<X>> embed(const X& input_ids, const Q& position_ids, const D& device,
                                   const Types&... token_type_ids) const {
    const auto& in_memory = detail::evaluated(input_ids);
    auto out = detail::make_hidden<float, ids_rank<X>>(detail::shape_of(detail::id_view(in_memory)),
                                                       wte.embedding_dim());
    embed_into(in_memory, detail::evaluated(position_ids), out, device, detail::evaluated(token_type_ids)...);
    return out;
  }
};

/// logits() of a quantised table; A is float. As in the other three functions for it, the int8 rows are
/// multiplied as they are, in float, which overflows for states about 2^-7 times as large as a float table
/// takes; scale and offset are applied to the sums, in double.
/// Shape, Throws, Complexity: as for a float table.
template <HiddenInput<float, 2> H, Device D = Eigen::DefaultDevice>
[[nodiscard]] Matrix<float> logits(const QuantizedEmbedding& wte, const H& hidden,
                                   const HeadOptions& options = {}, const D& device = {});
/// logits_into() for a quantised table.
/// Shape, Throws, Complexity: as for a float table.
template <HiddenInput<float, 2> H, HeadOutput<float> Out, Device D = Eigen::DefaultDevice>
void logits_into(const QuantizedEmbedding& wte, const H& hidden, Out&& out, const HeadOptions& options = {},
                 const D& device = {});
/// top_k() of a quantised table.
/// Shape, Throws, Complexity: as for a float table.
template <HiddenInput<float, 2> H, Device D = Eigen::DefaultDevice>
[[nodiscard]] TopK<float> top_k(const QuantizedEmbedding& wte, const H& hidden, Index k,
                                const HeadOptions& options = {}, const D& device = {});
/// cross_entropy_loss() of a quantised table.
/// Shape, Throws, Complexity: as for a float table.
template <HiddenInput<float, 2> H, Ids L, Device D = Eigen::DefaultDevice>
[[nodiscard]] float cross_entropy_loss(const QuantizedEmbedding& wte, const H& hidden, const L& labels,
                                       const CrossEntropyOptions& options = {}, const D& device = {});

// Implementation.

namespace detail {

/// How far from zero the int8 of a quantised row go: -128 is not used, so that both ends are as far.
inline constexpr float quantized_limit = 127;

/// A row of int8, and what makes floats of them.
struct QuantizedRow {
  const std::int8_t* values;
  float scale;
  float offset;
};

/// The rows of a quantised or a float table at ids that have been checked. `ids` is called with (sequence,
/// place): an IdView, or something that computes them.
template <class IdAt>
struct QuantizedRowsAt {
  const QuantizedEmbedding& table;
  IdAt ids;

  QuantizedRow operator()(Index sequence, Index place) const {
    const auto i = static_cast<Index>(ids(sequence, place));
    return {table.values().data() + i * table.embedding_dim(), table.scales()[i], table.offsets()[i]};
  }
};
template <class IdAt>
struct FloatRowsAt {
  RowView<const float> table;
  IdAt ids;

  const float* operator()(Index sequence, Index place) const {
    return table.row(static_cast<Index>(ids(sequence, place)));
  }
};

template <class IdAt>
QuantizedRowsAt<IdAt> row_source(const QuantizedEmbedding& table, const IdAt& ids) {
  return {table, ids};
}
template <class IdAt>
FloatRowsAt<IdAt> row_source(const Embedding<float>& table, const IdAt& ids) {
  return {rows_of(table.weight()), ids};
}

[[nodiscard]] inline QuantizedRow from_column(const QuantizedRow& row, Index column) {
  return {row.values + column, row.scale, row.offset};
}
inline void prefetch_columns(const QuantizedRow& row, Index first, Index size) {
  prefetch_columns(row.values, first, size);
}
inline namespace GPT2_EMBEDDINGS_PACKETS {
template <class P>
[[nodiscard]] P dequantized(const QuantizedRow& row, const P& values) {
  using Eigen::internal::pset1;
  return Eigen::internal::pmadd(values, pset1<P>(row.scale), pset1<P>(row.offset));
}
template <class A>
[[nodiscard]] Packet<A> load_packet(const QuantizedRow& row, Index column) {
  return dequantized(row, load_packet<A>(row.values, column));
}
template <class A>
[[nodiscard]] Packet<A> load_packet(const QuantizedRow& row, Index column, Index size) {
  return dequantized(row, load_packet<A>(row.values, column, size));
}
#ifdef GPT2_EMBEDDINGS_DISPATCH
[[nodiscard]] GPT2_EMBEDDINGS_AVX2 inline EightFloats load_eight(const QuantizedRow& row) {
  return load_eight(row.values) * row.scale + row.offset;
}
#endif
}  // namespace GPT2_EMBEDDINGS_PACKETS

[[nodiscard]] inline Head<std::int8_t> checked_head(const QuantizedEmbedding& wte,
                                                    const HeadOptions& options) {
  const auto values = wte.values();
  return checked_head(Head<std::int8_t>{{values.data(), values.rows(), values.cols(), values.cols()},
                                        wte.scales().data(),
                                        wte.offsets().data()},
                      options);
}

/// The distance of x, which is finite and not negative, to the float below.
[[nodiscard]] inline float float_spacing(float x) { return x - std::nextafter(x, -1.0F); }

/// Quantises row i of a table.
/// Throws: ArgumentError.
template <class T>
void quantize_row(Index i, Index size, const T* row, std::int8_t* values, float& scale, float& offset) {
  constexpr auto most = double{(std::numeric_limits<float>::max)()};
  double low = size > 0 ? std::numeric_limits<double>::infinity() : 0;
  double high = -low;
  for (Index j = 0; j < size; ++j) {
    const double element{widened(row[j])};
    if (!(std::abs(element) <= most)) {
      throw ArgumentError("weight" + to_text({i, j}), element, "is not a number that a float can hold");
    }
    low = (std::min)(low, element);
    high = (std::max)(high, element);
  }

  offset = static_cast<float>(low / 2 + high / 2);
  scale = 0;
  if (low != high || static_cast<double>(offset) != low) {
    // Rounded up, so that 254 steps reach from end to end. The spacing makes sure that rounding the offset
    // moves it by no more than half a step, so that no element is farther than 127 steps and a half from it.
    const double step = (high - low) / (2.0 * double{quantized_limit});
    scale = static_cast<float>(step);
    if (double{scale} < step) scale = std::nextafter(scale, std::numeric_limits<float>::infinity());
    const float spacing = float_spacing(static_cast<float>(std::max(-low, high)));
    scale = (std::max)(scale, spacing);
    // Nor may 127 steps lead beyond all floats, whether their product is rounded by itself or not. Less of what is
    // larger, scale or offset, is as good. (Where a step is no more than the spacing, it leads from float to float.)
    constexpr double infinite = 0x1.ffffffp127;  // the least that is rounded to infinity
    while (scale > spacing) {
      const double reach =
          (std::max)(double{quantized_limit * scale}, double{quantized_limit} * double{scale});
      if (std::abs(double{offset}) + reach < infinite) break;
      float& larger = std::abs(double{offset}) > reach ? offset : scale;
      larger = std::nextafter(larger, 0.0F);
    }
  }
  for (Index j = 0; j < size; ++j) {
    const double steps = scale > 0 ? (double{widened(row[j])} - double{offset}) / double{scale} : 0;
    values[j] = static_cast<std::int8_t>(
        std::clamp(std::nearbyint(steps), -double{quantized_limit}, double{quantized_limit}));
  }
}

}  // namespace detail

template <Scalar T>
QuantizedEmbedding::QuantizedEmbedding(const Embedding<T>& embedding)
    : values_(embedding.num_embeddings(), embedding.embedding_dim()),
      scales_(embedding.num_embeddings()),
      offsets_(embedding.num_embeddings()) {
  const auto rows = detail::rows_of(embedding.weight());
  for (Index i = 0; i < rows.rows; ++i) {
    detail::quantize_row(i, rows.cols, rows.row(i), values_.data() + i * rows.cols, scales_[i], offsets_[i]);
  }
}

inline QuantizedEmbedding::QuantizedEmbedding(Matrix<std::int8_t> values, Eigen::VectorXf scales,
                                              Eigen::VectorXf offsets)
    : values_(std::move(values)), scales_(std::move(scales)), offsets_(std::move(offsets)) {
  const auto check = [this](const char* name, const Eigen::VectorXf& numbers, float least) {
    if (numbers.size() != values_.rows()) {
      throw ShapeError(name, detail::to_text({values_.rows()}), detail::to_text({numbers.size()}));
    }
    for (Index i = 0; i < numbers.size(); ++i) {
      if (std::isfinite(numbers[i]) && numbers[i] >= least) continue;
      throw ArgumentError(name + detail::to_text({i}), numbers[i],
                          least == 0 ? "is not a finite number of at least 0" : "is not a finite number");
    }
  };
  check("scales", scales_, 0);
  check("offsets", offsets_, std::numeric_limits<float>::lowest());
}

inline std::size_t QuantizedEmbedding::memory_bytes() const noexcept {
  return static_cast<std::size_t>(values_.size()) * sizeof(std::int8_t) +
         static_cast<std::size_t>(scales_.size() + offsets_.size()) * sizeof(float);
}

inline Eigen::Map<const Matrix<std::int8_t>> QuantizedEmbedding::values() const noexcept {
  return {values_.data(), values_.rows(), values_.cols()};
}
inline Eigen::Map<const Eigen::VectorXf> QuantizedEmbedding::scales() const noexcept {
  return {scales_.data(), scales_.size()};
}
inline Eigen::Map<const Eigen::VectorXf> QuantizedEmbedding::offsets() const noexcept {
  return {offsets_.data(), offsets_.size()};
}

inline Matrix<float> QuantizedEmbedding::dequantize() const {
  Matrix<float> weight(num_embeddings(), embedding_dim());
  const auto every_row = [](Index /*sequence*/, Index place) { return place; };
  const detail::RowView<float> out{weight.data(), weight.rows(), weight.cols(), weight.cols()};
  detail::sum_rows<float>({1, weight.rows(), 1}, out, Eigen::DefaultDevice(),
                          detail::row_source(*this, every_row));
  return weight;
}

template <Ids X, HiddenOutput<float, ids_rank<X>> Out, Device D>
void QuantizedEmbedding::forward_into(const X& ids, Out&& out, const D& device) const {
  const auto& in_memory = detail::evaluated(ids);
  const auto view = detail::id_view(in_memory);
  detail::check_ids(view, num_embeddings(), ids_argument);
  const auto shape = detail::shape_of(view);
  const auto rows = detail::checked_rows(out, shape, embedding_dim(), "embedding: out");
  detail::sum_rows<float>(shape, rows, device, detail::row_source(*this, view));
}

template <Ids X, Device D>
Hidden<float, ids_rank<X>> QuantizedEmbedding::operator()(const X& ids, const D& device) const {
  const auto& in_memory = detail::evaluated(ids);
  const auto view = detail::id_view(in_memory);
  detail::check_ids(view, num_embeddings(), ids_argument);
  auto out = detail::make_hidden<float, ids_rank<X>>(detail::shape_of(view), embedding_dim());
  forward_into(in_memory, out, device);
  return out;
}

template <Id I, Device D>
Matrix<float> QuantizedEmbedding::operator()(std::initializer_list<I> ids, const D& device) const {
  return (*this)(detail::as_span(ids), device);
}

// The tables are public, so they are compared before every use.
template <PositionTable P>
void QuantizedGPT2Embeddings<P>::check_tables() const {
  if (wte.embedding_dim() != wpe.embedding_dim()) {
    throw ShapeError("wpe", detail::to_text({wpe.num_embeddings(), wte.embedding_dim()}),
                     detail::to_text({wpe.num_embeddings(), wpe.embedding_dim()}));
  }
}

template <PositionTable P>
template <class Q>
auto QuantizedGPT2Embeddings<P>::checked_positions(const Q& position_ids,
                                                   const detail::SequenceShape& shape) const {
  if constexpr (std::same_as<Q, PastLength>) {
    detail::check_past_length(position_ids.value, shape.seq_length, wpe.num_embeddings());
    return [first = position_ids.value](Index /*sequence*/, Index place) { return first + place; };
  } else {
    return detail::checked_broadcast(position_ids, shape, wpe.num_embeddings(), position_ids_argument);
  }
}

template <PositionTable P>
template <class X, class Q, class Out, class D, class... Types>
void QuantizedGPT2Embeddings<P>::embed_into(const X& input_ids, const Q& position_ids, Out&& out,
                                            const D& device, const Types&... token_type_ids) const {
  check_tables();
  const auto tokens = detail::id_view(input_ids);
  const auto shape = detail::shape_of(tokens);
  detail::check_ids(tokens, wte.num_embeddings(), input_ids_argument);
  const auto positions = checked_positions(position_ids, shape);
  const auto sum = [&](const auto&... types) {
    const auto rows = detail::checked_rows(out, shape, wte.embedding_dim(), "out");
    detail::sum_rows<float>(shape, rows, device, detail::row_source(wte, tokens),
                            detail::row_source(wpe, positions), detail::row_source(wte, types)...);
  };
  sum(detail::checked_broadcast(token_type_ids, shape, wte.num_embeddings(), token_type_ids_argument)...);
}

template <HiddenInput<float, 2> H, Device D>
Matrix<float> logits(const QuantizedEmbedding& wte, const H& hidden, const HeadOptions& options,
                     const D& device) {
  return detail::logits(detail::checked_head(wte, options), hidden, device);
}

template <HiddenInput<float, 2> H, HeadOutput<float> Out, Device D>
void logits_into(const QuantizedEmbedding& wte, const H& hidden, Out&& out, const HeadOptions& options,
                 const D& device) {
  detail::logits_into(detail::checked_head(wte, options), hidden, out, device);
}

template <HiddenInput<float, 2> H, Device D>
TopK<float> top_k(const QuantizedEmbedding& wte, const H& hidden, Index k, const HeadOptions& options,
                  const D& device) {
  return detail::top_k(detail::checked_head(wte, options), hidden, k, device);
}

template <HiddenInput<float, 2> H, Ids L, Device D>
float cross_entropy_loss(const QuantizedEmbedding& wte, const H& hidden, const L& labels,
                         const CrossEntropyOptions& options, const D& device) {
  return detail::cross_entropy_loss(detail::checked_head(wte, options.head), hidden, labels, options, device);
}

}  // namespace gpt2::inline GPT2_EMBEDDINGS_ABI
