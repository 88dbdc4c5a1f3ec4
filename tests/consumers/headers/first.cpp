// SPDX-License-Identifier: MIT
//
// One of two translation units that include everything: functions that are not inline would be defined twice.

#include <gpt2/gpt2.hpp>

#include "units.hpp"

int main() {
  const gpt2::GPT2Config config = small_config();
  const gpt2::GPT2Embeddings<float> embeddings(config);
  return embeddings({1, 2, 3}).isApprox(embed_elsewhere({1, 2, 3})) ? 0 : 1;
}
