// SPDX-License-Identifier: MIT

#include "plain.hpp"

#include <math.h>    // NOLINT(modernize-deprecated-headers): <cmath> defines inline functions
#include <string.h>  // NOLINT(modernize-deprecated-headers)

#ifdef __SSE2__
#include <emmintrin.h>  // its functions are always inlined
#endif

namespace plain {

namespace {

constexpr size_t rows_per_group = 8;
constexpr size_t columns_per_block = 64;

struct Group {
  size_t size = 0;
  const float* tokens[rows_per_group] = {};
  const float* positions[rows_per_group] = {};
  float* out[rows_per_group] = {};
};

/// The places that bare_forward() processes.
struct Places {
  float* out;
  const int* inp;
  const float* wte;
  const float* wpe;
  size_t batch;
  size_t seq_length;
  size_t columns;
  size_t sequence = 0;
  size_t place = 0;

  void next(Group& group) {
    group.size = 0;
    while (group.size < rows_per_group && place < seq_length) {
      const size_t token = sequence * seq_length + place;
      group.tokens[group.size] = wte + static_cast<size_t>(inp[token]) * columns;
      group.positions[group.size] = wpe + place * columns;
      group.out[group.size] = out + token * columns;
      ++group.size;
      if (++sequence == batch) {
        sequence = 0;
        ++place;
      }
    }
  }
};

void add_block(float* out, const float* a, const float* b, bool streaming) {
#ifdef __SSE2__
  // As wide as in a program for any x86-64.
  for (size_t i = 0; i < columns_per_block; i += 16) {
    const __m128 sums[] = {_mm_add_ps(_mm_loadu_ps(a + i), _mm_loadu_ps(b + i)),
                           _mm_add_ps(_mm_loadu_ps(a + i + 4), _mm_loadu_ps(b + i + 4)),
                           _mm_add_ps(_mm_loadu_ps(a + i + 8), _mm_loadu_ps(b + i + 8)),
                           _mm_add_ps(_mm_loadu_ps(a + i + 12), _mm_loadu_ps(b + i + 12))};
    for (size_t j = 0; j < 4; ++j) {
      if (streaming) {
        _mm_stream_ps(out + i + 4 * j, sums[j]);
      } else {
        _mm_storeu_ps(out + i + 4 * j, sums[j]);
      }
    }
  }
#else
  (void)streaming;
  for (size_t i = 0; i < columns_per_block; ++i) out[i] = a[i] + b[i];
#endif
}

}  // namespace

void bare_forward(float* out, const int* inp, const float* wte, const float* wpe, int batch, int seq_length,
                  int channels) {
  Places places{out,
                inp,
                wte,
                wpe,
                static_cast<size_t>(batch),
                static_cast<size_t>(seq_length),
                static_cast<size_t>(channels)};
  const size_t bytes = places.batch * places.seq_length * places.columns * sizeof(float);
  const bool streaming = bytes >= size_t{8} << 20U;
  const bool prefetching = bytes >= size_t{1} << 18U;
  Group groups[2];
  places.next(groups[0]);
  for (size_t now = 0; groups[now].size > 0; now = 1 - now) {
    const Group& group = groups[now];
    Group& next = groups[1 - now];
    places.next(next);
    for (size_t column = 0; column < places.columns; column += columns_per_block) {
      for (size_t r = 0; r < group.size; ++r) {
        if (prefetching && r < next.size) {
          for (size_t line = 0; line < columns_per_block; line += 16) {
            __builtin_prefetch(next.tokens[r] + column + line);
          }
        }
        add_block(group.out[r] + column, group.tokens[r] + column, group.positions[r] + column, streaming);
      }
    }
  }
#ifdef __SSE2__
  if (streaming) _mm_sfence();
#endif
}

void encoder_forward(float* out, const int* inp, const float* wte, const float* wpe, int batch,
                     int seq_length, int channels) {
  const auto columns = static_cast<size_t>(channels);
  for (int b = 0; b < batch; ++b) {
    for (int t = 0; t < seq_length; ++t) {
      const size_t token = static_cast<size_t>(b) * static_cast<size_t>(seq_length) + static_cast<size_t>(t);
      float* out_bt = out + token * columns;
      const float* wte_ix = wte + static_cast<size_t>(inp[token]) * columns;
      const float* wpe_t = wpe + static_cast<size_t>(t) * columns;
      for (int i = 0; i < channels; ++i) out_bt[i] = wte_ix[i] + wpe_t[i];
    }
  }
}

void encoder_backward(float* dwte, float* dwpe, const float* dout, const int* inp, int batch, int seq_length,
                      int channels) {
  const auto columns = static_cast<size_t>(channels);
  for (int b = 0; b < batch; ++b) {
    for (int t = 0; t < seq_length; ++t) {
      const size_t token = static_cast<size_t>(b) * static_cast<size_t>(seq_length) + static_cast<size_t>(t);
      const float* dout_bt = dout + token * columns;
      float* dwte_ix = dwte + static_cast<size_t>(inp[token]) * columns;
      float* dwpe_t = dwpe + static_cast<size_t>(t) * columns;
      for (int i = 0; i < channels; ++i) {
        const float d = dout_bt[i];
        dwte_ix[i] += d;
        dwpe_t[i] += d;
      }
    }
  }
}

// Eight sums at once: one would wait for the previous addition, and the compiler may not reorder them.
void layer_norm(float* out, const float* in, const float* weight, const float* bias, size_t rows,
                int channels) {
  const auto columns = static_cast<size_t>(channels);
  for (size_t row = 0; row < rows; ++row) {
    const float* x = in + row * columns;
    float* y = out + row * columns;
    float sums[32] = {};
    for (size_t i = 0; i + 32 <= columns; i += 32) {
      for (size_t j = 0; j < 32; ++j) sums[j] += x[i + j];
    }
    float mean = 0;
    for (const float sum : sums) mean += sum;
    mean /= static_cast<float>(columns);
    float squares[32] = {};
    for (size_t i = 0; i + 32 <= columns; i += 32) {
      for (size_t j = 0; j < 32; ++j) squares[j] += (x[i + j] - mean) * (x[i + j] - mean);
    }
    float variance = 0;
    for (const float square : squares) variance += square;
    variance /= static_cast<float>(columns);
    const float scale = 1 / sqrtf(variance + 1e-5F);
    for (size_t i = 0; i < columns; ++i) y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
  }
}

void copy(float* to, const float* from, size_t bytes) { memcpy(to, from, bytes); }

uint64_t read(const void* bytes, size_t size) {
  constexpr size_t streams = 4;
  constexpr size_t line = 64 / sizeof(uint64_t);
  const size_t lines = size / 64 / streams;
  const auto* words = static_cast<const uint64_t*>(bytes);
  uint64_t sums[streams][line] = {};
  for (size_t i = 0; i < lines; ++i) {
    for (size_t stream = 0; stream < streams; ++stream) {
      const uint64_t* at = words + (stream * lines + i) * line;
      for (size_t j = 0; j < line; ++j) sums[stream][j] += at[j];
    }
  }
  uint64_t sum = 0;
  for (const auto& stream : sums) {
    for (const uint64_t part : stream) sum += part;
  }
  for (size_t i = lines * streams * line; i < size / sizeof(uint64_t); ++i) sum += words[i];
  return sum;
}

void add(float* to, const float* from, size_t count) {
  for (size_t i = 0; i < count; ++i) to[i] += from[i];
}

}  // namespace plain
