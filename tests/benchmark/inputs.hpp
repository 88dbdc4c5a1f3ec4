// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The data of all groups: tables of GPT-2's size, ids, and buffers.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <gpt2/types.hpp>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "libtorch.hpp"

using gpt2::Index;

inline constexpr Index vocab_size = 50257;
inline constexpr Index n_positions = 1024;

/// The distribution of ids: uniform, which hardly repeats any, or as in text, by Zipf's law.
enum class Draw { uniform, zipf };

/// The parameters of a group of an operation.
struct Setting {
  Index batch = 8;
  Index seq_length = 1024;
  Index n_embd = 768;
  Draw draw = Draw::uniform;
  int threads = 1;
  /// Whether all calls embed the same ids, so that their rows are in the caches if these are large enough.
  bool same_ids = false;

  [[nodiscard]] Index tokens() const { return batch * seq_length; }
  /// The bytes of the hidden states, in float.
  [[nodiscard]] std::size_t bytes() const {
    return static_cast<std::size_t>(tokens() * n_embd) * sizeof(float);
  }
};

std::string group_name(std::string_view operation, const Setting& setting);

/// A matrix whose rows are 64-byte aligned, as PyTorch's are, so that no contestant is favoured by the address of its
/// memory.
template <class T>
class Buffer {
 public:
  Buffer(Index rows, Index cols) : rows_(rows), cols_(cols) {
    const auto bytes = static_cast<std::size_t>(rows * cols) * sizeof(T);
    memory_.reset(static_cast<T*>(std::aligned_alloc(64, (bytes + 63) / 64 * 64)));
    if (!memory_) throw std::bad_alloc();
    matrix().setZero();  // so that the system has given it its pages
  }
  [[nodiscard]] T* data() const { return memory_.get(); }
  [[nodiscard]] std::size_t bytes() const { return static_cast<std::size_t>(rows_ * cols_) * sizeof(T); }
  [[nodiscard]] Eigen::Map<gpt2::Matrix<T>> matrix() const { return {memory_.get(), rows_, cols_}; }
  [[nodiscard]] Eigen::Map<const gpt2::Matrix<T>> table() const { return {memory_.get(), rows_, cols_}; }

 private:
  struct Free {
    void operator()(T* memory) const { std::free(memory); }
  };
  std::unique_ptr<T[], Free> memory_;
  Index rows_;
  Index cols_;
};

/// Numbers as in a trained table: [-0.05, 0.05).
Buffer<float> random_matrix(Index rows, Index cols, std::uint64_t seed);

/// Tables that all groups share, made when they are first needed.
const Buffer<float>& token_table(Index n_embd);
const Buffer<float>& position_table(Index n_embd);

/// Another type's version of a table.
template <class T>
[[nodiscard]] Buffer<T> converted(const Buffer<float>& table) {
  Buffer<T> result(table.table().rows(), table.table().cols());
  result.matrix() = table.table().cast<T>();
  return result;
}

std::vector<std::int64_t> draw_ids(Index count, Draw draw, std::uint64_t seed);

/// Several batches of ids, because in practice no two calls embed the same one: each call takes the next.
/// There are 64 if they are small: one token at a time stays within the caches, so that the call is measured,
/// and all others get rows from everywhere in the table.
struct IdBatches {
  explicit IdBatches(const Setting& setting);

  std::vector<gpt2::IdMatrix<std::int64_t>> ids;
  std::vector<std::vector<int>> narrow;  ///< the same, in the type that llm.c has them in
};

/// The same ids as PyTorch takes them.
libtorch::Ids torch_ids(const IdBatches& batches);

/// 0, 1, …, count - 1, 0, …: the batch of a contestant's next call.
class Turn {
 public:
  explicit Turn(std::size_t count) : count_(count) {}
  std::size_t operator()() { return std::exchange(next_, (next_ + 1) % count_); }

 private:
  std::size_t count_;
  std::size_t next_ = 0;
};

/// The pool of two threads.
const Eigen::ThreadPoolDevice& two_threads();

/// A call of action(device), with the default device for one thread.
template <class Action>
[[nodiscard]] std::function<void()> on_threads(int threads, Action action) {
  if (threads == 1) return [action]() mutable { action(Eigen::DefaultDevice{}); };
  return [action]() mutable { action(two_threads()); };
}

/// A call of action(first, last) on all of [0, count), which are bytes, in as many parts as there are
/// threads.
std::function<void()> in_parts(int threads, std::size_t count,
                               std::function<void(std::size_t, std::size_t)> action);
