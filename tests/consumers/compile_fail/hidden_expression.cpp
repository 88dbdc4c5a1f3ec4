// SPDX-License-Identifier: MIT
//
// Hidden states are in memory: an expression must be evaluated first.
// expect: hidden_states_must_be_in_memory_not_an_expression

#include <gpt2/lm_head.hpp>

#ifdef GPT2_COMPILE_FAIL
#define EVALUATED(expression) expression
#else
#define EVALUATED(expression) gpt2::Matrix<float>(expression)
#endif

gpt2::Matrix<float> score(const gpt2::Embedding<float>& wte, const gpt2::Matrix<float>& hidden) {
  return logits(wte, EVALUATED(hidden * 2));
}
