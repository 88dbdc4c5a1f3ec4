// SPDX-License-Identifier: MIT
//
// Decoding with a key-value cache: of a text that grows, only the new token is embedded, at the position after those
// that the cache holds. (gpt2_generate.cpp has the cache itself, and the blocks that use it.)

#include <array>
#include <cstdint>
#include <cstring>
#include <gpt2/gpt2.hpp>
#include <iostream>
#include <span>
#include <vector>

namespace {

bool same_bits(const gpt2::Matrix<float>& a, const gpt2::Matrix<float>& b) {
  return a.size() == b.size() &&
         std::memcmp(a.data(), b.data(), sizeof(float) * static_cast<std::size_t>(a.size())) == 0;
}

}  // namespace

int main(int argc, char** argv) {
  const auto embeddings = gpt2::from_pretrained<gpt2::GPT2Embeddings<float>>(
      argc > 1 ? argv[1] : "tests/reference/checkpoints/gpt2-tiny");
  const gpt2::Index n_embd = embeddings.wte.embedding_dim();
  const gpt2::Index n_positions = embeddings.wpe.num_embeddings();

  // One text. The prompt comes at once, every further token alone: PastLength is the number of tokens in the cache.
  // <|endoftext|> dog bites man . who bites man ?
  const std::vector<int> text{25, 0, 10, 1, 23, 22, 10, 1, 24};
  constexpr std::size_t prompt = 5;
  gpt2::Matrix<float> hidden(static_cast<gpt2::Index>(text.size()), n_embd);
  embeddings.forward_into(std::span(text).first(prompt), gpt2::PastLength{0}, hidden.topRows(prompt));
  for (std::size_t past = prompt; past < text.size(); ++past) {
    const auto row = static_cast<gpt2::Index>(past);
    embeddings.forward_into(std::array{text[past]}, gpt2::PastLength{row}, hidden.middleRows(row, 1));
  }
  std::cout << "token by token, or the whole text: "
            << (same_bits(hidden, embeddings(text)) ? "the same vectors" : "DIFFERENT vectors") << "\n";

  // A batch of prompts of different lengths, padded on their left: the texts are at different positions. Those of
  // the prompts follow from the mask, and each further token is one later.
  gpt2::IdMatrix<std::int64_t> input_ids(2, 4);
  gpt2::IdMatrix<std::int64_t> mask(2, 4);
  input_ids << 25, 25, 25, 7,  //
      25, 0, 10, 1;
  mask << 0, 0, 1, 1,  //
      1, 1, 1, 1;
  const auto position_ids = gpt2::position_ids_from_attention_mask(mask);
  gpt2::Tensor3<float> batch = embeddings(input_ids, position_ids);  // [2, 4, n_embd]
  std::cout << "prompts at positions\n" << position_ids << "\n";
  gpt2::IdMatrix<std::int64_t> next = position_ids.rightCols(1);
  gpt2::IdMatrix<std::int64_t> token(2, 1);
  token << 23, 23;
  for (int step = 0; step < 2; ++step) {
    next.array() += 1;                // [2, 1]
    batch = embeddings(token, next);  // [2, 1, n_embd]
    std::cout << "then " << batch.dimension(1) << " token each, at " << next.transpose() << "\n";
  }

  // The last position, and the one after it.
  std::cout << "the last position: " << embeddings({23}, gpt2::PastLength{n_positions - 1}).rows()
            << " row\n";
  try {
    std::cout << embeddings({23}, gpt2::PastLength{n_positions});
  } catch (const gpt2::IndexError& error) {
    std::cout << error.what() << "\n";
  }
}
