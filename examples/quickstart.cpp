#include <gpt2/gpt2.hpp>
#include <iostream>

int main(int argc, char** argv) {
  const auto embeddings = gpt2::from_pretrained<gpt2::GPT2Embeddings<float>>(
      argc > 1 ? argv[1] : "tests/reference/checkpoints/gpt2-tiny");

  const gpt2::Matrix<float> hidden = embeddings({0, 10, 1});  // "dog bites man", at positions 0, 1, 2
  std::cout << "hidden states: [" << hidden.rows() << ", " << hidden.cols() << "]\n";

  const gpt2::Matrix<float> next = embeddings({23}, gpt2::PastLength{3});  // " .", after the three
  std::cout << "wte[23] + wpe[3]: " << next.leftCols(4) << " ...\n";

  try {
    std::cout << embeddings({0, 50257});
  } catch (const gpt2::IndexError& error) {
    std::cout << error.what() << "\n";
  }
}
