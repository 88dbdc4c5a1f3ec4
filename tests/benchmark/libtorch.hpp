// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// PyTorch's ways of doing the operations, without its headers. All of these are empty if the program was
/// built without libtorch. Each uses the caller's memory, and none copies it.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace libtorch {

/// Does an operation once.
using Call = std::function<void()>;

enum class Element { float32, bfloat16, float16 };

/// A table, row-major.
struct Table {
  const void* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  Element element = Element::float32;
};

/// Batches of ids, row-major; each call takes the next.
struct Ids {
  std::vector<const std::int64_t*> batches;
  std::int64_t batch = 0;
  std::int64_t seq_length = 0;
};

/// Empty without libtorch.
std::string version();
void set_threads(int threads);

/// wte[ids] + wpe[0 .. seq_length): as a model has it, with a fresh result; and into `out`.
Call sum(const Table& wte, const Table& wpe, const Ids& ids);
Call sum_into(const Table& wte, const Table& wpe, const Ids& ids, float* out);
/// The latter, and a layer norm of it into `normed`.
Call sum_and_layer_norm_into(const Table& wte, const Table& wpe, const Ids& ids, float* out,
                             const float* weight, const float* bias, float* normed);

/// table[ids] as float, into `out`.
Call lookup_into(const Table& table, const Ids& ids, float* out);

/// The gradient of the sum, added to dwte by index_add_ and to dwpe.
Call backward(float* dwte, std::int64_t rows, float* dwpe, const float* dout, std::int64_t cols,
              const Ids& ids);
/// The gradient that torch.nn.Embedding makes of dout, dense, and sparse and coalesced.
Call dense_gradient(std::int64_t rows, const float* dout, std::int64_t cols, const Ids& ids);
Call sparse_gradient(std::int64_t rows, const float* dout, std::int64_t cols, const Ids& ids);

/// hidden [n, cols] · wteᵀ, in wte's type, into a buffer of its own; and the k highest of them.
Call logits(const Table& wte, const float* hidden, std::int64_t n);
Call top_k(const Table& wte, const float* hidden, std::int64_t n, std::int64_t k);

/// Loss, gradient of hidden [n, cols], and gradient of the table, which is added to dwte.
Call cross_entropy(const Table& wte, float* dwte, const float* hidden, const std::int64_t* labels,
                   std::int64_t n);

}  // namespace libtorch
