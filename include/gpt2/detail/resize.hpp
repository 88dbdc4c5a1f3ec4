// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The definitions of resize.hpp.

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <utility>

#include "gpt2/detail/arguments/sizes.hpp"
#include "gpt2/detail/kernels/normal.hpp"
#include "gpt2/detail/kernels/philox.hpp"
#include "gpt2/detail/kernels/rounding.hpp"
#include "gpt2/detail/owned_table.hpp"
#include "gpt2/error.hpp"
#include "gpt2/resize.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

namespace detail {

/// The first rows of a table; rows beyond its end are not initialised.
template <Scalar T>
[[nodiscard]] OwnedTable<T> first_rows(const Embedding<T>& embedding, Index rows) {
  auto table = OwnedTable<T>::uninitialised(rows, embedding.embedding_dim());
  const Index kept = (std::min)(rows, embedding.num_embeddings());
  (*table).topRows(kept) = embedding.weight().topRows(kept);
  return table;
}

/// The resized table with the options of the old one.
template <Scalar T>
[[nodiscard]] Embedding<T> with_options_of(const Embedding<T>& embedding, OwnedTable<T> table) {
  EmbeddingOptions options = embedding.options();
  if (options.padding_idx && *options.padding_idx >= table.rows()) options.padding_idx.reset();
  return Embedding<T>(std::move(table), options);
}

[[nodiscard]] inline Index rounded_up(Index size, Index multiple) {
  const Index surplus = multiple > 0 ? size % multiple : 0;
  if (surplus == 0) return size;
  if (size > (std::numeric_limits<Index>::max)() - (multiple - surplus)) {
    throw ArgumentError("new_num_tokens", size, "has no multiple of " + to_text(multiple) + " above it");
  }
  return size + (multiple - surplus);
}

/// N(0, 1) for new rows.
[[nodiscard]] inline Matrix<double> standard_normal_rows(Index rows, Index cols, std::uint64_t seed) {
  Matrix<double> values(rows, cols);
  ElementBits bits(seed, 0, RandomDomain::resizing);
  for (Index i = 0; i < values.size(); ++i) {
    values.data()[i] = static_cast<double>(standard_normal(bits(static_cast<std::uint64_t>(i))));
  }
  return values;
}

/// The lower triangular L whose L · Lᵀ is the covariance of a table's rows, if that is positive definite.
template <Scalar T>
[[nodiscard]] std::optional<Eigen::MatrixXd> covariance_root(const Eigen::Map<const Matrix<T>>& table,
                                                             const Eigen::RowVectorXd& mean) {
  const Index rows = table.rows();
  const Index cols = table.cols();
  if (rows <= cols) return std::nullopt;  // rows less their mean span at most rows - 1 dimensions
  Eigen::MatrixXd covariance = Eigen::MatrixXd::Zero(cols, cols);
  constexpr Index rows_per_part = 1024;  // fit the cache in double
  for (Index first = 0; first < rows; first += rows_per_part) {
    const auto part = table.middleRows(first, (std::min)(rows_per_part, rows - first));
    const Matrix<double> centred = part.template cast<double>().rowwise() - mean;
    covariance.selfadjointView<Eigen::Lower>().rankUpdate(centred.transpose());
  }
  covariance /= static_cast<double>(rows);
  const Eigen::LLT<Eigen::MatrixXd> cholesky(covariance);
  if (cholesky.info() != Eigen::Success) return std::nullopt;
  // A pivot that is no more than the rounding of its column, or of the mean, is a zero. (NaN fails this test as well.)
  Eigen::MatrixXd root = cholesky.matrixL();
  const double rounding = std::numeric_limits<double>::epsilon() * static_cast<double>(rows);
  for (Index i = 0; i < cols; ++i) {
    const double pivot = root(i, i) * root(i, i);
    const double rounding_of_mean = rounding * mean[i];
    if (!(pivot > rounding * covariance(i, i) + rounding_of_mean * rounding_of_mean)) return std::nullopt;
  }
  return root;
}

/// Rows distributed about the table's mean. The table has at least one row.
template <Scalar T>
[[nodiscard]] Matrix<double> rows_about_mean(const Eigen::Map<const Matrix<T>>& table, Index rows,
                                             std::uint64_t seed) {
  constexpr double covariance_scale = 1e-9;
  const Eigen::RowVectorXd mean = table.template cast<double>().colwise().mean();
  const std::optional<Eigen::MatrixXd> root = covariance_root(table, mean);
  if (!root) return mean.replicate(rows, 1);
  const Matrix<double> deviations = standard_normal_rows(rows, table.cols(), seed) * root->transpose();
  return (std::sqrt(covariance_scale) * deviations).rowwise() + mean;
}

}  // namespace detail

