// SPDX-License-Identifier: MIT
//
// The tied head: logits of one and of eight hidden states, the best tokens, and the cross-entropy.

#include <algorithm>
#include <cmath>
#include <gpt2/lm_head.hpp>
#include <gpt2/quantized_embedding.hpp>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "groups.hpp"
#include "inputs.hpp"
#include "libtorch.hpp"
#include "plain.hpp"

namespace {

using gpt2::Embedding;
using gpt2::Matrix;
using gpt2::QuantizedEmbedding;

constexpr Index n_embd = 768;
constexpr Index k = 50;

struct Head {
  explicit Head(Index states)
      : n(states), hidden(random_matrix(states, n_embd, 4)), out(states, vocab_size) {}

  Index n;
  Buffer<float> hidden;
  Buffer<float> out;
  Embedding<float> wte = Embedding<float>::view(token_table(n_embd).table(), nullptr);
};

/// The sums of plain::read(), so that the compiler cannot leave it out.
volatile std::uint64_t read_sum;

/// Reads a table, and does nothing with it.
Contestant reading(const void* data, std::size_t bytes, int threads) {
  return {"limit", in_parts(threads, bytes, [data](std::size_t first, std::size_t last) {
            read_sum = plain::read(static_cast<const char*>(data) + first, last - first);
          })};
}

template <class Table>
Contestant our_logits(const std::shared_ptr<Head>& head, const std::shared_ptr<const Table>& table,
                      int threads) {
  return {"ours", on_threads(threads, [head, table](const auto& device) {
            gpt2::logits_into(*table, head->hidden.matrix(), head->out.matrix(), {}, device);
          })};
}

std::vector<Contestant> float_contestants(Index n, int threads) {
  const auto head = std::make_shared<Head>(n);
  const Buffer<float>& table = token_table(n_embd);
  const auto wte = std::make_shared<const Embedding<float>>(head->wte);
  const auto eigen = [head] {
    const auto weight = token_table(n_embd).table();
    if (head->n == 1) {
      head->out.matrix().row(0).transpose().noalias() = weight * head->hidden.matrix().row(0).transpose();
    } else {
      head->out.matrix().noalias() = head->hidden.matrix() * weight.transpose();
    }
  };
  return {reading(table.data(), table.bytes(), threads),
          our_logits(head, wte, threads),
          {"eigen", eigen},
          {"torch", libtorch::logits({table.data(), vocab_size, n_embd}, head->hidden.data(), n)}};
}

std::vector<Contestant> bfloat16_contestants() {
  const auto head = std::make_shared<Head>(1);
  const auto memory =
      std::make_shared<Buffer<Eigen::bfloat16>>(converted<Eigen::bfloat16>(token_table(n_embd)));
  const auto wte = std::make_shared<const Embedding<Eigen::bfloat16>>(
      Embedding<Eigen::bfloat16>::view(memory->table(), memory));
  // The product as it stands would first make a float table of the whole.
  const auto eigen = [head, memory] {
    const auto weight = memory->table();
    const auto hidden = head->hidden.table().row(0);
    auto out = head->out.matrix();
    for (Index i = 0; i < vocab_size; ++i) out(0, i) = weight.row(i).cast<float>().dot(hidden);
  };
  return {reading(memory->data(), memory->bytes(), 1),
          our_logits(head, wte, 1),
          {"eigen", eigen},
          {"torch", libtorch::logits({memory->data(), vocab_size, n_embd, libtorch::Element::bfloat16},
                                     head->hidden.data(), 1)}};
}

std::vector<Contestant> int8_contestants() {
  const auto head = std::make_shared<Head>(1);
  const auto table = std::make_shared<const QuantizedEmbedding>(head->wte);
  const auto eigen = [head, table] {
    const auto hidden = head->hidden.table().row(0);
    const float sum = hidden.sum();
    auto out = head->out.matrix();
    for (Index i = 0; i < vocab_size; ++i) {
      out(0, i) =
          table->scales()[i] * table->values().row(i).cast<float>().dot(hidden) + table->offsets()[i] * sum;
    }
  };
  return {reading(table->values().data(), static_cast<std::size_t>(vocab_size * n_embd), 1),
          our_logits(head, table, 1),
          {"eigen", eigen}};
}

std::vector<Contestant> top_k_contestants(Index n) {
  const auto head = std::make_shared<Head>(n);
  const auto wte = std::make_shared<const Embedding<float>>(head->wte);
  const auto ids = std::make_shared<std::vector<Index>>(vocab_size);
  const auto eigen = [head, ids] {
    head->out.matrix().noalias() = head->hidden.matrix() * token_table(n_embd).table().transpose();
    for (Index i = 0; i < head->n; ++i) {
      const float* logits = head->out.data() + i * vocab_size;
      std::iota(ids->begin(), ids->end(), 0);
      std::partial_sort(ids->begin(), ids->begin() + k, ids->end(),
                        [logits](Index a, Index b) { return logits[a] > logits[b]; });
    }
  };
  Contestant limit = our_logits(head, wte, 1);
  limit.name = "limit";
  const double kept = static_cast<double>(head->out.bytes() + ids->size() * sizeof(Index));
  const double results = static_cast<double>(n * k * Index{sizeof(std::int64_t) + sizeof(float)});
  return {
      std::move(limit),
      {"ours", [head, wte] { (void)gpt2::top_k(*wte, head->hidden.matrix(), k); }, -results},
      {"eigen", eigen, kept},
      {"torch", libtorch::top_k({token_table(n_embd).data(), vocab_size, n_embd}, head->hidden.data(), n, k),
       -results}};
}

struct CrossEntropy : Head {
  explicit CrossEntropy(Index states)
      : Head(states),
        labels(draw_ids(states, Draw::zipf, 5)),
        grad_hidden(states, n_embd),
        grad_table(vocab_size, n_embd) {
    // Allocates the gradient, which is an output.
    wte.backward(std::vector<std::int64_t>(), Matrix<float>(0, n_embd));
  }

