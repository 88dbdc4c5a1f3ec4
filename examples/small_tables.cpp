#include <array>
#include <gpt2/gpt2.hpp>
#include <iomanip>
#include <iostream>

int main() {
  const gpt2::Embedding<float> wte(5000, 768);  // random, of the width of GPT-2's
  const gpt2::Embedding<Eigen::bfloat16> halves(wte.weight().cast<Eigen::bfloat16>());
  const gpt2::QuantizedEmbedding bytes(wte);

  const auto show = [&](const char* name, const auto& table, std::size_t size) {
    gpt2::Matrix<float> rows(3, 768);
    table.forward_into(std::array{7, 0, 4999}, rows);
    const float error = (rows - wte({7, 0, 4999})).cwiseAbs().maxCoeff();
    const gpt2::TopK<float> best = gpt2::top_k(table, rows, 1);  // each row's best match is itself
    std::cout << name << size / 1000 << " kB, off by at most " << std::setprecision(2) << error << ", best "
              << best.ids.transpose() << "\n";
  };
  const auto elements = static_cast<std::size_t>(wte.weight().size());
  show("float     ", wte, elements * sizeof(float));
  show("bfloat16  ", halves, elements * sizeof(Eigen::bfloat16));
  show("int8      ", bytes, bytes.memory_bytes());
}
