// SPDX-License-Identifier: MIT
#include "gpt2/quantized_embedding.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gpt2/embeddings.hpp"
#include "gpt2/lm_head.hpp"
#include "support.hpp"

namespace quantized_embedding_tests {

using namespace gpt2;

namespace {

constexpr float most = std::numeric_limits<float>::max();
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

Matrix<float> row_of(const std::vector<float>& elements) {
  return Eigen::Map<const Matrix<float>>(elements.data(), 1, static_cast<Index>(elements.size()));
}

/// The number of elements that are off by more than is promised.
template <class T>
Index elements_out_of_bounds(const Matrix<T>& weight) {
  const QuantizedEmbedding table{Embedding<T>(weight)};
  const Matrix<float> found = table.dequantize();
  Index wrong = 0;
  for (Index i = 0; i < weight.rows(); ++i) {
    double largest = 0;
    for (Index j = 0; j < weight.cols(); ++j) {
      largest = std::max(largest, std::abs(static_cast<double>(weight(i, j))));
    }
    const double scale = table.scales()[i];
    const double bound = scale / 2 + 0x1p-23 * (largest + scale);
    for (Index j = 0; j < weight.cols(); ++j) {
      const double error = std::abs(static_cast<double>(found(i, j)) - static_cast<double>(weight(i, j)));
      wrong += !(error <= bound);
    }
  }
  return wrong;
}

template <class X>
concept CanTrain = requires(X& table) {
  table.mutable_grad();
};

}  // namespace

TEMPLATE_TEST_CASE("no element of a random table is off by more than half a step and a rounding",
                   "[quantized]", float, double) {
  using T = TestType;
  CHECK(elements_out_of_bounds(test::drawn<T>(300, 97, 1, 0.02)) == 0);
  std::mt19937_64 bits(7);
  std::uniform_real_distribution<double> uniform(-1, 1);
  // Rows of every magnitude, and of every width about every middle.
  Matrix<T> weight(4000, 33);
  for (Index i = 0; i < weight.rows(); ++i) {
    const double middle = uniform(bits) * std::exp2(uniform(bits) * 127);
    const double width =
        i % 3 == 0 ? std::abs(middle) : std::abs(middle) * std::exp2(-26 * std::abs(uniform(bits)));
    for (Index j = 0; j < weight.cols(); ++j) {
      weight(i, j) = static_cast<T>(std::clamp(middle + width * uniform(bits), -double{most}, double{most}));
    }
  }
  CHECK(elements_out_of_bounds(weight) == 0);
}

TEST_CASE("no element of an adversarial row is off by more than half a step and a rounding", "[quantized]") {
  constexpr float least = std::numeric_limits<float>::denorm_min();
  constexpr float small = std::numeric_limits<float>::min();
  const auto below = [](float x, int steps) {
    for (; steps > 0; --steps) x = std::nextafter(x, 0.0F);
    return x;
  };
  std::vector<std::vector<float>> rows{
      {0},
      {-0.0F, 0},
      {most, -most},
      {most, -most, 0, 1, least},
      {most, below(most, 1)},
      {most, below(most, 1), below(most, 2), below(most, 255)},
      {-most, below(-most, 3)},
      {most, 0.9F * most, 0.95F * most},
      {most, 0},
      {most, most / 2},
      {most, -5.58704782e+37F},  // for which 127 steps, rounded, led to infinity
      {least, 0},
      {least, -least},
      {least, 2 * least, 300 * least, 1000 * least},
      {small, -small, small / 2, least},
      {1, least},
      {1, below(1, 1)},
      {1, below(1, 254), std::nextafter(1.0F, 2.0F)},
      {1, std::nextafter(1.0F, 2.0F), -1},
      {1e30F, 1, 1e-30F, -1e30F},
      {1000000, 1000000.0625F, 1000000.125F},
  };
  for (const float sign : {1.0F, -1.0F}) {
    for (auto row : rows) {
      for (float& element : row) element *= sign;
      INFO("a row that begins with " << row[0]);
      CHECK(elements_out_of_bounds(row_of(row)) == 0);
      CHECK(QuantizedEmbedding(Embedding<float>(row_of(row))).dequantize().allFinite());
    }
  }
  // Neighbouring floats: runs of 2 to 300 of them below every power of two.
  Index wrong = 0;
  for (int exponent = -148; exponent < 128; ++exponent) {
    for (const int length : {2, 3, 128, 255, 256, 300}) {
      std::vector<float> row{std::ldexp(1.0F, exponent)};
      for (int i = 1; i < length; ++i) row.push_back(std::nextafter(row.back(), 0.0F));
      wrong += elements_out_of_bounds(row_of(row));
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("doubles are off by no more than floats would be", "[quantized]") {
  Matrix<double> weight(5, 3);
  weight << 0.1, 0.1, 0.1,   // not a float
      1e-60, 1e-60, 1e-60,   // far below all floats
      1e-60, -1e-60, 1e-46,  //
      1e38, 1 + 1e-12, 1,    //
      most, -most, 0;        //
  CHECK(elements_out_of_bounds(weight) == 0);
}

TEMPLATE_TEST_CASE("tables of any type can be quantised", "[quantized]", float, double, Eigen::half,
                   Eigen::bfloat16) {
  using T = TestType;
  const Embedding<T> table(test::drawn<T>(50, 12, 1, 0.02));
  const Matrix<float> wide = table.weight().template cast<float>();
  if constexpr (!std::is_same_v<T, double>) {
    const QuantizedEmbedding quantized(table);
    const QuantizedEmbedding of_floats{Embedding<float>(wide)};
    CHECK(quantized.values() == of_floats.values());
  }
  const Matrix<float> found = QuantizedEmbedding(table).dequantize();
  CHECK((found - wide).cwiseAbs().maxCoeff() < 0.0005F);
}

TEST_CASE("constant rows are exact", "[quantized]") {
  for (const float constant : {0.0F, 1.0F, -0.1F, most, -most, std::numeric_limits<float>::denorm_min()}) {
    const QuantizedEmbedding table(Embedding<float>(Matrix<float>(Matrix<float>::Constant(2, 40, constant))));
    CHECK(table.scales().isZero(0));
    CHECK((table.dequantize().array() == constant).all());
    Matrix<float> hidden = Matrix<float>::Zero(1, 40);
    hidden(3) = 1;
    CHECK(logits(table, hidden)(1) == constant);
  }
}

TEST_CASE("rows that no int8 can represent are refused by name", "[quantized]") {
  for (const float element : {not_a_number, infinity, -infinity}) {
    Matrix<float> weight = test::drawn<float>(9, 4, 1, 0.02);
    weight(7, 2) = element;
    const auto error = test::error_of<ArgumentError>([&] { QuantizedEmbedding{Embedding<float>(weight)}; });
    CHECK(error.name() == "weight");
    CHECK(error.coordinates() == std::vector<std::int64_t>{7, 2});
    CHECK((error.value() == static_cast<double>(element) || std::isnan(element)));
    CHECK(test::contains(error.what(), "weight[7, 2]"));
  }
  Matrix<double> wide = test::drawn<double>(3, 4, 1, 0.02);
  wide(1, 3) = 1e39;
  CHECK(test::error_of<ArgumentError>([&] { QuantizedEmbedding{Embedding<double>(wide)}; }).name() ==
        "weight");
}

TEST_CASE("the parts of a table are what it is made of", "[quantized]") {
  const QuantizedEmbedding table(Embedding<float>(test::drawn<float>(9, 40, 1, 0.02)));
  const QuantizedEmbedding copy(table.values(), table.scales(), table.offsets());
  CHECK(copy.dequantize() == table.dequantize());
  // A row's ends are 127 steps from its middle.
  CHECK((table.values().cast<int>().rowwise().maxCoeff().array() == 127).all());
  CHECK((table.values().cast<int>().rowwise().minCoeff().array() == -127).all());

  const Matrix<std::int8_t> values = Matrix<std::int8_t>::Zero(3, 2);
  const Eigen::VectorXf ones = Eigen::VectorXf::Ones(3);
  const auto shape = test::error_of<ShapeError>([&] { QuantizedEmbedding(values, ones, ones.head(2)); });
  CHECK(shape.name() == "offsets");
  CHECK(shape.expected() == "[3]");
  CHECK(shape.found() == "[2]");
  CHECK(test::error_of<ShapeError>([&] { QuantizedEmbedding(values, ones.head(1), ones); }).name() ==
        "scales");
  for (const float wrong : {-1.0F, not_a_number, infinity}) {
    Eigen::VectorXf numbers = ones;
    numbers[1] = wrong;
    CHECK(test::error_of<ArgumentError>([&] { QuantizedEmbedding(values, numbers, ones); }).name() ==
          "scales");
    if (wrong == -1.0F) continue;
    CHECK(test::error_of<ArgumentError>([&] { QuantizedEmbedding(values, ones, numbers); }).name() ==
          "offsets");
  }
}

TEST_CASE("lookups of both ranks give rows of the dequantised table", "[quantized]") {
  const QuantizedEmbedding table(Embedding<float>(test::drawn<float>(9, 131, 1, 0.02)));
  const Embedding<float> expected(table.dequantize());
  CHECK(table.num_embeddings() == 9);
  CHECK(table.embedding_dim() == 131);
  CHECK(test::same_bits(table({8, 0, 3, 3}), expected({8, 0, 3, 3})));
  CHECK(test::same_bits(table(std::vector<std::int64_t>{1, 2}), expected({1, 2})));
  IdMatrix<int> ids(2, 3);
  ids << 1, 2, 3, 4, 5, 8;
  CHECK(test::same_bits(table(ids), expected(ids)));
  CHECK(test::same_bits(table(ids.array() - 1), expected(ids.array() - 1)));
  CHECK(table(std::vector<int>{}).rows() == 0);
  CHECK(table(IdMatrix<int>(2, 0)).dimension(0) == 2);

  Matrix<double> wide = Matrix<double>::Constant(5, 140, 7);
  table.forward_into(std::array{4, 4, 2}, wide.block(1, 2, 3, 131));
  CHECK(wide.block(1, 2, 3, 131) == expected({4, 4, 2}).cast<double>());
  CHECK(wide(0, 0) == 7);
  Tensor3<float> tensor(2, 3, 131);
  table.forward_into(ids, tensor);
  CHECK(test::same_bits(tensor, expected(ids)));
  Matrix<float> flat(6, 131);
  table.forward_into(ids, flat);
  CHECK(test::same_bits(tensor, flat));
  STATIC_REQUIRE_FALSE(CanTrain<QuantizedEmbedding>);

  const std::vector<int> many(1000, 5);
  CHECK(test::same_bits(table(many, test::SlicingDevice{}), table(many)));
}

TEST_CASE("lookups out of range or into another shape write nothing", "[quantized]") {
  const QuantizedEmbedding table(Embedding<float>(test::drawn<float>(9, 4, 1, 0.02)));
  Matrix<float> out = Matrix<float>::Constant(2, 4, 7);
  for (const std::int64_t id : {std::int64_t{-1}, std::int64_t{9}, std::int64_t{4294967297}}) {
    const auto error = test::error_of<IndexError>([&] {
      table.forward_into(std::array{std::int64_t{0}, id}, out);
    });
    CHECK(error.table() == "embedding");
    CHECK(error.name() == "ids");
    CHECK(error.coordinates() == std::vector<std::int64_t>{1});
    CHECK(error.value() == id);
    CHECK(error.bound() == 9);
    CHECK(test::error_of<IndexError>([&] { (void)table({std::int64_t{0}, id}); }).value() == id);
  }
  const auto error = test::error_of<ShapeError>([&] { table.forward_into(std::array{1, 2, 3}, out); });
  CHECK(error.table() == "embedding");
  CHECK(error.name() == "out");
  CHECK(error.expected() == "[3, 4]");
  CHECK(error.found() == "[2, 4]");
  CHECK((out.array() == 7).all());
}

TEST_CASE("empty tables are legal", "[quantized]") {
  const QuantizedEmbedding no_rows(Embedding<float>(0, 4));
  const QuantizedEmbedding no_columns(Embedding<float>(3, 0));
  CHECK(no_rows.dequantize().rows() == 0);
  CHECK(no_columns({0, 2}).rows() == 2);
  CHECK(no_columns.scales().isZero(0));
  CHECK(logits(no_columns, Matrix<float>(1, 0)).isZero(0));
}

TEST_CASE("a table of GPT-2's width takes 0.253 of its floats' memory", "[quantized]") {
  const QuantizedEmbedding table(Embedding<float>(10, 768));
  CHECK(table.memory_bytes() == 10 * (768 + 8));
  CHECK(static_cast<double>(table.memory_bytes()) <= 0.27 * 10 * 768 * sizeof(float));
}

TEMPLATE_TEST_CASE("the sum is that of the dequantised tables", "[quantized]", Embedding<float>,
                   QuantizedEmbedding) {
  constexpr Index cols = 300;  // more than are summed at a time
  const Embedding<float> wpe(test::drawn<float>(12, cols, 2, 0.02));
  const GPT2Embeddings embeddings(QuantizedEmbedding(Embedding<float>(test::drawn<float>(30, cols, 1, 0.02))),
                                  TestType(wpe));
  const auto as_floats = [](const auto& table) {
    if constexpr (std::is_same_v<std::decay_t<decltype(table)>, QuantizedEmbedding>) {
      return Embedding<float>(table.dequantize());
    } else {
      return table;
    }
  };
  const GPT2Embeddings<float> expected(as_floats(embeddings.wte), as_floats(embeddings.wpe));
  IdMatrix<int> ids(2, 3);
  ids << 1, 2, 29, 4, 5, 6;
  const std::vector<int> sequence{3, 0, 29};
  const std::vector<int> positions{11, 0, 4};
  IdMatrix<int> batch_positions(2, 3);
  batch_positions << 0, 1, 2, 3, 4, 5;

  CHECK(test::same_bits(embeddings(sequence), expected(sequence)));
  CHECK(test::same_bits(embeddings({3, 0, 29}), expected(sequence)));
  CHECK(test::same_bits(embeddings({3, 0, 29}, positions), expected(sequence, positions)));
  CHECK(test::same_bits(embeddings(sequence, PastLength{9}), expected(sequence, PastLength{9})));
  CHECK(test::same_bits(embeddings(sequence, positions, sequence), expected(sequence, positions, sequence)));
  CHECK(test::same_bits(embeddings(ids), expected(ids)));
  CHECK(test::same_bits(embeddings(ids, positions), expected(ids, positions)));
  CHECK(test::same_bits(embeddings(ids, batch_positions, ids), expected(ids, batch_positions, ids)));
  CHECK(test::same_bits(embeddings(ids, PastLength{1}, sequence), expected(ids, PastLength{1}, sequence)));

  Matrix<double> out(6, cols);
  embeddings.forward_into(ids, positions, out);
  CHECK(
      out ==
      as_matrix(std::as_const(static_cast<const Tensor3<float>&>(expected(ids, positions)))).cast<double>());
  Tensor3<float> tensor(2, 3, cols);
  embeddings.forward_into(ids, positions, tensor, sequence);
  CHECK(test::same_bits(tensor, expected(ids, positions, sequence)));

  const IdMatrix<int> many = IdMatrix<int>::Constant(30, 12, 7);
  CHECK(test::same_bits(embeddings(many, test::SlicingDevice{}), expected(many)));
}

TEST_CASE("the sum refuses what GPT2Embeddings refuses, in the same words", "[quantized]") {
  const Embedding<float> wte(test::drawn<float>(30, 5, 1, 0.02));
  const Embedding<float> wpe(test::drawn<float>(12, 5, 2, 0.02));
  const GPT2Embeddings quantized(QuantizedEmbedding(wte), wpe);
  const GPT2Embeddings<float> floats(wte, wpe);
  Matrix<float> out = Matrix<float>::Constant(3, 5, 7);
  const auto same = [&](auto error_type, const auto& action) {
    using E = typename decltype(error_type)::type;
    CHECK(std::string(test::error_of<E>([&] { action(quantized); }).what()) ==
          test::error_of<E>([&] { action(floats); }).what());
  };
  const std::type_identity<IndexError> index_error;
  const std::type_identity<ShapeError> shape_error;
  const std::type_identity<ArgumentError> argument_error;
  const std::vector<int> ids{1, 2, 3};
  same(index_error, [&](auto& e) { e.forward_into(std::vector<int>{1, 30, 2}, PastLength{}, out); });
  same(index_error, [&](auto& e) { e.forward_into(ids, std::vector<int>{0, 12, 1}, out); });
  same(index_error, [&](auto& e) { e.forward_into(ids, PastLength{10}, out); });
  same(index_error, [&](auto& e) { e.forward_into(ids, PastLength{}, out, std::vector<int>{0, -1, 1}); });
  same(argument_error, [&](auto& e) { e.forward_into(ids, PastLength{-1}, out); });
  same(shape_error, [&](auto& e) { e.forward_into(ids, std::vector<int>{0, 1}, out); });
  same(shape_error, [&](auto& e) { e.forward_into(ids, PastLength{}, out, std::vector<int>{0, 1}); });
  same(shape_error, [&](auto& e) { e.forward_into(std::vector<int>{1}, PastLength{}, out); });
  CHECK((out.array() == 7).all());
  CHECK(test::error_of<ShapeError>([&] {
          GPT2Embeddings(QuantizedEmbedding(wte), Embedding<float>(12, 4));
        }).name() == "wpe");
}

TEST_CASE("the head of a quantised table is that of its floats", "[quantized]") {
  const QuantizedEmbedding table(Embedding<float>(test::drawn<float>(600, 133, 1, 0.02)));
  const Embedding<double> expected(Matrix<double>(table.dequantize().cast<double>()));
  for (const Index n : {1, 2, 5, 8, 9, 300}) {
    for (const HeadOptions& options :
         {HeadOptions{}, HeadOptions{.vocab_size = 301, .logit_soft_cap = 0.3}}) {
      const auto hidden = test::drawn<float>(n, 133, 2, 1);
      const Matrix<double> wide = hidden.cast<double>();
      const Matrix<float> found = logits(table, hidden, options);
      const Matrix<double> plain = logits(expected, wide, options);
      REQUIRE(found.cols() == plain.cols());
      CHECK((found.cast<double>() - plain).cwiseAbs().maxCoeff() < 1e-5 * plain.cwiseAbs().maxCoeff());
      CHECK(test::same_bits(logits(table, hidden, options, test::SlicingDevice{1}), found));
      Matrix<float> out(n, found.cols());
      logits_into(table, hidden, out, options);
      CHECK(test::same_bits(out, found));

      const auto best = top_k(table, hidden, 4, options);
      for (Index i = 0; i < n; ++i) {
        for (Index j = 0; j < 4; ++j) {
          CHECK(best.logits(i, j) == found(i, best.ids(i, j)));
          CHECK((found.row(i).array() > best.logits(i, j)).count() == j);
        }
      }
      const std::vector<int> labels(static_cast<std::size_t>(n), 77);
      CHECK(cross_entropy_loss(table, hidden, labels, {.head = options}) ==
            Approx(cross_entropy_loss(expected, wide, labels, {.head = options})).epsilon(1e-6));
    }
  }
  CHECK(test::error_of<ArgumentError>([&] {
          (void)top_k(table, test::drawn<float>(1, 133, 2, 1), 601);
        }).name() == "k");
  CHECK(test::error_of<ShapeError>([&] { (void)logits(table, test::drawn<float>(1, 132, 2, 1)); }).name() ==
        "hidden");
  CHECK(test::error_of<ArgumentError>([&] {
          (void)logits(table, test::drawn<float>(1, 133, 2, 1), {.vocab_size = 601});
        }).name() == "vocab_size");
}

TEST_CASE("int8 rows of more than 256 columns are multiplied to their end", "[quantized]") {
  for (const Index dim : {257, 600, 768}) {
    const QuantizedEmbedding table(Embedding<float>(test::drawn<float>(19, dim, 1, 0.02)));
    const Matrix<double> weight = table.dequantize().cast<double>();
    for (Index n = 1; n <= 9; ++n) {
      const auto hidden = test::drawn<float>(n, dim, 2, 1);
      const Matrix<double> expected = test::plain_product(hidden.cast<double>(), weight.transpose());
      const Matrix<double> found = logits(table, hidden).cast<double>();
      INFO(n << " states of " << dim);
      CHECK((found - expected).cwiseAbs().maxCoeff() < 1e-5 * expected.cwiseAbs().maxCoeff());
    }
  }
}

TEST_CASE("a row of the largest floats has a finite head", "[quantized]") {
  const QuantizedEmbedding table(Embedding<float>(row_of({most, -most, 0, most})));
  Matrix<float> hidden(1, 4);
  hidden << 0.5F, 0.25F, 1, 0.25F;
  CHECK(logits(table, hidden)(0) == Approx(most / 2).epsilon(0.01));
}

TEST_CASE("the best token is nearly always that of the floats, else one as good within the error bound",
          "[quantized]") {
  // Rounding moves a logit of a normal table by 0.0072 of the logits' standard deviation; the two best of
  // some thousands are closer than that in 1 to 2 of 100 states. Whatever the rounding, this is what 8 bits
  // are worth.
  constexpr Index n = 200;
  const Embedding<float> wte(test::drawn<float>(2000, 768, 1, 0.02));
  const QuantizedEmbedding table(wte);
  const auto hidden = test::drawn<float>(n, 768, 2, 1);
  const auto expected = top_k(wte, hidden, 1);
  const auto found = top_k(table, hidden, 1);
  const auto exact = logits(wte, hidden);
  Index same = 0;
  for (Index i = 0; i < n; ++i) {
    const std::int64_t id = found.ids(i, 0);
    same += id == expected.ids(i, 0);
    const float lost = expected.logits(i, 0) - exact(i, id);
    const float steps = table.scales()[id] + table.scales()[expected.ids(i, 0)];
    CHECK(lost <= steps / 2 * hidden.row(i).cwiseAbs().sum());
    CHECK(lost < 0.05F * std::sqrt(768.0F) * 0.02F);
  }
  INFO(same << " of " << n << " agree");
  CHECK(same >= n * 97 / 100);
}

}  // namespace quantized_embedding_tests
