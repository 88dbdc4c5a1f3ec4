// SPDX-License-Identifier: MIT
//
// A tensor of ids has rank 1 or 2.
// expect: ids_must_have_rank_1_or_2

#include <gpt2/embedding.hpp>

#ifdef GPT2_COMPILE_FAIL
using Ids = Eigen::Tensor<int, 3>;
#else
using Ids = Eigen::Tensor<int, 2>;
#endif

auto look_up(const gpt2::Embedding<float>& table, const Ids& ids) { return table(ids); }
