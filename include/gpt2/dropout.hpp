// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Dropout: zeroing random elements of hidden states in training, with a mask that is never stored.

#include <cmath>
#include <cstdint>

#include "gpt2/detail/arguments/hidden.hpp"
#include "gpt2/detail/kernels/parallel.hpp"
#include "gpt2/detail/kernels/philox.hpp"
#include "gpt2/detail/same.hpp"
#include "gpt2/error.hpp"
#include "gpt2/random.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// Hidden states that can be changed in place: a row-major matrix, map or block, or a Tensor3 or TensorMap.
template <class H>
concept MutableHidden = HiddenOfRank<H, 2> && Scalar<hidden_scalar_t<H>>;

/// Inverted dropout, in place: each element is dropped with probability p and otherwise multiplied by
/// 1 / (1 - p), which keeps its expectation. For training only.
///
/// Whether an element is dropped depends on the seed, the step and its row-major number alone. So backward()
/// regenerates forward()'s mask, every platform and any number of threads drop the same elements, and a
/// matrix `[batch * seq_length, n_embd]` drops those of the tensor `[batch, seq_length, n_embd]` of the same
/// memory. Layers that should drop independently of each other need different seeds.
///
/// A dropped element becomes exactly +0, even if it was infinite or NaN. A kept one is multiplied in
/// Accumulator<T> and rounded once. p = 0 changes no bit, p = 1 leaves zeros.
///
/// Source: Srivastava et al., "Dropout", JMLR 15 (2014); torch.nn.Dropout.
class Dropout {
 public:
  /// \param p     the probability of an element to be dropped, to a multiple of 2^-32
  /// \param seed  selects the sequence of masks
  /// Throws: ArgumentError if p is outside [0, 1] or NaN.
  explicit Dropout(double p, std::uint64_t seed = default_seed);

  /// The probability of an element to be dropped.
  [[nodiscard]] double p() const noexcept { return p_; }
  /// The seed.
  [[nodiscard]] std::uint64_t seed() const noexcept { return seed_; }

  /// Drops elements of hidden states by the mask of a training step.
  /// Shape: any.
  /// Complexity: O(size); allocates nothing.
  template <MutableHidden H, Device D = Eigen::DefaultDevice>
  void forward(std::uint64_t step, H&& hidden, const D& device = {}) const {
    apply(step, hidden, device);
  }

  /// Turns the gradient of forward()'s output, at the same step, into the gradient of its input: the same
  /// elements are dropped, the same factor is applied.
  /// Shape: that of hidden, as a matrix or a tensor.
  template <MutableHidden G, Device D = Eigen::DefaultDevice>
  void backward(std::uint64_t step, G&& grad, const D& device = {}) const {
    apply(step, grad, device);
  }

 private:
  template <class H, class D>
  void apply(std::uint64_t step, H& hidden, const D& device) const;

  double p_;
  std::uint64_t seed_;
};

// Implementation.

inline Dropout::Dropout(double p, std::uint64_t seed) : p_(p), seed_(seed) {
  if (!(p >= 0 && p <= 1)) throw ArgumentError("p", p, "is outside [0, 1]");
}

template <class H, class D>
void Dropout::apply(std::uint64_t step, H& hidden, const D& device) const {
  using T = hidden_scalar_t<H>;
  using A = Accumulator<T>;
  if (detail::same(p_, 0)) return;  // a multiplication by 1 would make a signalling NaN a quiet one
  const detail::RowView<T> rows = detail::all_rows(hidden);
  const auto first_kept = static_cast<std::uint64_t>(std::ceil(p_ * 0x1p32));
  const A scale = p_ < 1 ? static_cast<A>(1 / (1 - p_)) : A{0};
  // Drawing an element's bits takes the time of moving about 64 bytes.
  detail::for_rows(device, rows.rows, rows.cols * 64, [&](Index first, Index last) {
    detail::ElementBits bits(seed_, step, detail::RandomDomain::dropout);
    auto element = static_cast<std::uint64_t>(first) * static_cast<std::uint64_t>(rows.cols);
    for (Index i = first; i < last; ++i) {
      T* const row = rows.row(i);
      for (Index j = 0; j < rows.cols; ++j, ++element) {
        const bool kept = bits(element) >= first_kept;
        row[j] = static_cast<T>(kept ? static_cast<A>(row[j]) * scale : A{0});
      }
    }
  });
}

}  // namespace gpt2
