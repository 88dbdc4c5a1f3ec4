// SPDX-License-Identifier: MIT
//
// The output is not const.
// expect: output_must_be_writable

#include <gpt2/embedding.hpp>
#include <vector>

#ifdef GPT2_COMPILE_FAIL
using Out = const gpt2::Matrix<float>;
#else
using Out = gpt2::Matrix<float>;
#endif

void look_up(const gpt2::Embedding<float>& table, const std::vector<int>& ids, Out& out) {
  table.forward_into(ids, out);
}
