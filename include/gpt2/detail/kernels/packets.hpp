// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Packet operations that Eigen 3.4 lacks. Half, bfloat16 and int8 as the floats that are computed with, exactly, a
/// packet at a time: Eigen converts half one by one, and bfloat16 only with AVX. Stores past the caches.

#include <algorithm>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "gpt2/scalar.hpp"

// Eigen's packet width depends on compiler flags. It is part of the mangled name of everything that depends on it,
// because a program may mix translation units built with different flags.
#if defined(EIGEN_VECTORIZE_AVX512)
#define GPT2_EMBEDDINGS_PACKETS packets_512
#elif defined(EIGEN_VECTORIZE_AVX)
#define GPT2_EMBEDDINGS_PACKETS packets_256
#elif defined(EIGEN_VECTORIZE)
#define GPT2_EMBEDDINGS_PACKETS packets_128
#else
#define GPT2_EMBEDDINGS_PACKETS scalars
#endif

// For short loops with constant trip counts, which GCC does not unroll at -O2.
#if defined(__GNUC__) && !defined(__CUDACC__)  // nvcc does not know it
#define GPT2_EMBEDDINGS_UNROLL _Pragma("GCC unroll 8")
#else
#define GPT2_EMBEDDINGS_UNROLL
#endif

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {
inline namespace GPT2_EMBEDDINGS_PACKETS {

/// The elements of one of Eigen's registers.
template <class A>
using Packet = typename Eigen::internal::packet_traits<A>::type;
template <class A>
inline constexpr Index packet_size = Eigen::internal::unpacket_traits<Packet<A>>::size;

/// The value of a stored scalar.
[[nodiscard]] inline float widened(Eigen::bfloat16 x) noexcept {
  return std::bit_cast<float>(std::uint32_t{std::bit_cast<std::uint16_t>(x)} << 16U);
}
/// Small halves are denormal, but no arithmetic here has a denormal float: with -ffast-math processors take those for
/// zeros.
[[nodiscard]] inline float widened(Eigen::half x) noexcept {
  const std::uint32_t bits = std::bit_cast<std::uint16_t>(x);
  const std::uint32_t exponent = bits >> 10U & 0x1FU;
  const std::uint32_t fraction = bits & 0x3FFU;
  const std::uint32_t sign = bits >> 15U << 31U;
  const std::uint32_t magnitude =
      exponent == 0
          ? std::bit_cast<std::uint32_t>(static_cast<float>(static_cast<std::int32_t>(fraction)) * 0x1p-24F)
          : (exponent == 0x1FU ? 0xFFU : exponent + 112U) << 23U | fraction << 13U;
  return std::bit_cast<float>(magnitude | sign);
}
[[nodiscard]] inline float widened(std::int8_t x) noexcept { return static_cast<float>(x); }
[[nodiscard]] inline float widened(float x) noexcept { return x; }
[[nodiscard]] inline double widened(double x) noexcept { return x; }

/// a * b + c, rounded once if the program is compiled for FMA. Written out, GCC might fuse it in one instantiation and
/// not in another, and results would depend on the device or on a shape.
template <std::floating_point A>
[[nodiscard]] A multiply_add(A a, A b, A c) noexcept {
#ifdef __FP_FAST_FMA
  return std::fma(a, b, c);
#else
  return a * b + c;
#endif
}

template <class P>
requires(!std::floating_point<P>) [[nodiscard]] P multiply_add(const P& a, const P& b, const P& c) noexcept {
  return Eigen::internal::pmadd(a, b, c);
}

/// The values of as many stored scalars as a register holds, at any address. Types without a specialisation below are
/// converted one by one.
template <class P, class S>
[[nodiscard]] P load_widened(const S* from) {
  using A = typename Eigen::internal::unpacket_traits<P>::type;
  if constexpr (std::is_same_v<S, A>) {
    return Eigen::internal::ploadu<P>(from);
  } else {
    A values[Eigen::internal::unpacket_traits<P>::size];
    for (A& value : values) value = widened(*from++);
    return Eigen::internal::ploadu<P>(values);
  }
}

#ifdef EIGEN_VECTORIZE_SSE2
template <>
[[nodiscard]] inline __m128 load_widened<__m128>(const Eigen::bfloat16* from) {
  const __m128i bits = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), bits));
}
template <>
[[nodiscard]] inline __m128 load_widened<__m128>(const Eigen::half* from) {
  const __m128i bits = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
#ifdef __F16C__
  return _mm_cvtph_ps(bits);
#else
  // Exponent and mantissa in a float's places; the exponent is then 112 too small. Infinities and NaNs have all its
  // bits set in either format. A denormal x is (2^-14 + x) - 2^-14, whose sum is a normal number.
  const __m128i wide = _mm_unpacklo_epi16(bits, _mm_setzero_si128());
  const __m128i magnitude = _mm_slli_epi32(_mm_and_si128(wide, _mm_set1_epi32(0x7FFF)), 13);
  const __m128i is_special = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32((0x7C00 << 13) - 1));
  const __m128i special = _mm_and_si128(is_special, _mm_set1_epi32(0x7F800000));
  const __m128i normal = _mm_or_si128(_mm_add_epi32(magnitude, _mm_set1_epi32(112 << 23)), special);
  const __m128 sum = _mm_castsi128_ps(_mm_add_epi32(magnitude, _mm_set1_epi32(113 << 23)));
  const __m128i denormal = _mm_castps_si128(_mm_sub_ps(sum, _mm_set1_ps(0x1p-14F)));
  const __m128i is_denormal = _mm_cmpgt_epi32(_mm_set1_epi32(1 << 23), magnitude);
  const __m128i either =
      _mm_or_si128(_mm_and_si128(is_denormal, denormal), _mm_andnot_si128(is_denormal, normal));
  const __m128i sign = _mm_slli_epi32(_mm_srli_epi32(wide, 15), 31);
  return _mm_castsi128_ps(_mm_or_si128(either, sign));
