// SPDX-License-Identifier: MIT
//
// The promises about memory: nothing is allocated by *_into functions, by a backward pass after the first,
// by zero_grad and by dropout; a sparse gradient takes memory for its rows, whatever the table's size.

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "counted_memory.hpp"
#include "gpt2/dropout.hpp"
#include "gpt2/embeddings.hpp"
#include "gpt2/initialization.hpp"
#include "gpt2/lm_head.hpp"
#include "gpt2/position_ids.hpp"
#include "support.hpp"

namespace allocations_tests {

using namespace gpt2;
using test::Allocations;
using test::allocations_of;
using test::counting;

namespace {

IdMatrix<std::int64_t> some_ids(Index rows, Index cols, Index bound) {
  IdMatrix<std::int64_t> ids(rows, cols);
  for (Index i = 0; i < ids.size(); ++i) ids.data()[i] = i * 7919 % bound;
  return ids;
}

const GPT2Config config{.vocab_size = 500, .n_positions = 128, .n_embd = 48};

}  // namespace

TEST_CASE("allocations are counted", "[allocations]") {
  Matrix<float> matrix;
  const Allocations eigen = allocations_of([&] { matrix.resize(100, 10); });
  CHECK(eigen.blocks == (counting ? 1U : 0U));
  CHECK(eigen.bytes >= (counting ? 4000U : 0U));
  std::vector<int> vector;
  CHECK(allocations_of([&] { vector.resize(9); }).blocks == (counting ? 1U : 0U));
}

TEMPLATE_TEST_CASE("writing to out allocates nothing", "[allocations]", float, Eigen::bfloat16) {
  using T = TestType;
  const GPT2Embeddings<T> embeddings(config);
  const GPT2PositionEmbeddings<T> positions(config);
  const IdMatrix<std::int64_t> ids = some_ids(4, 32, 500);
  const IdMatrix<std::int64_t> position_ids = some_ids(4, 32, 128);
  const Matrix<T> embeds = Matrix<float>::Ones(128, 48).template cast<T>();
  Matrix<T> matrix(128, 48);
  Tensor3<float> tensor(4, 32, 48);
  const auto on = [&](const auto& device) {
    CHECK(allocations_of([&] { embeddings.wte.forward_into(ids, matrix, device); }).blocks == 0);
    CHECK(allocations_of([&] { positions.forward_into(position_ids, tensor, device); }).blocks == 0);
    CHECK(allocations_of([&] { embeddings.forward_into(ids, PastLength{3}, tensor, device); }).blocks == 0);
    CHECK(allocations_of([&] { embeddings.forward_into(ids, position_ids, matrix, ids, device); }).blocks ==
          0);
    CHECK(allocations_of([&] { embeddings.embed_into(embeds, position_ids, tensor, device); }).blocks == 0);
    CHECK(allocations_of([&] { embeddings.embed_into(embeds, position_ids, matrix, ids, device); }).blocks ==
          0);
  };
  on(Eigen::DefaultDevice{});
  on(test::SlicingDevice{});
}

TEMPLATE_TEST_CASE("only the first backward allocates, and counts of ids by which it divides",
                   "[allocations]", double, Eigen::half) {
  using T = TestType;
  const bool by_freq = GENERATE(false, true);
  const EmbeddingOptions options{.padding_idx = 3, .scale_grad_by_freq = by_freq};
  GPT2Embeddings<T> embeddings(Embedding<T>(500, 48, options), Embedding<T>(128, 48, options));
  GPT2PositionEmbeddings<T> positions{Embedding<T>(128, 48, options)};
  const IdMatrix<std::int64_t> ids = some_ids(4, 32, 500);
  const IdMatrix<std::int64_t> position_ids = some_ids(4, 32, 128);
  const Matrix<Accumulator<T>> grad = Matrix<Accumulator<T>>::Ones(128, 48);
  const auto on = [&](const auto& device) {
    const auto tensor = as_tensor3(grad, 4, 32);
    embeddings.wte.backward(ids, grad, device);
    positions.backward(position_ids, tensor, device);
    embeddings.backward(ids, PastLength{3}, tensor, device);
    embeddings.backward(ids, position_ids, grad, ids, device);
    embeddings.backward_embeds(position_ids, grad, device);
    embeddings.backward_embeds(position_ids, tensor, ids, device);
    embeddings.wte.zero_grad();
  };
  on(Eigen::DefaultDevice{});
  // Each of nine lookups of ids is counted; those from a past length on need no count.
  const std::size_t counts = counting && by_freq ? 9 : 0;
  CHECK(allocations_of([&] { on(Eigen::DefaultDevice{}); }).blocks == counts);
  CHECK(allocations_of([&] { on(test::SlicingDevice{}); }).blocks == counts);
}

TEST_CASE("when memory runs out in the middle, no gradient has changed", "[allocations]") {
  const EmbeddingOptions options{.scale_grad_by_freq = true};
  const IdMatrix<std::int64_t> ids = some_ids(4, 32, 500);
  const Matrix<float> grad = Matrix<float>::Ones(128, 48);
  std::size_t failures = 0;
  for (const bool had_gradients : {false, true}) {
    for (std::size_t block = 1; counting; ++block) {
      GPT2Embeddings<float> embeddings(Embedding<float>(500, 48, options),
                                       Embedding<float>(128, 48, options));
      if (had_gradients) {
        embeddings.wte.mutable_grad().setConstant(5);
        embeddings.wpe.mutable_grad().setConstant(5);
      }
      test::memory.failing_block = block;
      bool failed = false;
      try {
        embeddings.backward(ids, arange(32), grad, ids);
      } catch (const std::bad_alloc&) {
        failed = true;
      }
      test::memory.failing_block = 0;
      if (!failed) break;
      ++failures;
      for (auto& [name, table] : embeddings.parameters()) {
        INFO(name << ", allocation " << block);
        const float expected = had_gradients ? 5 : 0;
        CHECK((!table->has_grad() || (table->grad().array() == expected).all()));
      }
    }
  }
  CHECK(failures >= (counting ? 6U : 0U));  // gradients and counts, of two tables
}

TEST_CASE("when memory runs out in the head, bad_alloc says so, from every part of its work",
          "[allocations]") {
  // 300 rows are a tile and a narrower one, which share memory for the rows in float.
  const Embedding<Eigen::half> table(300, 40);
  const Matrix<float> hidden = Matrix<float>::Ones(20, 40);
  const std::vector<int> labels(20, 7);
  std::size_t failures = 0;
  for (std::size_t block = 1; counting; ++block) {
    Embedding<Eigen::half> wte = table;
    test::memory.failing_block = block;
    bool failed = false;
    try {
      (void)cross_entropy(wte, hidden, labels, {}, test::SlicingDevice{});
    } catch (const std::bad_alloc&) {
      failed = true;
    }
    test::memory.failing_block = 0;
    CHECK(test::same_bits(wte.weight(), table.weight()));
    if (!failed) break;
    ++failures;
  }
  CHECK(failures >= (counting ? 6U : 0U));
}

TEST_CASE("a step allocates nothing, but for the copy of a borrowed table", "[allocations]") {
  Matrix<float> memory = Matrix<float>::Ones(500, 48);
  auto table = Embedding<float>::view({memory.data(), 500, 48}, nullptr);
  table.backward(std::vector<int>{1}, Matrix<float>::Ones(1, 48).eval());
  const auto step = [&] { table.mutable_weight() -= 0.5F * table.grad(); };
  CHECK(allocations_of(step).blocks == (counting ? 1U : 0U));
  CHECK(allocations_of(step).blocks == 0);
  CHECK(table.weight()(1, 0) == 0);
}

TEST_CASE("dropout stores no mask", "[allocations]") {
  const Dropout dropout(0.1);
  Matrix<float> hidden = Matrix<float>::Ones(128, 48);
  CHECK(allocations_of([&] { dropout.forward(1, hidden); }).blocks == 0);
  CHECK(allocations_of([&] { dropout.backward(1, hidden, test::SlicingDevice{}); }).blocks == 0);
}

TEST_CASE("a sparse gradient takes memory for its rows, and nothing for the table's", "[allocations]") {
  // GPT-2's vocabulary. 8,192 tokens, of which each occurs eight times.
  constexpr Index vocab_size = 50257;
  constexpr Index cols = 64;
  constexpr Index tokens = 8192;
  constexpr Index unique = tokens / 8;
  static const Embedding<float> table(Matrix<float>::Zero(vocab_size, cols), {.scale_grad_by_freq = true});
  IdVector<std::int32_t> ids(tokens);
  for (Index i = 0; i < tokens; ++i) ids[i] = static_cast<std::int32_t>((i % unique) * 49);
  const Matrix<float> grad_output = Matrix<float>::Ones(tokens, cols);
  SparseGradient<float> sparse;
  const Allocations made = allocations_of([&] { sparse = table.sparse_backward(ids, grad_output); });
  CHECK(sparse.rows.size() == unique);
  CHECK(sparse.values.isApproxToConstant(1));
  constexpr std::size_t row_bytes = cols * sizeof(float) + sizeof(Index);
  // The result, and beside it a few words for each token. The dense gradient would be 12.9 MB.
  CHECK(made.bytes <= unique * row_bytes + tokens * 6 * sizeof(Index));

  Matrix<float> dense = Matrix<float>::Zero(vocab_size, cols);
  CHECK(allocations_of([&] { sparse.add_to(dense); }).blocks == 0);
  const Allocations merged = allocations_of([&] { sparse.merge(sparse); });
  // Where malloc() aligns too little, Eigen takes as much more for each block.
  constexpr std::size_t alignment = EIGEN_MAX_ALIGN_BYTES > 16 ? EIGEN_MAX_ALIGN_BYTES : 0;
  CHECK(merged.bytes <= 3 * unique * row_bytes + merged.blocks * alignment);
}

}  // namespace allocations_tests
