// SPDX-License-Identifier: MIT

#include "inputs.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <random>

namespace {

/// [0, 1), the same on every platform.
double uniform(std::mt19937_64& engine) { return static_cast<double>(engine() >> 11U) * 0x1p-53; }

/// Row n is the n-th most frequent; which id that is, a permutation says.
std::vector<std::int64_t> draw_zipf(Index count, std::mt19937_64& engine) {
  std::vector<double> cumulative(vocab_size);
  double sum = 0;
  for (std::size_t rank = 0; rank < cumulative.size(); ++rank) {
    sum += 1 / static_cast<double>(rank + 1);
    cumulative[rank] = sum;
  }
  std::vector<std::int64_t> of_rank(vocab_size);
  std::iota(of_rank.begin(), of_rank.end(), 0);
  std::shuffle(of_rank.begin(), of_rank.end(), engine);
  std::vector<std::int64_t> ids(static_cast<std::size_t>(count));
  for (auto& id : ids) {
    const auto found = std::upper_bound(cumulative.begin(), cumulative.end() - 1, sum * uniform(engine));
    id = of_rank[static_cast<std::size_t>(found - cumulative.begin())];
  }
  return ids;
}

/// A table for each n_embd, made once.
const Buffer<float>& shared_table(std::map<Index, Buffer<float>>& tables, Index rows, Index n_embd) {
  const auto found = tables.find(n_embd);
  if (found != tables.end()) return found->second;
  return tables.emplace(n_embd, random_matrix(rows, n_embd, static_cast<std::uint64_t>(rows + n_embd)))
      .first->second;
}

}  // namespace

std::string group_name(std::string_view operation, const Setting& setting) {
  return std::string(operation) + '/' + std::to_string(setting.batch) + 'x' +
         std::to_string(setting.seq_length) + '/' + std::to_string(setting.n_embd) + '/' +
         (setting.draw == Draw::zipf ? "zipf" : "uniform") + '/' + std::to_string(setting.threads);
}

Buffer<float> random_matrix(Index rows, Index cols, std::uint64_t seed) {
  Buffer<float> result(rows, cols);
  std::uint64_t state = seed * 2 + 1;
  for (Index i = 0; i < rows * cols; ++i) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    result.data()[i] = (static_cast<float>(state >> 40U) * 0x1p-24F - 0.5F) * 0.1F;
  }
  return result;
}

const Buffer<float>& token_table(Index n_embd) {
  static std::map<Index, Buffer<float>> tables;
  return shared_table(tables, vocab_size, n_embd);
}

const Buffer<float>& position_table(Index n_embd) {
  static std::map<Index, Buffer<float>> tables;
  return shared_table(tables, n_positions, n_embd);
}

std::vector<std::int64_t> draw_ids(Index count, Draw draw, std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  if (draw == Draw::zipf) return draw_zipf(count, engine);
  std::vector<std::int64_t> ids(static_cast<std::size_t>(count));
  for (auto& id : ids) id = static_cast<std::int64_t>(uniform(engine) * vocab_size);
  return ids;
}

IdBatches::IdBatches(const Setting& setting) {
  const Index count = setting.same_ids ? 1 : std::clamp<Index>(65536 / setting.tokens(), 1, 64);
  const auto all = draw_ids(count * setting.tokens(), setting.draw, 1);
  for (Index i = 0; i < count; ++i) {
    const std::int64_t* begin = all.data() + i * setting.tokens();
    ids.emplace_back(
        Eigen::Map<const gpt2::IdMatrix<std::int64_t>>(begin, setting.batch, setting.seq_length));
    narrow.emplace_back(begin, begin + setting.tokens());
  }
}

libtorch::Ids torch_ids(const IdBatches& batches) {
  libtorch::Ids result{{}, batches.ids.front().rows(), batches.ids.front().cols()};
  for (const auto& ids : batches.ids) result.batches.push_back(ids.data());
  return result;
}

const Eigen::ThreadPoolDevice& two_threads() {
  static Eigen::ThreadPool pool(2);
  static const Eigen::ThreadPoolDevice device(&pool, 2);
  return device;
}

std::function<void()> in_parts(int threads, std::size_t count,
                               std::function<void(std::size_t, std::size_t)> action) {
  if (threads == 1) return [count, action] { action(0, count); };
  const std::size_t part = count / static_cast<std::size_t>(threads) / 64 * 64;
  return [=] {
    const auto run = [&](Index first, Index last) {
      for (Index i = first; i < last; ++i) {
        const std::size_t begin = static_cast<std::size_t>(i) * part;
        action(begin, i + 1 == threads ? count : begin + part);
      }
    };
    const auto cost = static_cast<double>(part);
    two_threads().parallelFor(threads, Eigen::TensorOpCost(cost, cost, cost), run);
  };
}
