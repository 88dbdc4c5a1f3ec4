// SPDX-License-Identifier: MIT
//
// What the gradient of a lookup of GPT-2's size costs, sparse and dense. sparse_gradient.py runs it beside PyTorch.
//
//   sparse_gradient IDS [THREADS]      IDS: a file of int64 ids of GPT-2's vocabulary

#define EIGEN_USE_THREADS

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <gpt2/embedding.hpp>
#include <iterator>
#include <stdexcept>
#include <vector>

namespace {

constexpr gpt2::Index vocab_size = 50257;
constexpr gpt2::Index n_embd = 768;
constexpr int rounds = 15;

std::vector<std::int64_t> read_ids(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
  if (!file || bytes.empty()) throw std::runtime_error("cannot read the ids");
  std::vector<std::int64_t> ids(bytes.size() / sizeof(std::int64_t));
  std::copy_n(bytes.data(), ids.size() * sizeof(std::int64_t), reinterpret_cast<char*>(ids.data()));
  return ids;
}

/// The median time of an action.
template <class Action>
double milliseconds(Action&& action) {
  std::vector<double> times;
  for (int round = 0; round < rounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    action();
    times.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  std::nth_element(times.begin(), times.begin() + rounds / 2, times.end());
  return times[rounds / 2];
}

void run(const char* path, int threads) {
  const std::vector<std::int64_t> ids = read_ids(path);
  const gpt2::Matrix<float> grad_output =
      gpt2::Matrix<float>::Random(static_cast<gpt2::Index>(ids.size()), n_embd);
  gpt2::Embedding<float> table(gpt2::Matrix<float>::Zero(vocab_size, n_embd));
  Eigen::ThreadPool pool(threads);
  const Eigen::ThreadPoolDevice device(&pool, threads);

  gpt2::Index rows = 0;
  const auto sparse = [&] { rows = table.sparse_backward(ids, grad_output, device).rows.size(); };
  const double sparse_time = milliseconds(sparse);
  const double dense_time = milliseconds([&] { table.backward(ids, grad_output, device); });
  std::printf("%d %td %.3f %.3f\n", threads, rows, sparse_time, dense_time);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc < 2 || argc > 3) throw std::invalid_argument("usage: sparse_gradient IDS [THREADS]");
    run(argv[1], argc > 2 ? std::atoi(argv[2]) : 1);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sparse_gradient: %s\n", error.what());
    return 1;
  }
}
