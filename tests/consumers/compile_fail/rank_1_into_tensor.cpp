// SPDX-License-Identifier: MIT
//
// Ids of rank 1 give a matrix: a tensor as their output is refused.
// expect: hidden_states_must_be_a_matrix_or_for_ids_of_rank_2_a_Tensor3

#include <gpt2/embedding.hpp>
#include <vector>

#ifdef GPT2_COMPILE_FAIL
using Out = gpt2::Tensor3<float>;
#else
using Out = gpt2::Matrix<float>;
#endif

void look_up(const gpt2::Embedding<float>& table, const std::vector<int>& ids, Out& out) {
  table.forward_into(ids, out);
}
