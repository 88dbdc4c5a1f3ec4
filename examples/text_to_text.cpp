// SPDX-License-Identifier: MIT
//
// From text to text: a tokenizer makes ids of a prompt, a GPT-2 continues them, the tokenizer makes text of the new ones.

#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

#include "gpt2_blocks.hpp"
#include "gpt2_tokenizer.hpp"

int main(int argc, char** argv) {
  const std::string folder = argc > 1 ? argv[1] : "tests/reference/checkpoints/gpt2-tiny";
  const std::string prompt = argc > 2 ? argv[2] : "<|endoftext|> dog bites man. who bites man?";
  const auto tokenizer = text::Tokenizer::from_pretrained(folder);
  const blocks::Model<float> model(folder);

  const std::vector<std::int64_t> ids = tokenizer.encode(prompt);
  for (const std::int64_t id : ids) std::cout << id << " " << text::printable(tokenizer.token(id)) << "\n";

  const gpt2::Matrix<float> hidden = model.embeddings()(ids);  // what enters the first block
  std::cout << "hidden: [" << hidden.rows() << ", " << hidden.cols() << "]\n";

  const std::vector<std::int64_t> continuation = blocks::generate(model, {ids}, 10).front();
  std::cout << "continued with: " << tokenizer.decode(continuation) << "\n";
}
