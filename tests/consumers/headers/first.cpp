// SPDX-License-Identifier: MIT
//
// One of two translation units that include everything: functions that are not inline would be defined twice.

#include <gpt2/gpt2.hpp>
#include <string>

#include "units.hpp"

int main(int argc, char** argv) {
  const gpt2::Matrix<float> elsewhere = embed_elsewhere({1, 2, 3});
  if (argc == 2 && argv[1] == std::string("elsewhere")) return elsewhere.rows() == 3 ? 0 : 1;
  const gpt2::GPT2Config config = small_config();
  const gpt2::GPT2Embeddings<float> embeddings(config);
  return embeddings({1, 2, 3}).isApprox(elsewhere) ? 0 : 1;
}
