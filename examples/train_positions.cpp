// SPDX-License-Identifier: MIT
//
// Training on a task that needs positions: to write every other letter as a capital, "positions" as "PoSiTiOnS".
// The model is the smallest possible around GPT-2's embeddings, wte + wpe -> dropout -> head, and only wpe
// can tell it which letters to capitalise. It is trained with dense gradients, with sparse ones, and without wpe.

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <gpt2/dropout.hpp>
#include <gpt2/lm_head.hpp>
#include <gpt2/pretrained.hpp>
#include <map>
#include <numbers>
#include <random>
#include <string>
#include <string_view>

namespace {

using Ids = gpt2::IdMatrix<std::int64_t>;
using Table = gpt2::Embedding<float>;
using Embeddings = gpt2::GPT2Embeddings<float>;
using Hidden = gpt2::Tensor3<float>;

constexpr int letters = 26;  // ids 0 to 25 are a to z, 26 to 51 are A to Z
constexpr int steps = 100;
constexpr float ln2 = std::numbers::ln2_v<float>;
const gpt2::GPT2Config config{.vocab_size = gpt2::Index{2} * letters,
                              .n_positions = 16,
                              .n_embd = 16,
                              .n_layer = 1,
                              .n_head = 1,
                              .initializer_range = 0.2,
                              .bos_token_id = std::nullopt,
                              .eos_token_id = std::nullopt};

/// Adam for one table. With a dense gradient all rows take a step, with a sparse one those that it has.
class Adam {
 public:
  void step(Table& table) {
    begin_step(table);
    for (gpt2::Index i = 0; i < table.num_embeddings(); ++i) step_row(table, i, table.grad().row(i));
    table.zero_grad();
  }
  void step(Table& table, const gpt2::SparseGradient<float>& grad) {
    begin_step(table);
    for (gpt2::Index i = 0; i < grad.rows.size(); ++i) step_row(table, grad.rows[i], grad.values.row(i));
  }

 private:
  void begin_step(const Table& table) {
    if (step_++ > 0) return;
    mean_.setZero(table.num_embeddings(), table.embedding_dim());
    square_ = mean_;
  }
  void step_row(Table& table, gpt2::Index i, const Eigen::RowVectorXf& grad) {
    mean_.row(i) = 0.9F * mean_.row(i) + 0.1F * grad;
    square_.row(i) = 0.99F * square_.row(i) + 0.01F * grad.cwiseAbs2();
    const auto mean = mean_.row(i).array() / (1 - std::pow(0.9F, step_));
    const auto square = square_.row(i).array() / (1 - std::pow(0.99F, step_));
    const float learning_rate = 0.05F * (1 - step_ / (steps + 1));
    table.mutable_weight().row(i).array() -= learning_rate * mean / (square.sqrt() + 1e-8F);
  }

