// SPDX-License-Identifier: MIT
//
// Nothing is rounded on the way out: an output narrower than the table is refused.
// expect: output_must_be_of_the_tables_scalar_or_wider

#include <gpt2/embedding.hpp>
#include <vector>

#ifdef GPT2_COMPILE_FAIL
using Out = gpt2::Matrix<float>;
#else
using Out = gpt2::Matrix<double>;
#endif

void look_up(const gpt2::Embedding<double>& table, const std::vector<int>& ids, Out& out) {
  table.forward_into(ids, out);
}
