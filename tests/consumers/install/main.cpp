// SPDX-License-Identifier: MIT
//
// The program of every consumer: it reads a config, so it needs both dependencies' headers.

#include <cstdio>
#include <gpt2/config_json.hpp>
#include <gpt2/embeddings.hpp>

int main() {
  const gpt2::GPT2Config config =
      gpt2::parse_config(R"({"vocab_size": 11, "n_positions": 7, "n_embd": 4, "n_head": 2})");
  const gpt2::GPT2Embeddings<float> embeddings(config);
  const gpt2::Matrix<float> hidden = embeddings({3, 1, 4});
  std::printf("[%td, %td]\n", hidden.rows(), hidden.cols());
  return hidden.rows() == 3 && hidden.cols() == 4 ? 0 : 1;
}
