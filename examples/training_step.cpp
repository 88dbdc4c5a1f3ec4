#include <gpt2/gpt2.hpp>
#include <iomanip>
#include <iostream>

int main() {
  const gpt2::GPT2Config config{
      .vocab_size = 100, .n_positions = 16, .n_embd = 32, .n_head = 2, .initializer_range = 0.1};
  gpt2::GPT2Embeddings<float> embeddings(config, /*seed=*/1);
  const gpt2::Dropout dropout(config.embd_pdrop, /*seed=*/1);

  gpt2::IdMatrix<int> tokens(2, 5);
  tokens << 5, 17, 8, 3, 99,  //
      42, 5, 5, 0, 1;
  const gpt2::IdMatrix<int> input_ids = tokens.leftCols(4);
  const gpt2::IdMatrix<int> labels = tokens.rightCols(4);  // of each token the next

  for (std::uint64_t step = 0; step < 5; ++step) {
    gpt2::Tensor3<float> hidden = embeddings(input_ids);  // [2, 4, 32]
    dropout.forward(step, hidden);
    // The transformer blocks go here; below, their gradient.
    auto [loss, grad] = gpt2::cross_entropy(embeddings.wte, hidden, labels);  // and wte.grad()
    dropout.backward(step, grad);                                             // the same mask, stored nowhere
    embeddings.backward(input_ids, gpt2::PastLength{0}, grad);                // wte.grad(), wpe.grad()
    for (auto& [name, table] : embeddings.parameters()) {
      table->mutable_weight() -= 0.5F * table->grad();
      table->zero_grad();
    }
    std::cout << "step " << step << ": loss " << std::setprecision(3) << loss << "\n";
  }
}
