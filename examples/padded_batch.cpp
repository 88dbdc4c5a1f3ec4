// SPDX-License-Identifier: MIT
//
// Sentences of different lengths in one batch: padded on the left, padded on the right, or packed into one row.
// With the right positions each token gets, bit for bit, the vector that it gets when its sentence is alone.

#include <cstdint>
#include <cstring>
#include <fstream>
#include <gpt2/gpt2.hpp>
#include <iomanip>
#include <iostream>
#include <string>
#include <vector>

namespace {

using Ids = gpt2::IdMatrix<std::int64_t>;

/// Embeds a batch, prints it, and counts the tokens that have, in reading order, the vectors of `alone`.
void show(const std::string& name, const gpt2::GPT2Embeddings<float>& embeddings, const Ids& ids,
          const Ids& mask, const Ids& positions, const gpt2::Matrix<float>& alone,
          const std::vector<std::string>& vocabulary) {
  const gpt2::Tensor3<float> hidden = embeddings(ids, positions);
  const auto rows = gpt2::as_matrix(hidden);
  const auto bytes = sizeof(float) * static_cast<std::size_t>(rows.cols());
  gpt2::Index token = 0;
  gpt2::Index equal = 0;
  std::cout << name << "\n" << std::left;
  for (gpt2::Index i = 0; i < ids.size(); ++i) {
    const bool real = mask(i / ids.cols(), i % ids.cols()) == 1;
    const std::string word = real ? vocabulary.at(static_cast<std::size_t>(ids.data()[i])) : "-";
    const bool last = (i + 1) % ids.cols() == 0;
    std::cout << "  " << std::setw(last ? 0 : 8) << word + "@" + std::to_string(positions.data()[i])
              << (last ? "\n" : "");
    if (real) equal += std::memcmp(rows.row(i).data(), alone.row(token++).data(), bytes) == 0;
  }
  std::cout << "  " << equal << " of " << token << " tokens have the vectors they have alone\n";
}

}  // namespace

int main(int argc, char** argv) {
  const std::string folder = argc > 1 ? argv[1] : "tests/reference/checkpoints/gpt2-tiny";
  const auto embeddings = gpt2::from_pretrained<gpt2::GPT2Embeddings<float>>(folder);
  std::vector<std::string> vocabulary;
  std::ifstream file(folder + "/vocabulary.txt");
  for (std::string word; file >> word;) vocabulary.push_back(word);

  const std::vector<std::vector<std::int64_t>> sentences{
      {0, 10, 1, 23},          // dog bites man .
      {22, 10, 1, 24},         // who bites man ?
      {1, 20, 11, 21, 0, 23},  // man is bitten by dog .
      {7},                     // fox
  };
  const gpt2::Index batch = 4;
  const gpt2::Index longest = 6;
  const gpt2::Index total = 15;

  // Any token will do as padding; GPT-2 has none of its own, so it is often the end of text.
  Ids left = Ids::Constant(batch, longest, 25);
  Ids left_mask = Ids::Zero(batch, longest);
  Ids right = left;
  Ids right_mask = left_mask;
  Ids packed(1, total);
  std::vector<gpt2::Index> lengths;
  gpt2::Matrix<float> alone(total, embeddings.wte.embedding_dim());
  for (gpt2::Index row = 0, begin = 0; row < batch; ++row, begin += lengths.back()) {
    const std::vector<std::int64_t>& sentence = sentences[static_cast<std::size_t>(row)];
    lengths.push_back(static_cast<gpt2::Index>(sentence.size()));
    const Eigen::Map<const gpt2::IdVector<std::int64_t>> ids(sentence.data(), lengths.back());
    embeddings.forward_into(ids, gpt2::PastLength{0}, alone.middleRows(begin, ids.size()));
    left.row(row).tail(ids.size()) = ids;
    left_mask.row(row).tail(ids.size()).setOnes();
    right.row(row).head(ids.size()) = ids;
    right_mask.row(row).head(ids.size()).setOnes();
    packed.row(0).segment(begin, ids.size()) = ids;
  }

  show("padded on the left", embeddings, left, left_mask, gpt2::position_ids_from_attention_mask(left_mask),
       alone, vocabulary);
  show("padded on the right", embeddings, right, right_mask,
       gpt2::position_ids_from_attention_mask(right_mask), alone, vocabulary);
  show("packed into one row", embeddings, packed, Ids::Ones(1, total),
       gpt2::packed_position_ids(lengths).transpose(), alone, vocabulary);
  show("padded on the left, positions without the mask: wrong", embeddings, left, left_mask,
       gpt2::position_ids_like(left), alone, vocabulary);
}
