// SPDX-License-Identifier: MIT
//
// Rows of halves as most programs are compiled: for any x86-64. The test looks for the instruction that widens eight.

#include <gpt2/embedding.hpp>

void embed(const gpt2::Embedding<Eigen::half>& table, const gpt2::IdVector<int>& ids,
           gpt2::Matrix<float>& out);

void embed(const gpt2::Embedding<Eigen::half>& table, const gpt2::IdVector<int>& ids,
           gpt2::Matrix<float>& out) {
  table.forward_into(ids, out);
}
