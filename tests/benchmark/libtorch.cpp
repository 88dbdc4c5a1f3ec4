// SPDX-License-Identifier: MIT

#include "libtorch.hpp"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/core/InferenceMode.h>
#include <torch/version.h>

#include <utility>

namespace libtorch {

namespace {

// Views of the caller's memory. PyTorch has no notion of const memory; inputs are not written to.

at::Tensor view(float* data, at::IntArrayRef shape) { return at::from_blob(data, shape, at::kFloat); }

at::Tensor view(const float* data, at::IntArrayRef shape) {
  return at::from_blob(const_cast<float*>(data), shape, at::kFloat);
}

at::Tensor view(const Table& table) {
  const auto type = table.element == Element::bfloat16  ? at::kBFloat16
                    : table.element == Element::float16 ? at::kHalf
                                                        : at::kFloat;
  return at::from_blob(const_cast<void*>(table.data), {table.rows, table.cols}, type);
}

/// The batches as tensors, and which is next.
class IdTensors {
 public:
  IdTensors(const Ids& ids, bool flat) {
    for (const std::int64_t* data : ids.batches) {
      auto batch = at::from_blob(const_cast<std::int64_t*>(data), {ids.batch, ids.seq_length}, at::kLong);
      batches_.push_back(flat ? batch.flatten() : batch);
    }
  }
  const at::Tensor& next() { return batches_[std::exchange(next_, (next_ + 1) % batches_.size())]; }

 private:
  std::vector<at::Tensor> batches_;
  std::size_t next_ = 0;
};

}  // namespace

std::string version() { return TORCH_VERSION; }

void set_threads(int threads) { at::set_num_threads(threads); }

Call sum(const Table& wte, const Table& wpe, const Ids& ids) {
  return
      [wte = view(wte), wpe = view(wpe).narrow(0, 0, ids.seq_length), ids = IdTensors(ids, false)]() mutable {
        const c10::InferenceMode guard;
        const at::Tensor hidden = at::embedding(wte, ids.next()) + wpe;
      };
}

Call sum_into(const Table& wte, const Table& wpe, const Ids& ids, float* out) {
  auto flat = view(out, {ids.batch * ids.seq_length, wte.cols});
  const auto hidden = flat.view({ids.batch, ids.seq_length, wte.cols});
  return [wte = view(wte), wpe = view(wpe).narrow(0, 0, ids.seq_length), ids = IdTensors(ids, true), flat,
          hidden]() mutable {
    const c10::InferenceMode guard;
    at::index_select_out(flat, wte, 0, ids.next());
    hidden.add_(wpe);
  };
}

Call sum_and_layer_norm_into(const Table& wte, const Table& wpe, const Ids& ids, float* out,
                             const float* weight, const float* bias, float* normed) {
  const std::int64_t cols = wte.cols;
  const std::int64_t tokens = ids.batch * ids.seq_length;
  return [first = sum_into(wte, wpe, ids, out), cols, hidden = view(out, {tokens, cols}),
          weight = view(weight, {cols}), bias = view(bias, {cols}), result = view(normed, {tokens, cols}),
          mean = at::empty({tokens, 1}), scale = at::empty({tokens, 1})]() mutable {
    const c10::InferenceMode guard;
    first();
    at::native_layer_norm_out(result, mean, scale, hidden, {cols}, weight, bias, 1e-5);
  };
}

Call lookup_into(const Table& table, const Ids& ids, float* out) {
  const std::int64_t tokens = ids.batch * ids.seq_length;
  const auto tensor = view(table);
  return [tensor, ids = IdTensors(ids, true), out = view(out, {tokens, table.cols}),
          rows = at::empty({tokens, table.cols}, tensor.options())]() mutable {
    const c10::InferenceMode guard;
    at::index_select_out(rows, tensor, 0, ids.next());
    out.copy_(rows);
  };
}

Call backward(float* dwte, std::int64_t rows, float* dwpe, const float* dout, std::int64_t cols,
              const Ids& ids) {
  const auto flat = view(dout, {ids.batch * ids.seq_length, cols});
  return [dwte = view(dwte, {rows, cols}), dwpe = view(dwpe, {ids.seq_length, cols}), flat,
          grad = flat.view({ids.batch, ids.seq_length, cols}), ids = IdTensors(ids, true)]() mutable {
    const c10::InferenceMode guard;
    dwte.index_add_(0, ids.next(), flat);
    dwpe.add_(grad.sum(0));
  };
}

Call dense_gradient(std::int64_t rows, const float* dout, std::int64_t cols, const Ids& ids) {
  return [rows, grad = view(dout, {ids.batch, ids.seq_length, cols}), ids = IdTensors(ids, false)]() mutable {
    const c10::InferenceMode guard;
    at::embedding_dense_backward(grad, ids.next(), rows, -1, false);
  };
}

Call sparse_gradient(std::int64_t rows, const float* dout, std::int64_t cols, const Ids& ids) {
  return [rows, grad = view(dout, {ids.batch, ids.seq_length, cols}), ids = IdTensors(ids, false)]() mutable {
    const c10::InferenceMode guard;
    const at::Tensor sparse = at::embedding_sparse_backward(grad, ids.next(), rows, -1, false).coalesce();
  };
}

Call logits(const Table& wte, const float* hidden, std::int64_t n) {
  const auto table = view(wte);
  return [transposed = table.t(), hidden = view(hidden, {n, wte.cols}).to(table.scalar_type()),
          out = at::empty({n, wte.rows}, table.options())]() mutable {
    const c10::InferenceMode guard;
    at::mm_out(out, hidden, transposed);
  };
}

Call top_k(const Table& wte, const float* hidden, std::int64_t n, std::int64_t k) {
  return [transposed = view(wte).t(), hidden = view(hidden, {n, wte.cols}), k]() mutable {
    const c10::InferenceMode guard;
    at::topk(at::mm(hidden, transposed), k);
  };
}

Call cross_entropy(const Table& wte, float* dwte, const float* hidden, const std::int64_t* labels,
                   std::int64_t n) {
  auto weight = view(wte).requires_grad_();
  weight.mutable_grad() = view(dwte, {wte.rows, wte.cols});
  return [weight, hidden = view(hidden, {n, wte.cols}),
          labels = at::from_blob(const_cast<std::int64_t*>(labels), {n}, at::kLong)]() mutable {
    auto states = hidden.detach().requires_grad_();
    at::cross_entropy_loss(at::linear(states, weight), labels).backward();
  };
}

}  // namespace libtorch
