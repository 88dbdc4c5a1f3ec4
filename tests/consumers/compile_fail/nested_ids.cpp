// SPDX-License-Identifier: MIT
//
// A batch is an IdMatrix: a vector of vectors, which may be ragged, is refused.
// expect: ids_must_be_integers_not_floating_point_or_bool

#include <gpt2/embedding.hpp>
#include <vector>

#ifdef GPT2_COMPILE_FAIL
using Ids = std::vector<std::vector<int>>;
#else
using Ids = std::vector<int>;
#endif

gpt2::Matrix<float> look_up(const gpt2::Embedding<float>& table, const Ids& ids) { return table(ids); }