  gpt2::Matrix<float> mean_;
  gpt2::Matrix<float> square_;
  float step_ = 0;
};

/// The expected answer: capitals in the places 0, 2, 4, ….
Ids with_capitals(Ids ids) {
  for (gpt2::Index place = 0; place < ids.cols(); place += 2) ids.col(place).array() += letters;
  return ids;
}

Ids random_letters(std::mt19937& random) {
  Ids ids(4, config.n_positions);
  for (gpt2::Index i = 0; i < ids.size(); ++i) ids.data()[i] = static_cast<int>(random() % letters);
  return ids;
}

/// Calls training_step(step, ids) with random letters. In between it prints the loss over every letter in every
/// place, for the hidden states that the model has there.
void train(const char* name, const Table& head, const std::function<Hidden(const Ids&)>& hidden,
           const std::function<void(std::uint64_t, const Ids&)>& training_step) {
  const Ids all = gpt2::arange(letters).replicate(1, config.n_positions);
  std::mt19937 random(3);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same numbers in each run
  std::printf("%-18s", name);
  for (std::uint64_t step = 0; step <= steps; ++step) {
    if (step % 20 == 0) {
      const float loss = gpt2::cross_entropy_loss(head, hidden(all), with_capitals(all));
      std::printf("%7.1f", static_cast<double>(loss));
      if (step == steps) std::printf("  %s\n", loss < 0.05F ? "below 0.05" : loss > ln2 ? "above ln 2" : "?");
    }
    training_step(step, random_letters(random));
  }
}

Embeddings train_dense() {
  Embeddings embeddings(config, 1);
  const gpt2::Dropout dropout(0.1);
  std::map<std::string_view, Adam> adam;
  const auto hidden_states = [&](const Ids& ids) { return embeddings(ids); };
  train("dense gradients", embeddings.wte, hidden_states, [&](std::uint64_t step, const Ids& ids) {
    Hidden hidden = embeddings(ids);
    dropout.forward(step, hidden);
    auto [loss, grad] = gpt2::cross_entropy(embeddings.wte, hidden, with_capitals(ids));  // and wte.grad()
    dropout.backward(step, grad);
    embeddings.backward(ids, gpt2::PastLength{0}, grad);
    for (auto& [name, table] : embeddings.parameters()) adam[name].step(*table);
  });
  return embeddings;
}

/// A tied head has a gradient for every token. This one has a table of its own, so that those of wte and wpe are
/// few: 64 letters of a vocabulary.
void train_sparse() {
  Embeddings embeddings(config, 1);
  Table head = embeddings.wte;
  const gpt2::Dropout dropout(0.1);
  std::map<std::string_view, Adam> adam;
  const auto hidden_states = [&](const Ids& ids) { return embeddings(ids); };
  train("sparse gradients", head, hidden_states, [&](std::uint64_t step, const Ids& ids) {
    Hidden hidden = embeddings(ids);
    dropout.forward(step, hidden);
    auto [loss, grad] = gpt2::cross_entropy(head, hidden, with_capitals(ids));
    dropout.backward(step, grad);
    adam["head"].step(head);
    adam["wte"].step(embeddings.wte, embeddings.wte.sparse_backward(ids, grad));
    adam["wpe"].step(embeddings.wpe, embeddings.wpe.sparse_backward(gpt2::position_ids_like(ids), grad));
  });
}

void train_without_positions() {
  Table wte = Embeddings(config, 1).wte;
  const gpt2::Dropout dropout(0.1);
  Adam adam;
  const auto hidden_states = [&](const Ids& ids) { return wte(ids); };
  train("without positions", wte, hidden_states, [&](std::uint64_t step, const Ids& ids) {
    Hidden hidden = wte(ids);
    dropout.forward(step, hidden);
    auto [loss, grad] = gpt2::cross_entropy(wte, hidden, with_capitals(ids));
    dropout.backward(step, grad);
    wte.backward(ids, grad);
    adam.step(wte);
  });
}

/// Letters as the model writes them.
std::string written(const Embeddings& embeddings, const std::string& text) {
  gpt2::IdVector<int> ids(static_cast<gpt2::Index>(text.size()));
  for (gpt2::Index i = 0; i < ids.size(); ++i) ids[i] = text[static_cast<std::size_t>(i)] - 'a';
  const gpt2::TopK<float> best = gpt2::top_k(embeddings.wte, embeddings(ids), 1);
  std::string result;
  for (const std::int64_t id : best.ids.col(0)) {
    result += static_cast<char>(id < letters ? 'a' + id : 'A' + id - letters);
  }
  return result;
}

}  // namespace

int main() {
  std::printf("loss after%8s%7d%7d%7d%7d%7d%7d  steps\n", "", 0, 20, 40, 60, 80, 100);
  const Embeddings embeddings = train_dense();
  train_sparse();
  train_without_positions();
  std::printf("ln 2 is the loss of tossing a coin: without positions no model can do better.\n\n");

  const auto folder = std::filesystem::temp_directory_path() /
                      ("gpt2-train_positions-" + std::to_string(std::random_device{}()));
  gpt2::save_pretrained(folder, config, embeddings);
  {
    const auto loaded = gpt2::from_pretrained<Embeddings>(folder);
    const bool equal =
        loaded.wte.weight() == embeddings.wte.weight() && loaded.wpe.weight() == embeddings.wpe.weight();
    std::printf("saved and loaded again, %s\n", equal ? "bit for bit" : "NOT the same");
    std::printf("positions  -> %s\n", written(loaded, "positions").c_str());
    std::printf("embeddings -> %s\n", written(loaded, "embeddings").c_str());
  }
  std::filesystem::remove_all(folder);
}
