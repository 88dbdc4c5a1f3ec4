// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Instructions of processors with AVX2, F16C and FMA, for programs that are compiled for any x86-64, as most are. The
/// kernels that use them are chosen when the program runs: half and int8 are widened twice as fast, and products with
/// hidden states formed three times as fast. Not needed when compiling for AVX; GPT2_EMBEDDINGS_NO_DISPATCH leaves them
/// out. (So does Windows, where GCC does not align wide registers on the stack.)

#include <cstdint>
#include <cstring>

#include "gpt2/detail/kernels/packets.hpp"
#include "gpt2/scalar.hpp"

#if defined(EIGEN_VECTORIZE_SSE2) && !defined(EIGEN_VECTORIZE_AVX) && defined(__x86_64__) && \
    defined(__GNUC__) && !defined(_WIN32) && !defined(GPT2_EMBEDDINGS_NO_DISPATCH)
#define GPT2_EMBEDDINGS_DISPATCH
#include <cpuid.h>

// Each function names the instructions it is compiled for. The functions it calls must be inlined, so they may not name
// others.
#define GPT2_EMBEDDINGS_AVX2 __attribute__((target("avx2,f16c")))
#define GPT2_EMBEDDINGS_AVX2_FMA __attribute__((target("avx2,f16c,fma")))
#endif

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {
inline namespace GPT2_EMBEDDINGS_PACKETS {

#ifndef GPT2_EMBEDDINGS_DISPATCH

[[nodiscard]] constexpr bool runs_avx2() noexcept { return false; }

#else

/// Whether this processor, under this operating system, runs the functions below.
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

// The compilers' own vectors and built-in functions, because <immintrin.h> takes a second to compile. Some of these
// have a name in GCC, and in Clang a general form that GCC lacks, or compiles to many instructions.
using EightFloats = float __attribute__((vector_size(32)));
using EightIntegers = std::int32_t __attribute__((vector_size(32)));

/// The elements at an address, as they are stored.
template <class Vector>
[[nodiscard]] GPT2_EMBEDDINGS_AVX2 inline Vector load_vector(const void* from) {
  Vector vector;
  std::memcpy(&vector, from, sizeof(Vector));
  return vector;
}

/// Eight elements at any address, as floats.
[[nodiscard]] GPT2_EMBEDDINGS_AVX2 inline EightFloats load_eight(const float* from) {
  return load_vector<EightFloats>(from);
}
[[nodiscard]] GPT2_EMBEDDINGS_AVX2 inline EightFloats load_eight(const Eigen::half* from) {
// GCC says that it lacks what only some functions may use.
#if !defined(__clang__) || __has_builtin(__builtin_ia32_vcvtph2ps256)
  using EightHalves = short __attribute__((vector_size(16)));
  return __builtin_ia32_vcvtph2ps256(load_vector<EightHalves>(from));
#else  // Clang 22 and later
  using EightHalves = _Float16 __attribute__((vector_size(16)));
  return __builtin_convertvector(load_vector<EightHalves>(from), EightFloats);
#endif
}
[[nodiscard]] GPT2_EMBEDDINGS_AVX2 inline EightFloats load_eight(const Eigen::bfloat16* from) {
#ifdef __clang__
  using EightBits = std::uint16_t __attribute__((vector_size(16)));
  const auto bits = __builtin_convertvector(load_vector<EightBits>(from), EightIntegers);
#else
  using EightBits = short __attribute__((vector_size(16)));
  const EightIntegers bits = __builtin_ia32_pmovzxwd256(load_vector<EightBits>(from));
#endif
  return reinterpret_cast<EightFloats>(bits << 16);
}
[[nodiscard]] GPT2_EMBEDDINGS_AVX2 inline EightFloats load_eight(const std::int8_t* from) {
#ifdef __clang__
  using EightBytes = std::int8_t __attribute__((vector_size(8)));
  const auto integers = __builtin_convertvector(load_vector<EightBytes>(from), EightIntegers);
#else
  using Bytes = char __attribute__((vector_size(16)));
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  const EightIntegers integers = __builtin_ia32_pmovsxbd256(reinterpret_cast<Bytes>(bytes));
#endif
  return __builtin_convertvector(integers, EightFloats);
}

/// If streaming, `out` is aligned to a register.
template <bool streaming>
GPT2_EMBEDDINGS_AVX2 inline void store_eight(float* out, EightFloats eight) {
  if constexpr (streaming) {
#ifdef __clang__
    __builtin_nontemporal_store(eight, reinterpret_cast<EightFloats*>(out));
#else
    __builtin_ia32_movntps256(out, eight);
#endif
  } else {
    std::memcpy(out, &eight, sizeof(eight));
  }
}

[[nodiscard]] GPT2_EMBEDDINGS_AVX2 inline float sum_of(EightFloats eight) {
  const auto four =
      __builtin_shufflevector(eight, eight, 0, 1, 2, 3) + __builtin_shufflevector(eight, eight, 4, 5, 6, 7);
  return (four[0] + four[2]) + (four[1] + four[3]);
}

/// a * b + c, rounded once. GCC contracts the operators to this only if it may depart from the standard.
[[nodiscard]] GPT2_EMBEDDINGS_AVX2_FMA inline EightFloats multiply_add(EightFloats a, EightFloats b,
                                                                       EightFloats c) {
#if __has_builtin(__builtin_elementwise_fma)
  return __builtin_elementwise_fma(a, b, c);
#else
  return __builtin_ia32_vfmaddps256(a, b, c);
#endif
}
#endif

}  // namespace GPT2_EMBEDDINGS_PACKETS
}  // namespace gpt2::detail