template <Scalar T>
Embedding<T> resize_token_embeddings(const Embedding<T>& embedding, Index new_num_tokens,
                                     const ResizeOptions& options) {
  detail::check_size("new_num_tokens", new_num_tokens);
  detail::check_size("pad_to_multiple_of", options.pad_to_multiple_of);
  const Index old_rows = embedding.num_embeddings();
  const Index cols = embedding.embedding_dim();
  const Index rows = detail::rounded_up(new_num_tokens, options.pad_to_multiple_of);
  detail::check_table_size<double>("new_num_tokens", rows, cols);

  detail::OwnedTable<T> table = detail::first_rows(embedding, rows);
  if (rows > old_rows && cols > 0) {
    const Index added = rows - old_rows;
    const Matrix<double> values = options.mean_resizing && old_rows > 0
                                      ? detail::rows_about_mean(embedding.weight(), added, options.seed)
                                      : 0.02 * detail::standard_normal_rows(added, cols, options.seed);
    (*table).bottomRows(added) = values.unaryExpr([](double value) { return detail::convert<T>(value); });
  }
  return detail::with_options_of(embedding, std::move(table));
}

namespace detail {

/// Fills a table with the rows of a smaller one, which has at least two, stretched over it.
template <Scalar T>
void interpolate_rows(const Eigen::Map<const Matrix<T>>& from, Eigen::Map<Matrix<T>>& table) {
  // Row i falls on i * (from.rows() - 1) / steps of the old ones: `beyond` steps-th parts after row `below`.
  const Index steps = table.rows() - 1;
  for (Index i = 0, below = 0, beyond = 0; i <= steps; ++i) {
    if (beyond == 0) {
      table.row(i) = from.row(below);
    } else {
      const double t = static_cast<double>(beyond) / static_cast<double>(steps);
      for (Index j = 0; j < table.cols(); ++j) {
        const auto a = static_cast<double>(from(below, j));
        const auto b = static_cast<double>(from(below + 1, j));
        table(i, j) = convert<T>(std::lerp(a, b, t));
      }
    }
    beyond += from.rows() - 1;
    if (beyond >= steps) {
      beyond -= steps;
      ++below;
    }
  }
}

}  // namespace detail

template <Scalar T>
Embedding<T> resize_positions(const Embedding<T>& embedding, Index new_n_positions, PositionGrowth growth) {
  const Index old_rows = embedding.num_embeddings();
  detail::check_table_size<T>("new_n_positions", new_n_positions, embedding.embedding_dim());

  detail::OwnedTable<T> owned = detail::first_rows(embedding, new_n_positions);
  Eigen::Map<Matrix<T>> table = *owned;
  if (new_n_positions > old_rows) {
    auto added = table.bottomRows(new_n_positions - old_rows);
    if (growth == PositionGrowth::zero || old_rows == 0) {
      added.setZero();
    } else if (growth == PositionGrowth::repeat_last || old_rows == 1) {
      added.rowwise() = embedding.weight().row(old_rows - 1);
    } else if (table.cols() > 0) {
      detail::interpolate_rows(embedding.weight(), table);
    }
  }
  return detail::with_options_of(embedding, std::move(owned));
}

}  // namespace gpt2
