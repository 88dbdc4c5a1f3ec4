// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Plain loops to compare with, and the memory traffic that no implementation can avoid. Always compiled with
/// -O3 -march=native, whatever the program's flags, and so without templates and inline functions of other headers.

#include <cstddef>
#include <cstdint>

namespace plain {

/// out[b, t] = wte[inp[b, t]] + wpe[t], as llm.c's encoder_forward does it.
void encoder_forward(float* out, const int* inp, const float* wte, const float* wpe, int batch,
                     int seq_length, int channels);

/// The same sum in the best order of memory accesses, and nothing else: no checks, no devices, no other types. Places
/// are outermost; eight rows at a time, 256 bytes of each in turn while the next eight are prefetched; stored past the
/// caches from 8 MiB on. `out` is aligned to 64 bytes, and channels are a multiple of 64.
void bare_forward(float* out, const int* inp, const float* wte, const float* wpe, int batch, int seq_length,
                  int channels);

/// dwte[inp[b, t]] += dout[b, t] and dwpe[t] += dout[b, t], as llm.c's encoder_backward does it.
void encoder_backward(float* dwte, float* dwpe, const float* dout, const int* inp, int batch, int seq_length,
                      int channels);

/// The layer norm of each row, as a first block of GPT-2 has it.
void layer_norm(float* out, const float* in, const float* weight, const float* bias, std::size_t rows,
                int channels);

/// memcpy.
void copy(float* to, const float* from, std::size_t bytes);

/// Reads all bytes, as several streams at once: the machine has more than one prefetcher. Returns their sum, so that
/// the compiler cannot leave it out.
std::uint64_t read(const void* bytes, std::size_t size);

/// to[i] += from[i]: reads once, reads and writes once.
void add(float* to, const float* from, std::size_t count);

}  // namespace plain
