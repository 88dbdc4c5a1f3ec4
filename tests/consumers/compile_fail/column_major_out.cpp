// SPDX-License-Identifier: MIT
//
// Hidden states are row-major: a column-major output is refused.
// expect: hidden_states_must_be_row_major

#include <Eigen/Core>
#include <gpt2/embedding.hpp>
#include <vector>

#ifdef GPT2_COMPILE_FAIL
using Out = Eigen::MatrixXf;
#else
using Out = gpt2::Matrix<float>;
#endif

void look_up(const gpt2::Embedding<float>& table, const std::vector<int>& ids, Out& out) {
  table.forward_into(ids, out);
}
