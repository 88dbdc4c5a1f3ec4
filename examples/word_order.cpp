// SPDX-License-Identifier: MIT
//
// Why positions are embedded: the token embeddings of "dog bites man" and "man bites dog" are the same three
// vectors in another order, and attention does not see order. The sums with wpe are different vectors.

#include <algorithm>
#include <gpt2/gpt2.hpp>
#include <iostream>
#include <string>
#include <vector>

namespace {

/// A matrix's rows in lexicographic order: equal for two matrices if one is a permutation of the other.
std::vector<std::vector<float>> sorted_rows(const gpt2::Matrix<float>& matrix) {
  std::vector<std::vector<float>> rows;
  for (gpt2::Index i = 0; i < matrix.rows(); ++i)
    rows.emplace_back(matrix.row(i).begin(), matrix.row(i).end());
  std::sort(rows.begin(), rows.end());
  return rows;
}

std::string answer(const gpt2::Matrix<float>& a, const gpt2::Matrix<float>& b) {
  return sorted_rows(a) == sorted_rows(b) ? "the same vectors in another order" : "other vectors";
}

}  // namespace

int main(int argc, char** argv) {
  const auto embeddings = gpt2::from_pretrained<gpt2::GPT2Embeddings<float>>(
      argc > 1 ? argv[1] : "tests/reference/checkpoints/gpt2-tiny");
  const std::vector<int> dog_bites_man{0, 10, 1};
  const std::vector<int> man_bites_dog{1, 10, 0};

  std::cout << "wte[ids]:             "
            << answer(embeddings.wte(dog_bites_man), embeddings.wte(man_bites_dog)) << "\n"
            << "wte[ids] + wpe[0..2]: " << answer(embeddings(dog_bites_man), embeddings(man_bites_dog))
            << "\n";

  // The word that stands where it stood is the same; the two that changed places moved by wpe[0] - wpe[2].
  const gpt2::Matrix<float> first = embeddings(dog_bites_man);
  const gpt2::Matrix<float> second = embeddings(man_bites_dog);
  const auto distance = [&](gpt2::Index i, gpt2::Index j) { return (first.row(i) - second.row(j)).norm(); };
  std::cout << "distance of \"dog\" first from \"dog\" last:  " << distance(0, 2) << "\n"
            << "distance of \"bites\" from \"bites\":         " << distance(1, 1) << "\n"
            << "distance of wpe[0] from wpe[2]:          "
            << (embeddings.wpe.weight().row(0) - embeddings.wpe.weight().row(2)).norm() << "\n";
}
