// SPDX-License-Identifier: MIT
//
// Only tables with a gradient can be trained.
// expect: both_tables_must_be_Embedding

#include <gpt2/embeddings.hpp>
#include <vector>

#ifdef GPT2_COMPILE_FAIL
using Embeddings = gpt2::QuantizedGPT2Embeddings<gpt2::Embedding<float>>;
#else
using Embeddings = gpt2::GPT2Embeddings<float>;
#endif

void train(Embeddings& embeddings, const std::vector<int>& ids, const gpt2::Matrix<float>& grad_output) {
  embeddings.backward(ids, grad_output);
}
