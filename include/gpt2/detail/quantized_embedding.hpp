// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The definitions of quantized_embedding.hpp.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "gpt2/detail/arguments/hidden.hpp"
#include "gpt2/detail/kernels/packets.hpp"
#include "gpt2/detail/kernels/row_sources.hpp"
#include "gpt2/detail/kernels/row_sums.hpp"
#include "gpt2/detail/same.hpp"
#include "gpt2/error.hpp"
#include "gpt2/quantized_embedding.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

namespace detail {

/// The largest magnitude of the int8 of a quantised row: -128 is not used, so both ends are equally far from zero.
inline constexpr float quantized_limit = 127;

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
      throw ArgumentError("weight", {i, j}, element, "is not a number that a float can hold");
    }
    low = (std::min)(low, element);
    high = (std::max)(high, element);
  }

  offset = static_cast<float>(low / 2 + high / 2);
  scale = 0;
  if (!detail::same(low, high) || !detail::same(static_cast<double>(offset), low)) {
    // Rounded up, so that 254 steps reach from end to end. The spacing ensures that rounding the offset moves it by no
    // more than half a step, so no element is farther than 127 steps and a half from it.
    const double step = (high - low) / (2.0 * double{quantized_limit});
    scale = static_cast<float>(step);
    if (double{scale} < step) scale = std::nextafter(scale, std::numeric_limits<float>::infinity());
    const float spacing = float_spacing(static_cast<float>((std::max)(-low, high)));
    scale = (std::max)(scale, spacing);
    // 127 steps must not overflow float, whether or not the product is rounded first. Shrinking the larger of scale and
    // offset by one ulp keeps the error bound. (A step of no more than the spacing leads from float to float.)
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
    : values_(detail::OwnedTable<std::int8_t>::uninitialised(embedding.num_embeddings(),
                                                             embedding.embedding_dim())),
      scales_(embedding.num_embeddings()),
      offsets_(embedding.num_embeddings()) {
  const auto rows = detail::rows_of(embedding.weight());
  for (Index i = 0; i < rows.rows; ++i) {
    detail::quantize_row(i, rows.cols, rows.row(i), values_.data() + i * rows.cols, scales_[i], offsets_[i]);
  }
}

template <std::same_as<detail::OwnedTable<std::int8_t>> Owned>
QuantizedEmbedding::QuantizedEmbedding(Owned values, Eigen::VectorXf scales, Eigen::VectorXf offsets)
    : values_(std::move(values)), scales_(std::move(scales)), offsets_(std::move(offsets)) {
  const auto require_numbers = [this](const char* name, const Eigen::VectorXf& numbers, float least) {
    if (numbers.size() != values_.rows()) {
      throw ShapeError("", name, detail::to_text({values_.rows()}), detail::to_text({numbers.size()}));
    }
    for (Index i = 0; i < numbers.size(); ++i) {
      if (std::isfinite(numbers[i]) && numbers[i] >= least) continue;
      throw ArgumentError(
          name, {i}, numbers[i],
          detail::same(least, 0) ? "is not a finite number of at least 0" : "is not a finite number");
    }
  };
  require_numbers("scales", scales_, 0);
  require_numbers("offsets", offsets_, std::numeric_limits<float>::lowest());
}

inline std::size_t QuantizedEmbedding::memory_bytes() const noexcept {
  return static_cast<std::size_t>(values_.size()) * sizeof(std::int8_t) +
         static_cast<std::size_t>(scales_.size() + offsets_.size()) * sizeof(float);
}

inline Eigen::Map<const Matrix<std::int8_t>> QuantizedEmbedding::values() const& noexcept { return *values_; }
inline Eigen::Map<const Eigen::VectorXf> QuantizedEmbedding::scales() const& noexcept {
  return {scales_.data(), scales_.size()};
}
inline Eigen::Map<const Eigen::VectorXf> QuantizedEmbedding::offsets() const& noexcept {
  return {offsets_.data(), offsets_.size()};
}

inline Matrix<float> QuantizedEmbedding::dequantize() const {
  Matrix<float> weight(num_embeddings(), embedding_dim());
  detail::ask_for_huge_pages(weight.data(), static_cast<std::size_t>(weight.size()) * sizeof(float));
  detail::sum_rows<float>({1, weight.rows(), 1}, detail::all_rows(weight), Eigen::DefaultDevice(),
                          detail::RowsFrom{stored_rows(*this), 0});
  return weight;
}

}  // namespace gpt2
