// SPDX-License-Identifier: MIT
//
// A lookup in tables of floats and of bytes, and their logits: most kernels of the library, in whatever dialect this is
// compiled.

#include <cstdio>
#include <gpt2/embeddings.hpp>
#include <gpt2/lm_head.hpp>
#include <gpt2/quantized_embedding.hpp>

int main() {
  const gpt2::GPT2Config config{.vocab_size = 11, .n_positions = 7, .n_embd = 16, .n_head = 2};
  const gpt2::GPT2Embeddings<float> embeddings(config);
  const gpt2::Matrix<float> hidden = embeddings({3, 1, 4});
  if (hidden.row(1) != embeddings.wte.weight().row(1) + embeddings.wpe.weight().row(1)) {
    std::puts("the sum is not that of its two rows");
    return 1;
  }

  const gpt2::QuantizedEmbedding bytes(embeddings.wte);
  const gpt2::Matrix<float> difference = gpt2::logits(embeddings.wte, hidden) - gpt2::logits(bytes, hidden);
  if (difference.rows() != 3 || difference.cols() != 11 || !(difference.cwiseAbs().maxCoeff() < 1e-3F)) {
    std::puts("logits of floats and of bytes are not alike");
    return 1;
  }
  try {
    static_cast<void>(embeddings({11}));
  } catch (const gpt2::Error& error) {
    std::puts(error.what());
    return 0;
  }
  std::puts("an id outside the table was looked up");
  return 1;
}
