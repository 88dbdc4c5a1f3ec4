// SPDX-License-Identifier: MIT
//
// Several threads on the same objects, for ThreadSanitizer: const tables, files and heads that are asked at the same
// time, and operations that divide their own work. All results are also compared with those of one thread alone.

#define EIGEN_USE_THREADS

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gpt2/dropout.hpp"
#include "gpt2/embeddings.hpp"
#include "gpt2/lm_head.hpp"
#include "gpt2/pretrained.hpp"
#include "gpt2/quantized_embedding.hpp"
#include "gpt2/safetensors.hpp"
#include "temporary_folder.hpp"

using namespace gpt2;

namespace {

void check(bool as_expected, const char* what) {
  if (as_expected) return;
  std::fprintf(stderr, "wrong: %s\n", what);
  std::exit(1);
}

/// Calls an action on several threads at once.
template <class Action>
void on_threads(const Action& action) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(action);
  for (std::thread& thread : threads) thread.join();
}

/// A device that starts a thread for each part of its work.
struct Threads {
  [[nodiscard]] int numThreads() const { return 3; }
  void parallelFor(Index n, const Eigen::TensorOpCost& /*cost*/,
                   const std::function<void(Index, Index)>& body) const {
    std::vector<std::thread> threads;
    for (Index i = 0; i < 3; ++i) threads.emplace_back(body, n * i / 3, n * (i + 1) / 3);
    for (std::thread& thread : threads) thread.join();
  }
};

const GPT2Config config{.vocab_size = 100, .n_positions = 80, .n_embd = 40};

IdMatrix<int> some_ids() {
  IdMatrix<int> ids(3, 70);
  for (Index i = 0; i < ids.size(); ++i) ids.data()[i] = static_cast<int>(i * 37 % 80);
  return ids;
}

/// All operations on const objects.
void share_tables() {
  const GPT2Embeddings<float> embeddings(config);
  const GPT2PositionEmbeddings<float> positions(embeddings.wpe);
  const QuantizedEmbedding quantized(embeddings.wte);
  const IdMatrix<int> ids = some_ids();
  const Tensor3<float> rows = embeddings.wte(ids);
  const Tensor3<float> sum = embeddings(ids, PastLength{1}, ids);
  const Tensor3<float> position_rows = positions(ids);
  const Matrix<float> hidden = as_matrix(sum).topRows(2);
  const Matrix<float> scores = logits(embeddings.wte, hidden);
  const Matrix<float> bytes = quantized.dequantize();
  on_threads([&] {
    check(as_matrix(rows) == as_matrix(std::as_const(rows)), "reading");
    const Tensor3<float> own_rows = embeddings.wte(ids);
    check(as_matrix(own_rows) == as_matrix(rows), "lookups");
    const Tensor3<float> own_sum = embeddings(ids, PastLength{1}, ids);
    check(as_matrix(own_sum) == as_matrix(sum), "sums");
    const Tensor3<float> own_positions = positions(ids);
    check(as_matrix(own_positions) == as_matrix(position_rows), "positions");
    check(logits(embeddings.wte, hidden) == scores, "logits");
    check(quantized.dequantize() == bytes, "int8 rows");
    const GPT2Embeddings<float> copy = embeddings;
    check(copy.wte.weight() == embeddings.wte.weight(), "copies");
  });
}

/// A file that is open, and a table that borrows it.
void share_files() {
  const test::TemporaryFolder folder;
  const GPT2Embeddings<float> embeddings(config);
  save_pretrained(folder.path(), config, embeddings);
  const SafeTensors file = SafeTensors::open(folder / "model.safetensors");
  const auto loaded = from_pretrained<GPT2Embeddings<float>>(folder.path());
  on_threads([&] {
    const SafeTensors copy = file;
    check(copy.contains("wte.weight") && copy.names().size() == 2, "names");
    check(copy["wte.weight"].bytes.data() == file["wte.weight"].bytes.data(), "tensors");
    const GPT2Embeddings<float> own = loaded;  // shares the mapping
    check(own.wte({1, 2, 3}) == embeddings.wte({1, 2, 3}), "rows of a mapped file");
    check(SafeTensors::open(folder / "model.safetensors").size() == 2, "files");
  });
}

/// Operations that divide their work.
template <class D>
void divide(const D& device) {
  const IdMatrix<int> ids = some_ids();
  const GPT2Embeddings<float> fresh(config);
  const Tensor3<float> alone = fresh(ids, PastLength{1}, ids);
  const Matrix<float> grad = as_matrix(alone);
  GPT2Embeddings<float> expected = fresh;
  expected.backward(ids, PastLength{1}, grad);
  const SparseGradient<float> sparse = fresh.wte.sparse_backward(ids, grad);
  for (const StorePolicy policy : {StorePolicy::regular, StorePolicy::streaming}) {
    const Tensor3<float> sum = fresh(ids, PastLength{1}, ids, OnDevice{device, policy});
    check(as_matrix(sum) == grad, "sums that are divided");
  }
  GPT2Embeddings<float> embeddings = fresh;
  embeddings.backward(ids, PastLength{1}, grad, device);
  check(embeddings.wte.grad() == expected.wte.grad(), "gradients that are divided");
  check(embeddings.wpe.grad() == expected.wpe.grad(), "and those of positions");
  check(fresh.wte.sparse_backward(ids, grad, device).values == sparse.values, "and sparse ones");
  Matrix<float> dropped = grad;
  Matrix<float> dropped_alone = grad;
  Dropout(0.5).forward(1, dropped, device);
  Dropout(0.5).forward(1, dropped_alone);
  check(dropped == dropped_alone, "dropout");
  const Matrix<float> hidden = grad.topRows(2);
  check(logits(fresh.wte, hidden, device) == logits(fresh.wte, hidden), "logits that are divided");
}

}  // namespace

int main() {
  share_tables();
  share_files();
  divide(Threads{});
  Eigen::ThreadPool pool(3);
  const Eigen::ThreadPoolDevice device(&pool, 3);
  divide(device);
  on_threads([&] { divide(device); });  // also one pool for several threads
  return 0;
}
