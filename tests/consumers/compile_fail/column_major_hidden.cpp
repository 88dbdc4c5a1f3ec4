// SPDX-License-Identifier: MIT
//
// Hidden states are row-major: an Eigen::MatrixXf is refused.
// expect: hidden_states_must_be_row_major

#include <gpt2/lm_head.hpp>

#ifdef GPT2_COMPILE_FAIL
using Hidden = Eigen::MatrixXf;
#else
using Hidden = gpt2::Matrix<float>;
#endif

gpt2::Matrix<float> score(const gpt2::Embedding<float>& wte, const Hidden& hidden) {
  return logits(wte, hidden);
}
