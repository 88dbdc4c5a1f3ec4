// SPDX-License-Identifier: MIT

#include <gpt2/gpt2.hpp>

#include "units.hpp"

gpt2::GPT2Config small_config() {
  return gpt2::parse_config(R"({"vocab_size": 11, "n_positions": 7, "n_embd": 4, "n_head": 2})");
}

gpt2::Matrix<float> embed_elsewhere(const std::vector<int>& ids) {
  return gpt2::GPT2Embeddings<float>(small_config())(ids);
}
