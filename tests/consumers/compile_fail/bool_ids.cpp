// SPDX-License-Identifier: MIT
//
// Ids are integers: truth values, an attention mask for instance, are refused.
// expect: ids_must_be_integers_not_floating_point_or_bool

#include <array>
#include <gpt2/embedding.hpp>

#ifdef GPT2_COMPILE_FAIL
using Id = bool;
#else
using Id = unsigned char;
#endif

gpt2::Matrix<float> look_up(const gpt2::Embedding<float>& table, const std::array<Id, 3>& ids) {
  return table(ids);
}
