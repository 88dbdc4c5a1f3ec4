// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Filling fresh tables: normal_, GPT-2's own initialisation, and sinusoidal, the fixed position table of the
/// original Transformer.

#include <cstdint>
#include <type_traits>

#include "gpt2/random.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

namespace detail {

/// A writable matrix of any kind, of the scalars of a table.
template <class M>
concept WritableDense = Dense<M> && !std::is_const_v<std::remove_reference_t<M>> &&
                        Scalar<typename DenseOf<M>::Scalar> && (DenseOf<M>::Flags & Eigen::LvalueBit) != 0;

}  // namespace detail

/// Fills a matrix with N(0, stddev²), rounded once to its scalar: the same numbers on every platform with
/// IEEE arithmetic, with every compiler and optimisation level (short of -ffast-math).
///
/// Element i in row-major order, whatever the storage order, is stddev * quantile((bits + 0.5) / 2^32), in which
/// bits are element i of the seed's Philox4x32-10 sequence and quantile is that of N(0, 1), to a float's
/// precision. Streams of one seed are independent of each other.
/// Throws: ArgumentError if stddev is negative or not finite.
/// Complexity: O(size).
/// Source: torch.nn.init.normal_ (the name); Wichura, Algorithm AS 241, Applied Statistics 37 (1988).
template <detail::WritableDense M>
void normal_(M&& matrix, double stddev, std::uint64_t seed = default_seed, std::uint64_t stream = 0);

/// The fixed position table of the original Transformer: sin(position / 10000^(column / n_embd)) in the even
/// columns and the cosine of the same angle in the odd column after each; wavelengths from 2π to 10000 · 2π.
/// Computed in double, rounded once.
/// Shape: `[n_positions, n_embd]`.
/// Throws: ArgumentError if a size is negative.
/// Source: Vaswani et al., "Attention is all you need", 2017, section 3.5.
template <Scalar T>
[[nodiscard]] Matrix<T> sinusoidal(Index n_positions, Index n_embd);

}  // namespace gpt2

#include "gpt2/detail/initialization.hpp"
