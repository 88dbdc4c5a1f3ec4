// SPDX-License-Identifier: MIT
//
// A view of a temporary would dangle.
// expect: deleted function

#include <gpt2/types.hpp>

gpt2::Tensor3<float> make();

float first() {
#ifdef GPT2_COMPILE_FAIL
  return gpt2::as_matrix(make())(0, 0);
#else
  const gpt2::Tensor3<float> tensor = make();
  return gpt2::as_matrix(tensor)(0, 0);
#endif
}
