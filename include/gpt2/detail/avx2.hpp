// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Kernels for processors with AVX2, F16C and FMA, in programs that are compiled for any x86-64, as most are:
/// half and int8 are widened twice as fast, and products with hidden states formed three times as fast. They
/// are chosen when the program runs. A program that is compiled for AVX has no need of them, and
/// GPT2_EMBEDDINGS_NO_DISPATCH leaves them out. (So does Windows, where GCC does not align wide registers on the stack.)

#include <cstdint>

#include "gpt2/detail/widen.hpp"
#include "gpt2/types.hpp"

#if defined(EIGEN_VECTORIZE_SSE2) && !defined(EIGEN_VECTORIZE_AVX) && defined(__x86_64__) && \
    defined(__GNUC__) && !defined(_WIN32) && !defined(GPT2_EMBEDDINGS_NO_DISPATCH)
#define GPT2_EMBEDDINGS_DISPATCH
#include <cpuid.h>
#include <immintrin.h>

// Each function says what it is compiled for. What it calls must be inlined, and so say no more than that.
#define GPT2_EMBEDDINGS_AVX2 __attribute__((target("avx2,f16c")))
#define GPT2_EMBEDDINGS_AVX2_FMA __attribute__((target("avx2,f16c,fma")))
#endif

namespace gpt2::detail {
inline namespace GPT2_EMBEDDINGS_PACKETS {

#ifndef GPT2_EMBEDDINGS_DISPATCH

[[nodiscard]] constexpr bool runs_avx2() noexcept { return false; }

#else

/// Whether this processor, under this operating system, runs what follows.
[[nodiscard]] inline bool runs_avx2() noexcept {
  static const bool result = [] {
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & unsigned{bit_F16C}) != 0;
  }();
  return result;
}

/// Eight elements at any address, as floats.
[[nodiscard]] GPT2_EMBEDDINGS_AVX2 inline __m256 load_eight(const float* from) {
  return _mm256_loadu_ps(from);
}
[[nodiscard]] GPT2_EMBEDDINGS_AVX2 inline __m256 load_eight(const Eigen::bfloat16* from) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
[[nodiscard]] GPT2_EMBEDDINGS_AVX2 inline __m256 load_eight(const Eigen::half* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
[[nodiscard]] GPT2_EMBEDDINGS_AVX2 inline __m256 load_eight(const std::int8_t* from) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}

[[nodiscard]] GPT2_EMBEDDINGS_AVX2 inline float sum_of(__m256 eight) {
  __m128 sums = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  sums = _mm_add_ps(sums, _mm_movehl_ps(sums, sums));
  return _mm_cvtss_f32(_mm_add_ss(sums, _mm_movehdup_ps(sums)));
}

/// The sum of eight elements of each row, from left to right. Without FMA, so that it has the same bits as the
/// sums of the elements beside it.
template <class Row, class... Rows>
[[nodiscard]] GPT2_EMBEDDINGS_AVX2 inline __m256 sum_of_eight(const Row& row, const Rows&... rows) {
  __m256 sum = load_eight(row);
  ((sum = _mm256_add_ps(sum, load_eight(rows))), ...);
  return sum;
}

/// Products formed eight columns at a time; see CompiledProducts.
struct Avx2Products {
  static constexpr Index width = 8;

  template <unsigned states_size, unsigned rows_size, class S>
  GPT2_EMBEDDINGS_AVX2_FMA static void write(Index cols, const float* const* states, const S* const* rows,
                                             float* out, unsigned stride) {
    __m256 sums[states_size][rows_size] = {};
    for (Index column = 0; column < cols; column += width) {
      __m256 state[states_size];
      GPT2_EMBEDDINGS_UNROLL
      for (unsigned s = 0; s < states_size; ++s) state[s] = load_eight(states[s] + column);
      GPT2_EMBEDDINGS_UNROLL
      for (unsigned r = 0; r < rows_size; ++r) {
        const __m256 row = load_eight(rows[r] + column);
        GPT2_EMBEDDINGS_UNROLL
        for (unsigned s = 0; s < states_size; ++s) sums[s][r] = _mm256_fmadd_ps(state[s], row, sums[s][r]);
      }
    }
    GPT2_EMBEDDINGS_UNROLL
    for (unsigned s = 0; s < states_size; ++s) {
      GPT2_EMBEDDINGS_UNROLL
      for (unsigned r = 0; r < rows_size; ++r) out[s * stride + r] = sum_of(sums[s][r]);
    }
  }
};
#endif

}  // namespace GPT2_EMBEDDINGS_PACKETS
}  // namespace gpt2::detail
