// SPDX-License-Identifier: MIT
//
// Compiled once for each kind of processor, with UNIT for the namespace.

#include "unit.hpp"

#include <algorithm>
#include <gpt2/lm_head.hpp>
#include <gpt2/quantized_embedding.hpp>

namespace {

template <class Table>
void compute_with(const Table& table, const Inputs& inputs, std::vector<float>& lookups,
                  std::vector<float>& logits) {
  gpt2::Matrix<float> rows(static_cast<gpt2::Index>(inputs.ids.size()), inputs.width);
  table.forward_into(inputs.ids, rows);
  lookups.assign(rows.data(), rows.data() + rows.size());
  gpt2::Matrix<float> hidden(inputs.states, inputs.width);
  std::ranges::copy(inputs.hidden, hidden.data());
  const gpt2::Matrix<float> scores = gpt2::logits(table, hidden);
  logits.assign(scores.data(), scores.data() + scores.size());
}

}  // namespace

Results UNIT::compute(const Inputs& inputs) {
  gpt2::Matrix<float> weight(inputs.rows, inputs.width);
  std::ranges::copy(inputs.table, weight.data());
  const gpt2::Embedding<float> table(weight);
  Results results;
  const gpt2::Embedding<Eigen::half> halves(weight.cast<Eigen::half>());
  const gpt2::Embedding<Eigen::bfloat16> bfloats(weight.cast<Eigen::bfloat16>());
  compute_with(table, inputs, results.lookups[0], results.logits[0]);
  compute_with(halves, inputs, results.lookups[1], results.logits[1]);
  compute_with(bfloats, inputs, results.lookups[2], results.logits[2]);
  compute_with(gpt2::QuantizedEmbedding(table), inputs, results.lookups[3], results.logits[3]);
  return results;
}
