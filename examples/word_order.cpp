// SPDX-License-Identifier: MIT
//
// Why positions are embedded: the token embeddings of "dog bites man" and "man bites dog" are the same three
// vectors in another order, and attention does not see order. The sums with wpe are different vectors.
//
//     word_order [CHECKPOINT [SENTENCE SENTENCE]]

#include <algorithm>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <gpt2/gpt2.hpp>
#include <iostream>
#include <span>
#include <string>
#include <vector>

#include "gpt2_tokenizer.hpp"

#ifndef GPT2_BUNDLED_CHECKPOINT
#define GPT2_BUNDLED_CHECKPOINT "tests/reference/checkpoints/gpt2-tiny"
#endif

namespace {

using Ids = text::Tokenizer::Ids;

/// A matrix's rows in lexicographic order: equal for two matrices if one is a permutation of the other.
std::vector<std::vector<float>> sorted_rows(const gpt2::Matrix<float>& matrix) {
  std::vector<std::vector<float>> rows;
  for (gpt2::Index i = 0; i < matrix.rows(); ++i)
    rows.emplace_back(matrix.row(i).begin(), matrix.row(i).end());
  std::sort(rows.begin(), rows.end());
  return rows;
}

std::string answer(const gpt2::Matrix<float>& a, const gpt2::Matrix<float>& b) {
  if (a.rows() == b.rows() && a == b) return "the same vectors in the same order";
  return sorted_rows(a) == sorted_rows(b) ? "the same vectors in another order" : "other vectors";
}

/// To GPT-2, "dog" and " dog" are two tokens: with a blank in front, a sentence's first word is the same as elsewhere.
Ids encode(const text::Tokenizer& tokenizer, const std::string& sentence) {
  return tokenizer.encode(sentence.starts_with(' ') ? sentence : " " + sentence);
}

void print(const std::string& sentence, const Ids& ids) {
  std::cout << text::printable(sentence, 60) << ":";
  for (const std::int64_t id : ids) std::cout << " " << id;
  std::cout << "\n";
}

void compare(const std::filesystem::path& folder, const std::string& one, const std::string& other) {
  const auto config = gpt2::from_pretrained<gpt2::GPT2Config>(folder);
  const auto tokenizer = text::Tokenizer::from_pretrained(folder, config.vocab_size);
  const auto embeddings = gpt2::from_pretrained<gpt2::GPT2Embeddings<float>>(folder);
  const Ids ids = encode(tokenizer, one);
  const Ids other_ids = encode(tokenizer, other);
  print(one, ids);
  print(other, other_ids);

  const gpt2::Matrix<float> hidden = embeddings(ids);
  const gpt2::Matrix<float> other_hidden = embeddings(other_ids);
  std::cout << "wte[ids]:       " << answer(embeddings.wte(ids), embeddings.wte(other_ids)) << "\n"
            << "wte[ids] + wpe: " << answer(hidden, other_hidden) << "\n";

  // A word at its old position is the same; one at another position differs by the difference of wpe's rows.
  const auto wpe = embeddings.wpe.weight();
  std::vector<bool> found(other_ids.size());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    for (std::size_t j = 0; j < other_ids.size(); ++j) {
      if (found[j] || other_ids[j] != ids[i]) continue;
      found[j] = true;
      const auto row = static_cast<gpt2::Index>(i);
      const auto other_row = static_cast<gpt2::Index>(j);
      std::cout << text::printable(tokenizer.token(ids[i])) << " at " << i << " and at " << j << ": distance "
                << (hidden.row(row) - other_hidden.row(other_row)).norm() << ", that of wpe's rows "
                << (wpe.row(row) - wpe.row(other_row)).norm() << "\n";
      break;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::span<char*> arguments(argv + 1, argv + argc);
  const std::string first = arguments.empty() ? GPT2_BUNDLED_CHECKPOINT : arguments[0];
  const bool help = first == "--help";
  if (help || arguments.size() == 2 || arguments.size() > 3) {
    (help ? std::cout : std::cerr) << "Usage: word_order [CHECKPOINT [SENTENCE SENTENCE]]\n";
    return help ? 0 : 2;
  }
  try {
    const bool given = arguments.size() == 3;
    compare(first, given ? arguments[1] : "dog bites man", given ? arguments[2] : "man bites dog");
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "word_order: " << error.what() << "\n";
    return 2;
  }
}
