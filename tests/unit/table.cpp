// SPDX-License-Identifier: MIT
#include "gpt2/table.hpp"

#include <cstdint>
#include <vector>

#include "gpt2/embeddings.hpp"
#include "gpt2/lm_head.hpp"
#include "support.hpp"

namespace table_tests {

using namespace gpt2;

namespace {

/// A table of another project's: rows of float that it keeps in bfloat16's upper halves of nothing but their sign.
class SignTable {
 public:
  explicit SignTable(Matrix<float> signs) : signs_(std::move(signs)) {}
  [[nodiscard]] Index num_embeddings() const noexcept { return signs_.rows(); }
  [[nodiscard]] Index embedding_dim() const noexcept { return signs_.cols(); }

 private:
  friend detail::RowView<const float> stored_rows(const SignTable& table) noexcept {
    return {table.signs_.data(), table.signs_.rows(), table.signs_.cols(), table.signs_.cols()};
  }
  Matrix<float> signs_;
};

}  // namespace

TEST_CASE("a table is an Embedding, a QuantizedEmbedding, or one with stored rows", "[table]") {
  STATIC_REQUIRE((Table<Embedding<float>> && Table<Embedding<Eigen::half>> && Table<QuantizedEmbedding>));
  STATIC_REQUIRE(Table<SignTable>);
  STATIC_REQUIRE_FALSE((Table<Matrix<float>> || Table<int> || Table<GPT2Embeddings<float>>));
  STATIC_REQUIRE((std::same_as<table_scalar_t<Embedding<double>>, double>));
  STATIC_REQUIRE((std::same_as<table_scalar_t<Embedding<Eigen::bfloat16>>, Eigen::bfloat16>));
  STATIC_REQUIRE((std::same_as<table_scalar_t<QuantizedEmbedding>, float>));
}

TEST_CASE("every table is summed and scored", "[table]") {
  const Matrix<float> weight = test::drawn<float>(9, 8, 1).cwiseSign();
  const Embedding<float> wte(weight);
  const Embedding<float> wpe(test::drawn<float>(4, 8, 2));
  const std::vector<int> ids{8, 0, 3};
  const GPT2Embeddings floats(wte, wpe);
  const GPT2Embeddings signs(SignTable(weight), wpe);
  STATIC_REQUIRE((std::same_as<decltype(signs), const GPT2Embeddings<float, SignTable, Embedding<float>>>));
  const Matrix<float> hidden = signs(ids);
  CHECK(hidden == floats(ids));
  CHECK(logits(signs.wte, hidden) == logits(wte, hidden));
  CHECK(top_k(signs.wte, hidden, 2).ids == top_k(wte, hidden, 2).ids);
  CHECK(cross_entropy_loss(signs.wte, hidden, ids) == cross_entropy_loss(wte, hidden, ids));
}

TEST_CASE("a quantised token table goes with a float or a quantised position table", "[table]") {
  const QuantizedEmbedding wte(Embedding<float>(test::drawn<float>(9, 8, 1)));
  const Embedding<float> wpe(test::drawn<float>(4, 8, 2));
  STATIC_REQUIRE(
      (std::same_as<QuantizedGPT2Embeddings<QuantizedEmbedding>, GPT2Embeddings<float, QuantizedEmbedding>>));
  const QuantizedGPT2Embeddings<Embedding<float>> mixed(wte, wpe);
  const QuantizedGPT2Embeddings<QuantizedEmbedding> both(wte, QuantizedEmbedding(wpe));
  const GPT2Embeddings<float> floats(Embedding<float>(wte.dequantize()), wpe);
  const GPT2Embeddings<float> rounded(Embedding<float>(wte.dequantize()),
                                      Embedding<float>(both.wpe.dequantize()));
  const std::vector<int> ids{8, 0, 3};
  const Matrix<float> prompt = test::drawn<float>(3, 8, 3);
  CHECK((mixed(ids, PastLength{1}) - floats(ids, PastLength{1})).cwiseAbs().maxCoeff() < 1e-6F);
  CHECK((both(ids) - rounded(ids)).cwiseAbs().maxCoeff() < 1e-6F);
  CHECK(mixed.embed(prompt, PastLength{0}) == floats.embed(prompt, PastLength{0}));
  CHECK(mixed.embed(prompt, arange(3), ids).rows() == 3);
}

}  // namespace table_tests
