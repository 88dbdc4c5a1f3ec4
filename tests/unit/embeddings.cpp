// SPDX-License-Identifier: MIT
#include "gpt2/embeddings.hpp"

#include <array>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "support.hpp"

namespace embeddings_tests {

using namespace gpt2;

namespace {

const GPT2Config small{.vocab_size = 11, .n_positions = 8, .n_embd = 5};

IdMatrix<int> batch_of_two() { return (IdMatrix<int>(2, 3) << 1, 2, 3, 4, 5, 6).finished(); }

/// The sum as its definition says it, one element at a time; types may be empty.
template <class T>
Matrix<T> plain_sum(const GPT2Embeddings<T>& embeddings, const IdMatrix<int>& ids,
                    const IdMatrix<int>& positions, const IdMatrix<int>& types = {}) {
  using A = Accumulator<T>;
  Matrix<T> out(ids.size(), embeddings.wte.embedding_dim());
  for (Index i = 0; i < ids.size(); ++i) {
    for (Index j = 0; j < out.cols(); ++j) {
      A sum = static_cast<A>(embeddings.wte.weight()(ids.data()[i], j));
      sum += static_cast<A>(embeddings.wpe.weight()(positions.data()[i], j));
      if (types.size() > 0) sum += static_cast<A>(embeddings.wte.weight()(types.data()[i], j));
      out(i, j) = static_cast<T>(sum);
    }
  }
  return out;
}

template <class... Arguments>
concept CanEmbed = requires(const GPT2Embeddings<float>& embeddings, const Arguments&... arguments) {
  embeddings(arguments...);
};

}  // namespace

TEMPLATE_TEST_CASE("the sum is one addition, rounded once", "[embeddings]", float, double, Eigen::half,
                   Eigen::bfloat16) {
  const GPT2Embeddings<TestType> embeddings(small, 3);
  const IdMatrix<int> ids = batch_of_two();
  const Tensor3<TestType> hidden = embeddings(ids);
  CHECK(hidden.dimension(0) == 2);
  CHECK(hidden.dimension(1) == 3);
  CHECK(hidden.dimension(2) == 5);
  CHECK(test::same_bits(hidden, plain_sum(embeddings, ids, position_ids_like(ids))));
  const Matrix<TestType> row = embeddings({4, 5, 6});
  CHECK(test::same_bits(row, as_matrix(hidden).bottomRows(3)));
}

TEMPLATE_TEST_CASE("three terms are summed in Hugging Face's order", "[embeddings]", float, double,
                   Eigen::half, Eigen::bfloat16) {
  using T = TestType;
  const GPT2Config config{.vocab_size = 50, .n_positions = 40, .n_embd = 64, .initializer_range = 0.7};
  const GPT2Embeddings<T> embeddings(config, 3);
  const IdMatrix<int> ids = arange<int>(10, 50).transpose();
  const IdMatrix<int> types = arange<int>(40).transpose();
  const IdMatrix<int> positions = position_ids_like(ids);
  const Tensor3<T> hidden = embeddings(ids, positions, types);
  CHECK(test::same_bits(hidden, plain_sum(embeddings, ids, positions, types)));

  // The test would not notice another order if it made no difference.
  using A = Accumulator<T>;
  Matrix<T> other =
      (embeddings.wte.weight().bottomRows(40).template cast<A>() +
       (embeddings.wpe.weight().template cast<A>() + embeddings.wte.weight().topRows(40).template cast<A>()))
          .template cast<T>();
  if constexpr (sizeof(T) >= 4) CHECK_FALSE(as_matrix(hidden) == other);
}

TEST_CASE("position ids may be of any accepted shape", "[embeddings]") {
  const GPT2Embeddings<float> embeddings(small);
  const IdMatrix<int> ids = batch_of_two();
  const Tensor3<float> expected = embeddings(ids);
  CHECK(test::same_bits(embeddings(ids, arange(3)), expected));
  CHECK(test::same_bits(embeddings(ids, std::vector<std::uint8_t>{0, 1, 2}), expected));
  CHECK(test::same_bits(embeddings(ids, {0, 1, 2}), expected));
  CHECK(test::same_bits(embeddings(ids, IdMatrix<std::int64_t>(arange(3).transpose())), expected));
  CHECK(test::same_bits(embeddings(ids, position_ids_like(ids)), expected));
  CHECK(test::same_bits(embeddings(ids, PastLength{0}), expected));
  CHECK(test::same_bits(embeddings(ids, PastLength{5}), embeddings(ids, arange(5, 8))));

  IdMatrix<int> mixed(2, 3);
  mixed << 7, 6, 5, 0, 0, 0;
  CHECK(test::same_bits(embeddings(ids, mixed), plain_sum(embeddings, ids, mixed)));
  CHECK(test::same_bits(embeddings(ids, Eigen::MatrixXi(mixed)), plain_sum(embeddings, ids, mixed)));

  const std::vector<int> row{1, 2, 3};
  CHECK(embeddings(row, arange(3)) == embeddings(row));
  CHECK(embeddings(row, IdMatrix<int>(arange<int>(3).transpose())) == embeddings(row));
  CHECK(embeddings({1, 2, 3}, PastLength{2}) == embeddings(row, {2, 3, 4}));
}

TEST_CASE("token types may be of any accepted shape, and are rows of wte", "[embeddings]") {
  const GPT2Embeddings<float> embeddings(small);
  const IdMatrix<int> ids = batch_of_two();
  const IdMatrix<int> types = (IdMatrix<int>(2, 3) << 0, 1, 0, 0, 1, 0).finished();
  const Matrix<float> expected = plain_sum(embeddings, ids, position_ids_like(ids), types);
  CHECK(test::same_bits(embeddings(ids, PastLength{}, types), expected));
  CHECK(test::same_bits(embeddings(ids, arange(3), {0, 1, 0}), expected));
  CHECK(test::same_bits(embeddings(ids, {0, 1, 2}, types.row(0)), expected));
  CHECK(test::same_bits(embeddings(ids, arange(3), types.topRows(1)), expected));
  CHECK(embeddings({4, 5, 6}, {0, 1, 2}, {0, 1, 0}) == expected.bottomRows(3));
}

TEST_CASE("a token is placed by its position, whatever batch and padding it comes in", "[embeddings]") {
  const GPT2Embeddings<float> embeddings(small);
  const Matrix<float> alone = embeddings({7, 8});
  IdMatrix<int> ids(2, 4);
  ids << 0, 0, 7, 8, 7, 8, 0, 0;
  IdMatrix<int> mask(2, 4);
  mask << 0, 0, 1, 1, 1, 1, 0, 0;
  const Tensor3<float> padded = embeddings(ids, position_ids_from_attention_mask(mask));
  CHECK(as_matrix(padded).middleRows(2, 2) == alone);
  CHECK(as_matrix(padded).middleRows(4, 2) == alone);
  CHECK(embeddings({1, 2, 7, 8}, packed_position_ids({2, 2})).bottomRows(2) == alone);
}

TEST_CASE("a sequence may be as long as n_positions, and no longer", "[embeddings]") {
  const GPT2Embeddings<float> embeddings(small);
  CHECK_NOTHROW(embeddings(std::vector<int>(8)));
  CHECK_NOTHROW(embeddings({1, 2, 3}, PastLength{5}));
  CHECK_NOTHROW(embeddings(std::vector<int>{}, PastLength{8}));
  const auto error = test::error_of<IndexError>([&] { (void)embeddings({1, 2, 3}, PastLength{6}); });
  CHECK(error.table() == "wpe");
  CHECK(error.name() == "position_ids");
  CHECK(error.value() == 8);
  CHECK(error.bound() == 8);
  CHECK(test::contains(error.what(), "past_length 6"));
  CHECK(test::contains(error.what(), "seq_length 3"));
  CHECK(test::contains(error.what(), "n_positions"));
  CHECK(test::error_of<IndexError>([&] { (void)embeddings(IdMatrix<int>::Zero(2, 9)); }).bound() == 8);
  CHECK_THROWS_AS(embeddings({1}, PastLength{std::numeric_limits<Index>::max()}), IndexError);
  CHECK_THROWS_AS(embeddings(std::vector<int>{}, PastLength{9}), IndexError);
  const auto negative = test::error_of<ArgumentError>([&] { (void)embeddings({1}, PastLength{-1}); });
  CHECK(negative.name() == "past_length");
  CHECK(negative.value() == -1);
}

TEST_CASE("errors name the table, the argument and the place", "[embeddings]") {
  const GPT2Embeddings<float> embeddings(small);
  IdMatrix<std::int64_t> ids = IdMatrix<std::int64_t>::Zero(2, 4);
  ids(1, 3) = 11;
  const auto tokens = test::error_of<IndexError>([&] { (void)embeddings(ids); });
  CHECK(std::string(tokens.what()) == "[gpt2.index_error] wte: input_ids[1, 3] = 11 is outside [0, 11)");

  const auto positions = test::error_of<IndexError>([&] { (void)embeddings({1, 2}, {0, 8}); });
  CHECK(std::string(positions.what()) ==
        "[gpt2.index_error] wpe: position_ids[1] = 8 is outside [0, 8): n_positions is 8");

  const auto types = test::error_of<IndexError>([&] { (void)embeddings({1, 2}, {0, 1}, {0, -3}); });
  CHECK(std::string(types.what()) == "[gpt2.index_error] wte: token_type_ids[1] = -3 is outside [0, 11)");
}

TEST_CASE("shapes that do not fit are refused, and nothing is written", "[embeddings]") {
  const GPT2Embeddings<float> embeddings(small);
  const IdMatrix<int> ids = batch_of_two();
  Matrix<float> out = Matrix<float>::Constant(6, 5, 7);

  const auto positions = test::error_of<ShapeError>([&] { embeddings.forward_into(ids, arange(4), out); });
  CHECK(positions.expected() == "[3], [1, 3] or [2, 3]");
  CHECK(positions.found() == "[4]");
  CHECK(positions.name() == "position_ids");
  CHECK(test::error_of<ShapeError>([&] { embeddings.forward_into(ids, IdMatrix<int>(3, 3), out); }).found() ==
        "[3, 3]");
  CHECK(test::error_of<ShapeError>([&] {
          (void)embeddings({1, 2}, IdMatrix<int>(2, 2));
        }).expected() == "[2] or [1, 2]");
  CHECK(test::error_of<ShapeError>([&] { embeddings.forward_into(ids, arange(3), out, arange(2)); }).name() ==
        "token_type_ids");
  CHECK(test::error_of<ShapeError>([&] {
          embeddings.forward_into(ids, arange(3), out.topRows(5));
        }).expected() == "[6, 5]");
  Tensor3<float> tensor(3, 2, 5);
  CHECK(test::error_of<ShapeError>([&] { embeddings.forward_into(ids, arange(3), tensor); }).found() ==
        "[3, 2, 5]");
  CHECK_THROWS_AS(embeddings.forward_into(ids, arange<int>(6, 9), out), IndexError);
  CHECK_THROWS_AS(embeddings.forward_into(ids, arange(3), out, IdMatrix<int>::Constant(2, 3, 11)),
                  IndexError);
  CHECK(out == Matrix<float>::Constant(6, 5, 7));
}

TEST_CASE("forward_into writes what operator() returns", "[embeddings]") {
  const GPT2Embeddings<float> embeddings(small);
  const IdMatrix<int> ids = batch_of_two();
  const Tensor3<float> expected = embeddings(ids, PastLength{2});
  Tensor3<float> tensor(2, 3, 5);
  embeddings.forward_into(ids, PastLength{2}, tensor);
  CHECK(test::same_bits(tensor, expected));
  Matrix<float> canvas = Matrix<float>::Constant(6, 9, 7);
  embeddings.forward_into(ids, arange(2, 5), canvas.middleCols(2, 5));
  CHECK(canvas.middleCols(2, 5) == as_matrix(expected));
  CHECK(canvas.leftCols(2) == Matrix<float>::Constant(6, 2, 7));
  Matrix<float> row(3, 5);
  embeddings.forward_into(std::vector{1, 2, 3}, PastLength{}, row, std::vector{0, 0, 1});
  CHECK(row == embeddings({1, 2, 3}, PastLength{}, {0, 0, 1}));
}

TEST_CASE("half tables sum in float, without rounding in between", "[embeddings]") {
  const GPT2Config config{.vocab_size = 20, .n_positions = 16, .n_embd = 33, .initializer_range = 1};
  const GPT2Embeddings<Eigen::half> embeddings(config, 8);
  const IdMatrix<int> ids = arange<int>(16).transpose();
  Matrix<float> out(16, 33);
  embeddings.forward_into(ids, PastLength{}, out, ids);
  const Matrix<float> expected =
      (embeddings.wte.weight().topRows(16).cast<float>() + embeddings.wpe.weight().cast<float>()) +
      embeddings.wte.weight().topRows(16).cast<float>();
  CHECK(test::same_bits(out, expected));
  CHECK(test::same_bits(embeddings(ids, PastLength{}, ids), expected.cast<Eigen::half>().eval()));
}

TEST_CASE("empty inputs are legal", "[embeddings]") {
  const GPT2Embeddings<float> embeddings(small);
  CHECK(embeddings(std::vector<int>{}).cols() == 5);
  CHECK(embeddings(IdMatrix<int>(2, 0)).dimension(0) == 2);
  CHECK(embeddings(IdMatrix<int>(0, 3)).dimension(1) == 3);
  CHECK(embeddings(IdMatrix<int>(0, 3), arange(3)).dimension(0) == 0);
  CHECK_THROWS_AS(embeddings(IdMatrix<int>(0, 3), arange(7, 10)),
                  IndexError);  // a wrong id is wrong, used or not
  const GPT2Embeddings<float> narrow(Embedding<float>(3, 0), Embedding<float>(4, 0));
  CHECK(narrow({0, 1}).cols() == 0);
}

TEST_CASE("inputs_embeds takes the place of the token rows only", "[embeddings]") {
  const GPT2Embeddings<float> embeddings(small);
  const IdMatrix<int> ids = batch_of_two();
  const Tensor3<float> rows = embeddings.wte(ids);
  const Tensor3<float> expected = embeddings(ids, PastLength{1});
  CHECK(test::same_bits(embeddings.embed(rows, PastLength{1}), expected));
  CHECK(test::same_bits(embeddings.embed(rows, arange(1, 4)), expected));
  CHECK(test::same_bits(embeddings.embed(rows, position_ids_like(ids, 1)), expected));
  CHECK(test::same_bits(embeddings.embed(rows, PastLength{1}, ids), embeddings(ids, PastLength{1}, ids)));

  const Matrix<float> flat = as_matrix(rows);
  const Tensor3<float> from_matrix = embeddings.embed(flat, position_ids_like(ids, 1));
  CHECK(test::same_bits(from_matrix, expected));
  const Tensor3<float> by_types = embeddings.embed(flat, arange(1, 4), ids);
  CHECK(test::same_bits(by_types, embeddings(ids, PastLength{1}, ids)));
  const Matrix<float> sequence = embeddings.embed(flat.topRows(3), PastLength{1});
  CHECK(sequence == as_matrix(expected).topRows(3));
  const Eigen::Map<const Matrix<float>> constant(flat.data(), 6, 5);
  CHECK(test::same_bits(embeddings.embed(constant, position_ids_like(ids, 1)), expected));
  CHECK(test::same_bits(embeddings.embed(as_tensor3(constant, 2, 3), PastLength{1}), expected));

  Matrix<float> out(6, 5);
  embeddings.embed_into(rows, PastLength{1}, out, ids, test::SlicingDevice{});
  CHECK(out == as_matrix(by_types));
  embeddings.embed_into(rows, PastLength{1}, out);
  CHECK(out == as_matrix(expected));
}

TEST_CASE("inputs_embeds of another shape are refused", "[embeddings]") {
  const GPT2Embeddings<float> embeddings(small);
  const Matrix<float> narrow = Matrix<float>::Zero(3, 4);
  const auto error = test::error_of<ShapeError>([&] { (void)embeddings.embed(narrow, PastLength{}); });
  CHECK(error.name() == "inputs_embeds");
  CHECK(error.expected() == "[3, 5]");
  const Matrix<float> rows = Matrix<float>::Zero(6, 5);
  CHECK_THROWS_AS(embeddings.embed(rows, arange(5)), ShapeError);
  CHECK(test::error_of<ShapeError>([&] { (void)embeddings.embed(rows, IdMatrix<int>(2, 2)); }).expected() ==
        "[4, 5]");
  CHECK_THROWS_AS(embeddings.embed(Matrix<float>::Zero(9, 5).eval(), PastLength{}), IndexError);
}

TEST_CASE("half tables take inputs_embeds in float", "[embeddings]") {
  const GPT2Embeddings<Eigen::half> embeddings(small);
  const Matrix<float> soft = Matrix<float>::Constant(2, 5, 1.0F / 3);
  const Matrix<Eigen::half> hidden = embeddings.embed(soft, PastLength{});
  CHECK(test::same_bits(
      hidden, (soft + embeddings.wpe.weight().topRows(2).cast<float>()).cast<Eigen::half>().eval()));
}

TEST_CASE("tables are drawn from their own streams of the seed", "[embeddings]") {
  const GPT2Config config{.vocab_size = 8, .n_positions = 8, .n_embd = 6, .initializer_range = 0.5};
  const GPT2Embeddings<float> embeddings(config, 4);
  CHECK_FALSE(embeddings.wte.weight() == embeddings.wpe.weight());
  const GPT2PositionEmbeddings<float> positions(config, 4);
  const GPT2Embeddings<float> same(config, 4);
  const GPT2Embeddings<float> other(config, 5);
  CHECK(embeddings.wpe.weight() == positions.wpe.weight());
  CHECK(embeddings.wte.weight() == same.wte.weight());
  CHECK_FALSE(embeddings.wte.weight() == other.wte.weight());
  CHECK(test::error_of<ConfigError>([] { GPT2Embeddings<float>{GPT2Config{.vocab_size = 0}}; }).field() ==
        "vocab_size");
}

TEST_CASE("tables of different widths do not go together", "[embeddings]") {
  CHECK_THROWS_AS(GPT2Embeddings<float>(Embedding<float>(4, 3), Embedding<float>(4, 2)), ShapeError);
  GPT2Embeddings<float> embeddings(Embedding<float>(4, 3), Embedding<float>(4, 3));
  embeddings.wpe = Embedding<float>(4, 2);  // the tables are public
  const auto error = test::error_of<ShapeError>([&] { (void)embeddings({1}); });
  CHECK(error.expected() == "[4, 3]");
  CHECK(error.found() == "[4, 2]");
}

TEST_CASE("sums do not depend on the device", "[embeddings]") {
  const GPT2Config config{.vocab_size = 50, .n_positions = 40, .n_embd = 9};
  const GPT2Embeddings<float> embeddings(config);
  IdMatrix<int> ids(5, 37);
  for (Index i = 0; i < ids.size(); ++i) ids.data()[i] = static_cast<int>(i * 7 % 50);
  const IdMatrix<int> types = ids.reverse();
  for (const Index slice : {1, 7, 36, 64, 1000}) {
    const test::SlicingDevice device{slice};
    CHECK(test::same_bits(embeddings(ids, device), embeddings(ids)));
    CHECK(test::same_bits(embeddings(ids, PastLength{3}, device), embeddings(ids, PastLength{3})));
    CHECK(test::same_bits(embeddings(ids, arange(37), types, device), embeddings(ids, arange(37), types)));
  }
}

TEST_CASE("sums equal a plain loop on random shapes", "[embeddings]") {
  std::mt19937 random(11);
  const auto below = [&random](Index end) { return static_cast<int>(random() % static_cast<unsigned>(end)); };
  for (int round = 0; round < 100; ++round) {
    const GPT2Config config{
        .vocab_size = 1 + below(30), .n_positions = 1 + below(12), .n_embd = 1 + below(70)};
    const GPT2Embeddings<float> embeddings(config, static_cast<std::uint64_t>(round));
    IdMatrix<int> ids(below(5), below(config.n_positions + 1));
    IdMatrix<int> positions(ids.rows(), ids.cols());
    IdMatrix<int> types(ids.rows(), ids.cols());
    for (Index i = 0; i < ids.size(); ++i) {
      ids.data()[i] = below(config.vocab_size);
      positions.data()[i] = below(config.n_positions);
      types.data()[i] = below(config.vocab_size);
    }
    REQUIRE(test::same_bits(embeddings(ids), plain_sum(embeddings, ids, position_ids_like(ids))));
    REQUIRE(test::same_bits(embeddings(ids, positions), plain_sum(embeddings, ids, positions)));
    REQUIRE(test::same_bits(embeddings(ids, positions, types), plain_sum(embeddings, ids, positions, types)));
  }
}

TEST_CASE("arguments of other types are a question, not a hard error", "[embeddings]") {
  using Row = std::vector<int>;
  using Floats = std::vector<float>;
  STATIC_REQUIRE(
      (CanEmbed<Row> && CanEmbed<Row, Row> && CanEmbed<Row, PastLength> && CanEmbed<Row, Row, Row>));
  STATIC_REQUIRE((CanEmbed<Row, test::SlicingDevice> && CanEmbed<Row, Row, Row, Eigen::DefaultDevice>));
  STATIC_REQUIRE_FALSE((CanEmbed<Floats> || CanEmbed<Row, Floats> || CanEmbed<Row, Row, Floats>));
  STATIC_REQUIRE_FALSE((CanEmbed<PastLength> || CanEmbed<Row, Row, PastLength> || CanEmbed<Row, int>));
}

TEST_CASE("without position ids, forward_into and backward take positions 0, 1, …", "[embeddings]") {
  const GPT2Config config{.vocab_size = 11, .n_positions = 6, .n_embd = 8};
  GPT2Embeddings<float> embeddings(config);
  GPT2Embeddings<float> expected = embeddings;
  const std::vector<int> ids{3, 10, 3};
  Matrix<float> out(3, 8);
  embeddings.forward_into(ids, out);
  CHECK(out == expected(ids));
  embeddings.forward_into(ids, out, Eigen::DefaultDevice());
  CHECK(out == expected(ids));
  embeddings.backward(ids, out);
  expected.backward(ids, PastLength{0}, out);
  CHECK(embeddings.wte.grad() == expected.wte.grad());
  CHECK(embeddings.wpe.grad() == expected.wpe.grad());

  const IdMatrix<int> batch = (IdMatrix<int>(2, 2) << 1, 2, 3, 4).finished();
  Tensor3<float> tensor(2, 2, 8);
  embeddings.forward_into(batch, tensor);
  CHECK(test::same_bits(tensor, expected(batch)));
  embeddings.backward(batch, tensor);
  CHECK_THROWS_AS(embeddings.forward_into(std::vector<int>(7, 0), Matrix<float>(7, 8)), IndexError);
}

}  // namespace embeddings_tests
