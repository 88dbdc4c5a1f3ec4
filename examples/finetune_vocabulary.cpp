// SPDX-License-Identifier: MIT
//
// New words for a trained model: after "dog" gpt2-tiny learns to write "puppy", and "kitten" after "cat", in
// every position; after other words it shall write the same as before. Only the rows of the new words are trained, all
// others stay as they are, bit for bit. (The model is wte + wpe and the tied head, without the blocks between.)

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <gpt2/lm_head.hpp>
#include <gpt2/pretrained.hpp>
#include <gpt2/resize.hpp>
#include <random>
#include <string>
#include <vector>

namespace {

using Embeddings = gpt2::GPT2Embeddings<float>;
using Ids = gpt2::IdMatrix<std::int64_t>;

bool same_bits(const gpt2::Matrix<float>& a, const gpt2::Matrix<float>& b) {
  return a.rows() == b.rows() && a.cols() == b.cols() &&
         std::memcmp(a.data(), b.data(), sizeof(float) * static_cast<std::size_t>(a.size())) == 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string folder = argc > 1 ? argv[1] : "tests/reference/checkpoints/gpt2-tiny";
  auto config = gpt2::from_pretrained<gpt2::GPT2Config>(folder);
  const auto original = gpt2::from_pretrained<Embeddings>(folder);
  std::vector<std::string> vocabulary;
  std::ifstream file(folder + "/vocabulary.txt");
  for (std::string word; file >> word;) vocabulary.push_back(word);
  const auto old_words = static_cast<gpt2::Index>(vocabulary.size());

  // Two words more, in a table whose size is a multiple of eight. The rows that pad it are no words, and never a label.
  constexpr gpt2::Index dog = 0;
  constexpr gpt2::Index man = 1;
  constexpr gpt2::Index cat = 2;
  const gpt2::Index puppy = old_words;
  const gpt2::Index kitten = old_words + 1;
  vocabulary.insert(vocabulary.end(), {"puppy", "kitten"});
  const auto words = static_cast<gpt2::Index>(vocabulary.size());
  const gpt2::HeadOptions head{.vocab_size = words};
  Embeddings embeddings = original;
  embeddings.wte = gpt2::resize_token_embeddings(original.wte, words, {.pad_to_multiple_of = 8});
  config.vocab_size = embeddings.wte.num_embeddings();
  std::printf("%td words and 2 new ones, in a table of %td rows\n", old_words, config.vocab_size);

  // Every word in every position, and the word to be written after it.
  const Ids input_ids = gpt2::arange(old_words).replicate(1, config.n_positions);
  const auto answers = [&](const Embeddings& model) {
    const Ids best = gpt2::top_k(model.wte, model(input_ids), 1, head).ids;
    return Ids(best.reshaped<Eigen::RowMajor>(old_words, config.n_positions));
  };
  Ids labels = answers(embeddings);
  labels.row(dog).setConstant(puppy);
  labels.row(cat).setConstant(kitten);
  const auto show = [&](const char* when) {
    const Ids written = answers(embeddings);
    std::printf("%s training:", when);
    for (const gpt2::Index word : {dog, cat, man}) {
      const std::int64_t next = written(word, 0);
      std::printf("  %s -> %s (%td of %td)", vocabulary.at(static_cast<std::size_t>(word)).c_str(),
                  vocabulary.at(static_cast<std::size_t>(next)).c_str(),
                  (written.row(word).array() == next).count(), config.n_positions);
    }
    std::printf("\n");
  };

  show("before");
  const gpt2::Index new_words = words - old_words;
  for (int step = 0; step < 60; ++step) {
    const gpt2::Tensor3<float> hidden = embeddings(input_ids);
    const auto [loss, grad] = gpt2::cross_entropy(embeddings.wte, hidden, labels, {.head = head});
    embeddings.wte.backward(input_ids, grad);
    embeddings.wte.mutable_weight().middleRows(old_words, new_words) -=
        20.0F * embeddings.wte.grad().middleRows(old_words, new_words);
    embeddings.wte.zero_grad();
  }
  show("after ");

  // The checkpoint that comes out of it.
  const auto tuned = std::filesystem::temp_directory_path() /
                     ("gpt2-finetune_vocabulary-" + std::to_string(std::random_device{}()));
  gpt2::save_pretrained(tuned, config, embeddings);
  {
    const auto loaded = gpt2::from_pretrained<Embeddings>(tuned);
    const bool same_words = same_bits(loaded.wte.weight().topRows(old_words), original.wte.weight());
    const bool same_positions = same_bits(loaded.wpe.weight(), original.wpe.weight());
    std::printf("saved and loaded again: the rows of the %td old words are %s, wpe is %s\n", old_words,
                same_words ? "unchanged, bit for bit" : "CHANGED", same_positions ? "unchanged" : "CHANGED");
  }
  std::filesystem::remove_all(tuned);
}
