// SPDX-License-Identifier: MIT
//
// Ids are integers: a braced list of floating-point numbers is refused.
// expect: ids_must_be_integers_not_floating_point_or_bool

#include <gpt2/embedding.hpp>

gpt2::Matrix<float> look_up(const gpt2::Embedding<float>& table) {
#ifdef GPT2_COMPILE_FAIL
  return table({1.0F, 2.0F});
#else
  return table({1, 2});
#endif
}
