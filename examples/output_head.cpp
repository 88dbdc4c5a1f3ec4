#include <gpt2/gpt2.hpp>
#include <iomanip>
#include <iostream>
#include <vector>

int main(int argc, char** argv) {
  auto embeddings = gpt2::from_pretrained<gpt2::GPT2Embeddings<float>>(
      argc > 1 ? argv[1] : "tests/reference/checkpoints/gpt2-tiny");
  gpt2::Embedding<float>& wte = embeddings.wte;

  // In a model, the last block and its layer norm come between.
  const gpt2::Matrix<float> hidden = embeddings({0, 10, 1});  // [3, n_embd]

  const gpt2::Matrix<float> scores = gpt2::logits(wte, hidden);  // [3, vocab_size]
  const gpt2::TopK<float> best = gpt2::top_k(wte, hidden, 2);    // [3, 2], without forming `scores`
  std::cout << "of " << scores.cols() << " logits the best two are those of tokens\n" << best.ids << "\n";

  const std::vector<int> labels{10, 1, -100};                          // -100: no label
  const auto [loss, grad] = gpt2::cross_entropy(wte, hidden, labels);  // and wte.grad()
  std::cout << "loss " << std::setprecision(4) << loss << ", its gradient [" << grad.rows() << ", "
            << grad.cols() << "] and [" << wte.grad().rows() << ", " << wte.grad().cols() << "]\n";
}