  std::vector<std::int64_t> labels;
  Buffer<float> grad_hidden;
  Buffer<float> grad_table;

  /// All logits, which become their own gradient, and three products.
  void materialised() const {
    auto logits = out.matrix();
    const auto weight = wte.weight();
    logits.noalias() = hidden.matrix() * weight.transpose();
    for (Index i = 0; i < n; ++i) {
      auto row = logits.row(i);
      row.array() -= row.maxCoeff();
      row = row.array().exp();
      row /= row.sum() * static_cast<float>(n);
      row[labels[static_cast<std::size_t>(i)]] -= 1 / static_cast<float>(n);
    }
    grad_hidden.matrix().noalias() = logits * weight;
    grad_table.matrix().noalias() += logits.transpose() * hidden.matrix();
  }
};

std::vector<Contestant> cross_entropy_contestants(Index n, int threads) {
  const auto head = std::make_shared<CrossEntropy>(n);
  return {{"ours", on_threads(threads,
                              [head](const auto& device) {
                                gpt2::cross_entropy_into(head->wte, head->hidden.matrix(), head->labels,
                                                         head->grad_hidden.matrix(), {}, device);
                              })},
          {"limit", [head] { head->materialised(); }, static_cast<double>(head->out.bytes())},
          {"torch",
           libtorch::cross_entropy({token_table(n_embd).data(), vocab_size, n_embd}, head->grad_table.data(),
                                   head->hidden.data(), head->labels.data(), n)}};
}

std::string head_name(const std::string& operation, Index n, int threads = 1) {
  return operation + '/' + std::to_string(n) + '/' + std::to_string(n_embd) + "/-/" + std::to_string(threads);
}

}  // namespace

std::vector<Group> head_groups() {
  std::vector<Group> groups;
  for (const int threads : {1, 2}) {
    for (const Index n : {1, 8, 64}) {
      Group group{head_name("logits", n, threads), [n, threads] { return float_contestants(n, threads); }};
      group.threads = threads;
      if (n == 64) group.untimed = 1;
      groups.push_back(std::move(group));
    }
  }
  groups.push_back({head_name("bfloat16 logits", 1), bfloat16_contestants});
  groups.push_back({head_name("int8 logits", 1), int8_contestants});
  for (const Index n : {1, 8})
    groups.push_back({head_name("top_k", n), [n] { return top_k_contestants(n); }});
  // A call takes tenths of a second for 64 states, and seconds for the 1,024 of a training step: fewer of them.
  for (const Index n : {64, 1024}) {
    for (const int threads : {1, 2}) {
      Group group{head_name("cross entropy", n, threads),
                  [n, threads] { return cross_entropy_contestants(n, threads); }};
      group.threads = threads;
      group.untimed = n == 64 ? 1 : 0;
      group.samples = n == 64 ? 5 : 3;
      groups.push_back(std::move(group));
    }
  }
  return groups;
}
