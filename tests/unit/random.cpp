// SPDX-License-Identifier: MIT
#include "gpt2/random.hpp"

#include "gpt2/dropout.hpp"
#include "gpt2/embeddings.hpp"
#include "gpt2/resize.hpp"
#include "support.hpp"

namespace random_tests {

using namespace gpt2;

TEST_CASE("everything random has the same seed if no other is given", "[random]") {
  CHECK(default_seed == 0);
  CHECK(Dropout(0.5).seed() == default_seed);
  CHECK(ResizeOptions{}.seed == default_seed);
  const GPT2Config config{.vocab_size = 8, .n_positions = 4, .n_embd = 6};
  const GPT2Embeddings<float> unseeded(config);
  const GPT2Embeddings<float> seeded(config, default_seed);
  CHECK(unseeded.wte.weight() == seeded.wte.weight());
  CHECK(unseeded.wpe.weight() == seeded.wpe.weight());
  Matrix<float> unseeded_matrix(3, 3);
  Matrix<float> seeded_matrix(3, 3);
  normal_(unseeded_matrix, 1);
  normal_(seeded_matrix, 1, default_seed);
  CHECK(unseeded_matrix == seeded_matrix);
}

}  // namespace random_tests
