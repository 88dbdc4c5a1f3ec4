// SPDX-License-Identifier: MIT
//
// Several documents in one row, so that nothing is padding: each starts at position 0 again. The end of a
// document is known from their lengths, or from the end of text after each.

#include <cstdint>
#include <cstring>
#include <gpt2/gpt2.hpp>
#include <iomanip>
#include <iostream>
#include <vector>

int main(int argc, char** argv) {
  auto embeddings = gpt2::from_pretrained<gpt2::GPT2Embeddings<float>>(
      argc > 1 ? argv[1] : "tests/reference/checkpoints/gpt2-tiny");

  constexpr std::int64_t end = 25;  // <|endoftext|>
  const std::vector<std::vector<std::int64_t>> documents{
      {0, 10, 1, 23, end},  // dog bites man .
      {7, end},             // fox
      {22, 10, 1, 24},      // who bites man ?
  };
  std::vector<std::int64_t> input_ids;
  std::vector<std::int64_t> lengths;
  for (const std::vector<std::int64_t>& document : documents) {
    input_ids.insert(input_ids.end(), document.begin(), document.end());
    lengths.push_back(static_cast<std::int64_t>(document.size()));
  }

  const gpt2::IdVector<std::int64_t> position_ids = gpt2::packed_position_ids(lengths);
  const bool same = position_ids == gpt2::position_ids_reset_after(input_ids, end);

  // The label of a token is the next one; the last of a document has none.
  gpt2::IdVector<std::int64_t> labels(position_ids.size());
  for (gpt2::Index i = 0; i < labels.size(); ++i) {
    const bool last = i + 1 == labels.size() || position_ids[i + 1] == 0;
    labels[i] = last ? -100 : input_ids[static_cast<std::size_t>(i) + 1];
  }

  const Eigen::Map<const gpt2::IdVector<std::int64_t>> ids(input_ids.data(), position_ids.size());
  const auto show = [](const char* name, const gpt2::IdVector<std::int64_t>& row) {
    std::cout << std::left << std::setw(9) << name << std::right;
    for (const std::int64_t id : row) std::cout << std::setw(5) << id;
    std::cout << "\n";
  };
  show("ids", ids);
  show("positions", position_ids);
  show("labels", labels);
  std::cout << "from lengths and from the ends of text: " << (same ? "the same positions" : "DIFFERENT")
            << "\n";

  // Each document has the vectors that it has alone, bit for bit.
  const gpt2::Matrix<float> hidden = embeddings(input_ids, position_ids);  // [sum(lengths), n_embd]
  gpt2::Index begin = 0;
  gpt2::Index equal = 0;
  for (const std::vector<std::int64_t>& document : documents) {
    const gpt2::Matrix<float> alone = embeddings(document);
    equal += std::memcmp(hidden.row(begin).data(), alone.data(),
                         sizeof(float) * static_cast<std::size_t>(alone.size())) == 0;
    begin += alone.rows();
  }
  std::cout << equal << " of " << documents.size() << " documents have the vectors they have alone\n";

  // In training. The blocks in between must not look from one document into another either.
  const auto [loss, grad] = gpt2::cross_entropy(embeddings.wte, hidden, labels);
  embeddings.backward(input_ids, position_ids, grad);
  std::cout << "wpe has a gradient in " << (embeddings.wpe.grad().rowwise().norm().array() > 0).count()
            << " of its " << embeddings.wpe.num_embeddings() << " rows\n";
}
