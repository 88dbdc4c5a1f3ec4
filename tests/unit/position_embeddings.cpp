// SPDX-License-Identifier: MIT
#include "gpt2/position_embeddings.hpp"

#include <vector>

#include "gpt2/position_ids.hpp"
#include "support.hpp"

namespace position_embeddings_tests {

using namespace gpt2;

namespace {

const GPT2Config small{.vocab_size = 11, .n_positions = 8, .n_embd = 5};

}  // namespace

TEST_CASE("positions 0 … n-1 are the first rows of wpe", "[position_embeddings]") {
  const GPT2PositionEmbeddings<float> positions(small);
  CHECK(positions.wpe.num_embeddings() == 8);
  CHECK(positions.wpe.embedding_dim() == 5);
  CHECK(positions(arange<std::int64_t>(3)) == positions.wpe.weight().topRows(3));
  CHECK(positions(arange(8)) == positions.wpe.weight());
  CHECK(positions({7, 0}).row(1) == positions.wpe.weight().row(0));
  CHECK(positions(arange(0)).cols() == 5);
}

TEST_CASE("every sequence of a batch gets the same positions", "[position_embeddings]") {
  const GPT2PositionEmbeddings<float> positions(small);
  const IdMatrix<int> input_ids = IdMatrix<int>::Constant(2, 4, 10);
  const Tensor3<float> hidden = positions(position_ids_like(input_ids));
  CHECK(hidden.dimension(0) == 2);
  CHECK(as_matrix(hidden).topRows(4) == positions.wpe.weight().topRows(4));
  CHECK(as_matrix(hidden).bottomRows(4) == positions.wpe.weight().topRows(4));

  Matrix<float> out(8, 5);
  positions.forward_into(position_ids_like(input_ids), out);
  CHECK(out == as_matrix(hidden));
  CHECK(test::same_bits(positions(position_ids_like(input_ids), test::SlicingDevice{3}), hidden));
  positions.forward_into(position_ids_like(input_ids), out, test::SlicingDevice{3});
  CHECK(out == as_matrix(hidden));
}

TEST_CASE("a position beyond the table is refused, naming wpe and n_positions", "[position_embeddings]") {
  const GPT2PositionEmbeddings<float> positions(small);
  const auto error = test::error_of<IndexError>([&] { (void)positions(arange(9)); });
  CHECK(std::string(error.what()) ==
        "[gpt2.index_error] wpe: position_ids[8] = 8 is outside [0, 8): n_positions is 8");
  CHECK(error.table() == "wpe");
  CHECK(error.name() == "position_ids");
  CHECK(error.value() == 8);
  CHECK(error.bound() == 8);
  CHECK(test::error_of<IndexError>([&] { (void)positions({0, -1}); }).value() == -1);

  Matrix<float> out = Matrix<float>::Constant(1, 5, 7);
  CHECK_THROWS_AS(positions.forward_into(std::vector{8}, out), IndexError);
  CHECK(test::error_of<ShapeError>([&] { positions.forward_into(std::vector{0, 1}, out); }).name() == "out");
  CHECK(out == Matrix<float>::Constant(1, 5, 7));
}

TEST_CASE("wpe is drawn with initializer_range from config and seed", "[position_embeddings]") {
  GPT2Config config{.n_positions = 512, .n_embd = 64, .initializer_range = 0.5};
  const GPT2PositionEmbeddings<double> positions(config, 1);
  CHECK(std::sqrt(positions.wpe.weight().array().square().mean()) == Approx(0.5).epsilon(0.02));
  const GPT2PositionEmbeddings<double> same(config, 1);
  const GPT2PositionEmbeddings<double> other(config, 2);
  CHECK(same.wpe.weight() == positions.wpe.weight());
  CHECK_FALSE(other.wpe.weight() == positions.wpe.weight());
  config.vocab_size = 3;  // does not matter to wpe
  const GPT2PositionEmbeddings<double> of_other_vocabulary(config, 1);
  CHECK(of_other_vocabulary.wpe.weight() == positions.wpe.weight());
  config.n_positions = 0;
  CHECK(test::error_of<ConfigError>([&] { GPT2PositionEmbeddings<double>{config}; }).field() ==
        "n_positions");
}

TEST_CASE("a given table is used as it is", "[position_embeddings]") {
  const GPT2PositionEmbeddings<float> positions(Embedding<float>(sinusoidal<float>(6, 4)));
  CHECK(positions(arange(6)) == sinusoidal<float>(6, 4));
}

TEMPLATE_TEST_CASE("positions come in every scalar", "[position_embeddings]", float, double, Eigen::half,
                   Eigen::bfloat16) {
  const GPT2PositionEmbeddings<TestType> positions(small, 5);
  CHECK(test::same_bits(positions(arange(8)), positions.wpe.weight()));
  Matrix<double> wide(8, 5);
  positions.forward_into(arange(8), wide);
  CHECK(wide == positions.wpe.weight().template cast<double>());
}

}  // namespace position_embeddings_tests
