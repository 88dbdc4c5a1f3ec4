// SPDX-License-Identifier: MIT
//
// Ids are integers: a range of floating-point numbers is refused.
// expect: ids_must_be_integers_not_floating_point_or_bool

#include <gpt2/embedding.hpp>
#include <vector>

#ifdef GPT2_COMPILE_FAIL
using Id = float;
#else
using Id = int;
#endif

gpt2::Matrix<float> look_up(const gpt2::Embedding<float>& table, const std::vector<Id>& ids) {
  return table(ids);
}
