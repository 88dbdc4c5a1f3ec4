// SPDX-License-Identifier: MIT
//
// The weight of a temporary would dangle.
// expect: (deleted function|attempt to use a deleted|deleted member function).*weight|weight.*deleted

#include <gpt2/embeddings.hpp>

gpt2::GPT2Embeddings<float> load();

Eigen::Map<const gpt2::Matrix<float>> weight() {
#ifdef GPT2_COMPILE_FAIL
  return load().wte.weight();
#else
  static const gpt2::GPT2Embeddings<float> embeddings = load();
  return embeddings.wte.weight();
#endif
}