#endif
}
template <>
[[nodiscard]] inline __m128 load_widened<__m128>(const std::int8_t* from) {
  std::int32_t bytes = 0;
  std::memcpy(&bytes, from, sizeof(bytes));
  // Each byte at the top of four, then moved down with its sign.
  const __m128i pairs = _mm_unpacklo_epi8(_mm_setzero_si128(), _mm_cvtsi32_si128(bytes));
  return _mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(_mm_setzero_si128(), pairs), 24));
}
#endif

#ifdef EIGEN_VECTORIZE_AVX2
template <>
[[nodiscard]] inline __m256 load_widened<__m256>(const Eigen::bfloat16* from) {
  const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
#ifdef __F16C__
template <>
[[nodiscard]] inline __m256 load_widened<__m256>(const Eigen::half* from) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
#endif
template <>
[[nodiscard]] inline __m256 load_widened<__m256>(const std::int8_t* from) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}
#endif

#ifdef EIGEN_VECTORIZE_AVX512
template <>
[[nodiscard]] inline __m512 load_widened<__m512>(const Eigen::bfloat16* from) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
template <>
[[nodiscard]] inline __m512 load_widened<__m512>(const Eigen::half* from) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
template <>
[[nodiscard]] inline __m512 load_widened<__m512>(const std::int8_t* from) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}
#endif

/// Stores past the caches, at an address aligned for a packet; an ordinary store if there is no such instruction. Other
/// threads see streamed stores after finish_streaming().
template <class A, class P>
void stream(A* out, const P& value) {
  Eigen::internal::pstoreu(out, value);
}
inline void finish_streaming() {
#ifdef EIGEN_VECTORIZE_SSE2
  _mm_sfence();
#endif
}
#ifdef EIGEN_VECTORIZE_SSE2
inline void stream(float* out, const __m128& value) { _mm_stream_ps(out, value); }
inline void stream(double* out, const __m128d& value) { _mm_stream_pd(out, value); }
#endif
#ifdef EIGEN_VECTORIZE_AVX
inline void stream(float* out, const __m256& value) { _mm256_stream_ps(out, value); }
inline void stream(double* out, const __m256d& value) { _mm256_stream_pd(out, value); }
#endif
#ifdef EIGEN_VECTORIZE_AVX512
inline void stream(float* out, const __m512& value) { _mm512_stream_ps(out, value); }
inline void stream(double* out, const __m512d& value) { _mm512_stream_pd(out, value); }
#endif

/// Keeps a packet in its register. GCC would load it anew for each product, of which there are fewer in the same time.
template <class P>
void keep_in_register([[maybe_unused]] P& packet) {
#if defined(EIGEN_VECTORIZE_AVX512) && defined(__GNUC__) && !defined(__clang__)
  __asm__("" : "+v"(packet));
#endif
}

/// Prefetches a cache line.
inline void prefetch(const void* line) {
  Eigen::internal::prefetch(static_cast<const char*>(line));
#ifdef __GNUC__
  // GCC drops calls of functions that do nothing but prefetch.
  __asm__ volatile("");
#endif
}

inline constexpr Index bytes_per_line = 64;

/// Prefetches columns of a row.
template <class T>
void prefetch_columns(const T* row, Index first, Index size) {
  const auto* const begin = reinterpret_cast<const char*>(row + first);
  const Index bytes = size * Index{sizeof(T)};
  for (Index i = 0; i < bytes; i += bytes_per_line) prefetch(begin + i);
}

/// out[i] = from[i].
template <class S, class A>
void widen(Index size, A* out, const S* from) {
  Index i = 0;
  for (; i + packet_size<A> <= size; i += packet_size<A>) {
    Eigen::internal::pstoreu(out + i, load_widened<Packet<A>>(from + i));
  }
  for (; i < size; ++i) out[i] = static_cast<A>(widened(from[i]));
}

}  // namespace GPT2_EMBEDDINGS_PACKETS
}  // namespace gpt2::detail
