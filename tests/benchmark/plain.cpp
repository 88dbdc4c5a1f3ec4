// SPDX-License-Identifier: MIT

#include "plain.hpp"

#include <math.h>    // NOLINT(modernize-deprecated-headers): <cmath> defines inline functions
#include <string.h>  // NOLINT(modernize-deprecated-headers)

namespace plain {

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
