// SPDX-License-Identifier: MIT
//
// The dense gradients of the three layers, renorm, and the functions that an optimizer needs.

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "gpt2/embeddings.hpp"
#include "gpt2/initialization.hpp"
#include "gpt2/position_embeddings.hpp"
#include "support.hpp"

namespace gradients_tests {

using namespace gpt2;

namespace {

/// The definition: one place after the other, element by element.
template <class A, class G>
void add_one_by_one(Matrix<A>& grad, const IdMatrix<std::int64_t>& ids, const Matrix<G>& grad_output,
                    const EmbeddingOptions& options = {}) {
  std::vector<int> counts(static_cast<std::size_t>(grad.rows()));
  for (Index i = 0; i < ids.size(); ++i) ++counts[static_cast<std::size_t>(ids.data()[i])];
  for (Index i = 0; i < ids.size(); ++i) {
    const Index row = ids.data()[i];
    if (row == options.padding_idx) continue;
    const int count = options.scale_grad_by_freq ? counts[static_cast<std::size_t>(row)] : 1;
    for (Index j = 0; j < grad.cols(); ++j) {
      const A term = static_cast<A>(grad_output(i, j)) / static_cast<A>(count);
      grad(row, j) = grad(row, j) + term;
    }
  }
}

/// `seq_length` consecutive positions for every sequence of a batch, written out.
IdMatrix<std::int64_t> consecutive(Index batch, Index seq_length, Index first = 0) {
  IdMatrix<std::int64_t> positions(batch, seq_length);
  for (Index i = 0; i < batch; ++i) {
    for (Index j = 0; j < seq_length; ++j) positions(i, j) = first + j;
  }
  return positions;
}

Matrix<float> row_of(std::initializer_list<float> values) {
  Matrix<float> row(1, static_cast<Index>(values.size()));
  std::copy(values.begin(), values.end(), row.data());
  return row;
}

}  // namespace

// One table.

TEMPLATE_TEST_CASE("a gradient is the sum over the places in their order, on every device, bit for bit",
                   "[gradients]", float, double, Eigen::half, Eigen::bfloat16) {
  using T = TestType;
  using A = Accumulator<T>;
  constexpr Index num_embeddings = 23;
  const IdMatrix<std::int64_t> ids = test::random_ids(5, 60, num_embeddings);
  for (const Index cols : {1, 16, 37, 100}) {
    for (const bool by_freq : {false, true}) {
      const EmbeddingOptions options{.padding_idx = 4, .scale_grad_by_freq = by_freq};
      const Matrix<T> grad_output = test::drawn<T>(ids.size(), cols);
      const Matrix<A> wide_output = test::drawn<A>(ids.size(), cols, 2);
      Matrix<A> expected = Matrix<A>::Zero(num_embeddings, cols);
      add_one_by_one(expected, ids, grad_output, options);
      add_one_by_one(expected, ids, wide_output, options);  // a second call adds to the first

      const Embedding<T> fresh(num_embeddings, cols, options);
      const auto check = [&](const auto& device) {
        Embedding<T> table = fresh;
        table.backward(ids, grad_output, device);
        table.backward(ids, wide_output, device);
        CHECK(test::same_bits(table.grad(), expected));
        CHECK(test::same_bits(table.weight(), fresh.weight()));
      };
      check(Eigen::DefaultDevice{});
      for (const Index slice : {1, 2, 7, 1000}) check(test::SlicingDevice{slice});
    }
  }
}

TEST_CASE("grad_output may have any form that out may have", "[gradients]") {
  const IdMatrix<std::int64_t> ids = test::random_ids(2, 3, 5);
  const Matrix<float> grad_output = test::drawn<float>(6, 4);
  Matrix<float> expected = Matrix<float>::Zero(5, 4);
  add_one_by_one(expected, ids, grad_output);
  const auto check = [&](const auto& given_ids, const auto& given) {
    Embedding<float> table(5, 4);
    table.backward(given_ids, given);
    CHECK(test::same_bits(table.grad(), expected));
  };
  check(ids, grad_output);
  check(ids, Eigen::Map<const Matrix<float>>(grad_output.data(), 6, 4));
  check(ids, as_tensor3(grad_output, 2, 3));
  check(ids, Tensor3<float>(as_tensor3(grad_output, 2, 3)));
  Matrix<float> wide = test::drawn<float>(9, 9);
  wide.block(2, 3, 6, 4) = grad_output;
  check(ids, wide.block(2, 3, 6, 4));
  const IdVector<int> flat = Eigen::Map<const IdVector<std::int64_t>>(ids.data(), 6).cast<int>();
  check(flat, grad_output);
  check(std::vector<std::uint16_t>(ids.data(), ids.data() + 6), grad_output);
  check(Eigen::MatrixXi(ids.cast<int>()), grad_output);
}

TEST_CASE("the padding row gets exactly no gradient", "[gradients]") {
  Embedding<float> table(4, 3, {.padding_idx = -1});
  Matrix<float> grad_output = Matrix<float>::Constant(3, 3, std::numeric_limits<float>::infinity());
  table.backward(std::vector<int>{3, 3, 3}, grad_output);
  CHECK(table.has_grad());
  CHECK(test::same_bits(table.grad(), Matrix<float>::Zero(4, 3)));
  table.backward(std::vector<int>{3, 0, 3}, test::drawn<float>(3, 3));
  CHECK(test::same_bits(table.grad().row(3), Matrix<float>::Zero(1, 3)));
  CHECK(!table.grad().row(0).isZero(0));
}

TEST_CASE("scale_grad_by_freq divides by the count over all ids", "[gradients]") {
  IdMatrix<int> ids(2, 3);
  ids << 1, 1, 2, 1, 0, 3;
  const EmbeddingOptions options{.padding_idx = 0, .scale_grad_by_freq = true};
  Embedding<float> table(4, 2, options);
  table.backward(ids, Matrix<float>::Ones(6, 2).eval());
  Matrix<float> expected(4, 2);
  expected << 0, 0, 1, 1, 1, 1, 1, 1;
  CHECK(table.grad() == expected);
  // Each call counts its own ids.
  table.backward(std::vector<int>{1}, Matrix<float>::Ones(1, 2).eval());
  expected.row(1).setConstant(2);
  CHECK(table.grad() == expected);
}

TEMPLATE_TEST_CASE("3,000 gradients of 1 add up to 3,000 in half precision", "[gradients]", Eigen::half,
                   Eigen::bfloat16) {
  using T = TestType;
  Embedding<T> table(3, 5);
  table.backward(std::vector<int>(3000, 1), Matrix<T>::Constant(3000, 5, T(1.0F)).eval());
  CHECK(table.grad().row(1) == Matrix<float>::Constant(1, 5, 3000));
  for (int i = 0; i < 3000; ++i)
    table.backward(std::vector<int>{2}, Matrix<T>::Constant(1, 5, T(1.0F)).eval());
  CHECK(table.grad().row(2) == Matrix<float>::Constant(1, 5, 3000));
  CHECK(table.grad().row(0).isZero(0));
}

TEST_CASE("there is a gradient from the first backward on, and zero_grad keeps its memory", "[gradients]") {
  Embedding<float> table(3, 2);
  const Embedding<float>& constant = table;
  CHECK(!table.has_grad());
  CHECK(test::error_of<ArgumentError>([&] { (void)table.grad(); }).name() == "grad");
  CHECK(test::error_of<ArgumentError>([&] { (void)constant.grad(); }).name() == "grad");
  CHECK_NOTHROW(table.zero_grad());
  CHECK(!table.has_grad());

  table.backward(std::vector<int>{}, Matrix<float>(0, 2));
  CHECK(table.has_grad());
  CHECK(test::same_bits(table.grad(), Matrix<float>::Zero(3, 2)));
  const float* memory = table.grad().data();
  table.backward(std::vector<int>{1}, row_of({5, 6}));
  CHECK(constant.grad().row(1) == row_of({5, 6}));
  table.zero_grad();
  CHECK(table.has_grad());
  CHECK(constant.grad().isZero(0));
  CHECK(constant.grad().data() == memory);
  STATIC_REQUIRE(std::is_same_v<decltype(constant.grad()), Eigen::Map<const Matrix<float>>>);
  STATIC_REQUIRE(
      std::is_same_v<decltype(std::declval<Embedding<Eigen::half>&>().grad()), Eigen::Map<Matrix<float>>>);
}

TEST_CASE("a tied head adds to the same gradient", "[gradients]") {
  Embedding<float> table(3, 2);
  table.mutable_grad().row(2) = row_of({1, 1});
  CHECK(table.has_grad());
  CHECK(table.grad().topRows(2).isZero(0));
  table.backward(std::vector<int>{2, 0}, (Matrix<float>(2, 2) << 10, 20, 30, 40).finished());
  CHECK(table.mutable_grad().row(2) == row_of({11, 21}));
  CHECK(table.mutable_grad().row(0) == row_of({30, 40}));
}

TEST_CASE("what cannot be is refused, and the gradient is as it was", "[gradients]") {
  for (const bool by_freq : {false, true}) {
    Embedding<float> table(5, 3, {.scale_grad_by_freq = by_freq});
    const Matrix<float> two = test::drawn<float>(2, 3);
    const auto index_error = [&] {
      IdMatrix<std::int64_t> ids(1, 2);
      ids << 1, 4294967297;  // 1, if it were narrowed
      return test::error_of<IndexError>([&] { table.backward(ids, two); });
    };
    const auto shape_error = [&](Index rows, Index cols) {
      const Matrix<float> wrong = Matrix<float>::Ones(rows, cols);
      return test::error_of<ShapeError>([&] { table.backward(std::vector<int>{1, 2}, wrong); });
    };
    CHECK(index_error().value() == 4294967297);
    CHECK(shape_error(2, 4).table() == "embedding");
    CHECK(shape_error(2, 4).name() == "grad_output");
    CHECK(!table.has_grad());  // not even allocated

    table.backward(std::vector<int>{1, 2}, two);
    const Matrix<float> before = table.grad();
    CHECK(index_error().name() == "ids");
    CHECK(index_error().coordinates() == std::vector<std::int64_t>{0, 1});
    CHECK(index_error().bound() == 5);
    CHECK(shape_error(2, 4).expected() == "[2, 3]");
    CHECK(shape_error(3, 3).found() == "[3, 3]");
    CHECK(test::error_of<IndexError>([&] { table.backward(std::vector<int>{0, -1}, two); }).value() == -1);
    const Tensor3<float> tensor(2, 1, 3);
    CHECK(test::error_of<ShapeError>([&] {
            table.backward(IdMatrix<int>::Zero(1, 2).eval(), tensor);
          }).expected() == "[1, 2, 3]");
    CHECK(test::same_bits(table.grad(), before));
  }
}

TEST_CASE("a borrowed table has a gradient of its own, and is copied by the first step, once",
          "[gradients]") {
  const auto memory = std::make_shared<Matrix<float>>(test::drawn<float>(4, 2));
  const Matrix<float> before = *memory;
  auto table = Embedding<float>::view({memory->data(), 4, 2}, memory);
  table.backward(std::vector<int>{3, 3}, Matrix<float>::Ones(2, 2).eval());
  CHECK(table.weight().data() == memory->data());
  CHECK(table.grad().row(3) == row_of({2, 2}));

  const float* copied = table.mutable_weight().data();
  CHECK(copied != memory->data());
  CHECK(test::same_bits(table.weight(), before));
  for (int step = 0; step < 2; ++step) table.mutable_weight() -= 0.5F * table.grad();
  CHECK(table.weight().data() == copied);
  CHECK(table.weight().row(3) == before.row(3) - row_of({2, 2}));
  CHECK(test::same_bits(*memory, before));
  CHECK(memory.use_count() == 1);  // nothing is borrowed any more
}

TEST_CASE("copies and moves take the gradient along", "[gradients]") {
  Embedding<float> table(3, 2, {.scale_grad_by_freq = true});
  table.backward(std::vector<int>{1}, row_of({1, 2}));
  Embedding<float> copy = table;
  copy.backward(std::vector<int>{1}, row_of({1, 2}));
  CHECK(table.grad().row(1) == row_of({1, 2}));
  CHECK(copy.grad().row(1) == row_of({2, 4}));
  copy.mutable_weight().setZero();
  CHECK(!table.weight().isZero(0));

  const float* memory = copy.grad().data();
  Embedding<float> moved = std::move(copy);
  CHECK(moved.grad().data() == memory);
  CHECK(moved.grad().row(1) == row_of({2, 4}));
  moved = Embedding<float>(3, 2);
  CHECK(!moved.has_grad());
  moved = table;
  CHECK(moved.grad().row(1) == row_of({1, 2}));
}

TEST_CASE("tables without rows, columns or places have gradients, too", "[gradients]") {
  Embedding<float> no_columns(3, 0);
  no_columns.backward(std::vector<int>{1, 2}, Matrix<float>(2, 0));
  CHECK(no_columns.grad().rows() == 3);
  Embedding<float> no_rows(0, 4);
  no_rows.backward(std::vector<int>{}, Matrix<float>(0, 4), test::SlicingDevice{});
  CHECK(no_rows.grad().cols() == 4);
  Embedding<float> table(2, 4);
  table.backward(IdMatrix<int>(3, 0), Tensor3<float>(3, 0, 4));
  table.backward(IdMatrix<int>(0, 3), Tensor3<float>(0, 3, 4));
  CHECK(table.grad().isZero(0));
}

// renorm.

TEST_CASE("renorm scales rows above max_norm by max_norm / (norm + 1e-7), of any p-norm", "[gradients]") {
  const double infinity = std::numeric_limits<double>::infinity();
  // The norms of [3, -4, 0]: a count, (sqrt 3 + sqrt 4)², a sum, Euclid's, the cube root of 91, a maximum.
  const double half_norm = std::pow(std::sqrt(3.0) + 2, 2);
  for (const auto& [norm_type, norm] : {std::pair<double, double>{0, 2},
                                        {0.5, half_norm},
                                        {1, 7},
                                        {2, 5},
                                        {3, std::cbrt(91)},
                                        {infinity, 4}}) {
    INFO("norm_type = " << norm_type);
    Matrix<double> weight(1, 3);
    weight << 3, -4, 0;
    Embedding<double> table(weight);
    table.renorm({0}, 1, norm_type);
    for (Index j = 0; j < 3; ++j) {
      CHECK(table.weight()(0, j) == Approx(weight(0, j) / (norm + 1e-7)).epsilon(1e-14));
    }
    // A norm that is max_norm does not exceed it.
    Embedding<double> equal(weight);
    equal.renorm({0}, norm * (1 + 1e-15), norm_type);
    CHECK(test::same_bits(equal.weight(), weight));
  }
  Embedding<double> table((Matrix<double>(1, 2) << 3, 4).finished());
  table.renorm({0}, 1);
  CHECK(table.weight()(0, 0) == Approx(0.5999999880000002).epsilon(1e-15));
  CHECK(table.weight()(0, 1) == Approx(0.7999999840000003).epsilon(1e-15));
  Embedding<double> exact((Matrix<double>(1, 2) << 3, 4).finished());
  exact.renorm({0}, 5);
  CHECK(exact.weight()(0, 0) == 3);
}

TEST_CASE("renorm touches the rows of the ids only, each of them once", "[gradients]") {
  Matrix<double> weight = 10 * test::drawn<double>(5, 3);
  weight.row(2).setZero();
  Embedding<double> table(weight);
  IdMatrix<int> ids(2, 3);
  ids << 3, 2, 3, 3, 0, 3;
  table.renorm(ids, 1);
  Embedding<double> once(weight);
  for (const int row : {0, 2, 3}) once.renorm({row}, 1);
  CHECK(test::same_bits(table.weight(), once.weight()));
  CHECK(test::same_bits(table.weight().row(1), weight.row(1)));
  CHECK(test::same_bits(table.weight().row(4), weight.row(4)));
  CHECK(test::same_bits(table.weight().row(2), weight.row(2)));
  CHECK(table.weight().row(3).norm() == Approx(1));
  CHECK(table.weight().row(3).norm() < 1);
  table.renorm(ids, 0);
  CHECK(table.weight().row(0).isZero(0));
}

TEMPLATE_TEST_CASE("renorm computes in double and rounds once", "[gradients]", float, Eigen::half,
                   Eigen::bfloat16) {
  using T = TestType;
  const Matrix<T> weight = test::drawn<T>(200, 7);
  const double max_norm = 0.1 + 1e-12;  // no float
  Embedding<T> table(weight);
  Embedding<double> in_double(Matrix<double>(weight.template cast<double>()));
  const auto ids = consecutive(1, 200);
  table.renorm(ids, max_norm);
  in_double.renorm(ids, max_norm);
  const int digits = std::is_same_v<T, float> ? 23 : std::is_same_v<T, Eigen::half> ? 10 : 7;
  const int smallest = std::is_same_v<T, Eigen::half> ? -14 : -126;
  for (Index i = 0; i < weight.size(); ++i) {
    const auto value = static_cast<double>(table.weight().data()[i]);
    const double error = std::abs(value - in_double.weight().data()[i]);
    CHECK(error <= 0.5 * std::ldexp(1, std::max(std::ilogb(value), smallest) - digits));
  }
}

TEST_CASE("renorm refuses what cannot be before any row changes", "[gradients]") {
  const Matrix<double> weight = 10 * test::drawn<double>(5, 3);
  Embedding<double> table(weight);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(test::error_of<IndexError>([&] { table.renorm({0, 5}, 1); }).value() == 5);
  CHECK(test::error_of<IndexError>([&] { table.renorm({0, -1}, 1); }).name() == "ids");
  for (const double wrong : {-1.0, nan}) {
    CHECK(test::error_of<ArgumentError>([&] { table.renorm({0}, wrong); }).name() == "max_norm");
    CHECK(test::error_of<ArgumentError>([&] { table.renorm({0}, 1, wrong); }).name() == "norm_type");
  }
  CHECK(test::same_bits(table.weight(), weight));

  const auto memory = std::make_shared<Matrix<double>>(weight);
  auto borrowed = Embedding<double>::view({memory->data(), 5, 3}, memory);
  CHECK_THROWS_AS(borrowed.renorm({7}, 1), IndexError);
  CHECK(borrowed.weight().data() == memory->data());
  borrowed.renorm({1}, 1);
  CHECK(test::same_bits(*memory, weight));
  CHECK(borrowed.weight().row(1).norm() == Approx(1));
  borrowed.renorm(std::vector<int>{}, 1);
  Embedding<double> no_columns(2, 0);
  for (const double norm_type : {0.0, 0.5, 2.0, std::numeric_limits<double>::infinity()}) {
    CHECK_NOTHROW(no_columns.renorm({0, 1}, 0, norm_type));
  }
}

// Positions.

TEST_CASE("the gradient of wpe is summed over the batch, in its order", "[gradients]") {
  const GPT2Config config{.n_positions = 12, .n_embd = 20};
  const Matrix<float> grad_output = test::drawn<float>(30 * 4, 20);
  const IdMatrix<std::int64_t> position_ids = consecutive(30, 4, 5);
  Matrix<float> expected = Matrix<float>::Zero(12, 20);
  add_one_by_one(expected, position_ids, grad_output);
  GPT2PositionEmbeddings<float> positions(config);
  positions.backward(position_ids, grad_output);
  CHECK(test::same_bits(positions.wpe.grad(), expected));
  positions.wpe.zero_grad();
  positions.backward(position_ids, as_tensor3(grad_output, 30, 4), test::SlicingDevice{1});
  CHECK(test::same_bits(positions.wpe.grad(), expected));

  const Matrix<float> before = positions.wpe.grad();
  const auto index_error =
      test::error_of<IndexError>([&] { positions.backward(arange(13), Matrix<float>::Ones(13, 20).eval()); });
  CHECK(index_error.table() == "wpe");
  CHECK(index_error.name() == "position_ids");
  CHECK(test::contains(index_error.what(), "n_positions is 12"));
  CHECK(test::error_of<ShapeError>([&] {
          positions.backward(arange(2), Matrix<float>::Ones(3, 20).eval());
        }).name() == "grad_output");
  CHECK(test::same_bits(positions.wpe.grad(), before));
}

TEST_CASE("the position layer names its parameter", "[gradients]") {
  GPT2PositionEmbeddings<float> positions(GPT2Config{.n_positions = 3, .n_embd = 2});
  REQUIRE(positions.parameters().size() == 1);
  CHECK(positions.parameters()[0].name == "wpe.weight");
  CHECK(positions.parameters()[0].embedding == &positions.wpe);
  CHECK(std::as_const(positions).parameters()[0].embedding == &positions.wpe);
}

// The sum.

namespace {

struct Sum {
  GPT2Embeddings<float> embeddings{
      GPT2Config{.vocab_size = 11, .n_positions = 9, .n_embd = 18, .bos_token_id = 0, .eos_token_id = 0}};
  IdMatrix<std::int64_t> input_ids = test::random_ids(20, 4, 11);
  IdMatrix<std::int64_t> types = test::random_ids(20, 4, 3, 2);
  Matrix<float> grad_output = test::drawn<float>(80, 18);
  Matrix<float> wte = Matrix<float>::Zero(11, 18);
  Matrix<float> wpe = Matrix<float>::Zero(9, 18);

  template <class... Arguments>
  void check_backward(const Arguments&... arguments) {
    embeddings.wte.zero_grad();
    embeddings.wpe.zero_grad();
    embeddings.backward(arguments...);
    CHECK(test::same_bits(embeddings.wte.grad(), wte));
    CHECK(test::same_bits(embeddings.wpe.grad(), wpe));
  }
};

}  // namespace

TEST_CASE("the gradient of the sum goes to tokens, positions and token types", "[gradients]") {
  Sum sum;
  add_one_by_one(sum.wte, sum.input_ids, sum.grad_output);
  add_one_by_one(sum.wpe, consecutive(20, 4, 2), sum.grad_output);
  const auto tensor = as_tensor3(sum.grad_output, 20, 4);
  const test::SlicingDevice slices{1};
  sum.check_backward(sum.input_ids, PastLength{2}, sum.grad_output);
  sum.check_backward(sum.input_ids, PastLength{2}, tensor, slices);
  sum.check_backward(sum.input_ids, arange(2, 6), tensor);
  sum.check_backward(sum.input_ids, arange(2, 6).transpose(), sum.grad_output, slices);
  sum.check_backward(sum.input_ids, IdMatrix<int>(arange<int>(2, 6).transpose()), tensor);
  sum.check_backward(sum.input_ids, consecutive(20, 4, 2), tensor, slices);

  SECTION("token types come after the tokens") {
    add_one_by_one(sum.wte, sum.types, sum.grad_output);
    sum.check_backward(sum.input_ids, PastLength{2}, sum.grad_output, sum.types);
    sum.check_backward(sum.input_ids, consecutive(20, 4, 2), tensor, sum.types, slices);
  }
  SECTION("one sequence of token types goes for the whole batch") {
    const IdMatrix<std::int64_t> row = sum.types.topRows(1);
    add_one_by_one(sum.wte, row.replicate(20, 1), sum.grad_output);
    sum.check_backward(sum.input_ids, PastLength{2}, tensor, row);
    sum.check_backward(sum.input_ids, PastLength{2}, tensor, row.row(0));
  }
  SECTION("a sequence has a matrix") {
    sum.wte.setZero();
    sum.wpe.setZero();
    const Matrix<float> rows = sum.grad_output.topRows(4);
    add_one_by_one(sum.wte, sum.input_ids.topRows(1), rows);
    add_one_by_one(sum.wpe, consecutive(1, 4, 5), rows);
    sum.check_backward(sum.input_ids.row(0), PastLength{5}, rows);
    sum.check_backward(sum.input_ids.row(0), std::vector<int>{5, 6, 7, 8}, rows);
  }
}

TEST_CASE("soft prompts leave wte alone, but for token types", "[gradients]") {
  Sum sum;
  GPT2Embeddings<float>& embeddings = sum.embeddings;
  add_one_by_one(sum.wpe, consecutive(20, 4, 2), sum.grad_output);
  const auto tensor = as_tensor3(sum.grad_output, 20, 4);
  embeddings.backward_embeds(PastLength{2}, tensor);
  CHECK(!embeddings.wte.has_grad());
  CHECK(test::same_bits(embeddings.wpe.grad(), sum.wpe));
  embeddings.wpe.zero_grad();
  embeddings.backward_embeds(consecutive(20, 4, 2), sum.grad_output, test::SlicingDevice{1});
  CHECK(test::same_bits(embeddings.wpe.grad(), sum.wpe));
  embeddings.wpe.zero_grad();
  add_one_by_one(sum.wte, sum.types, sum.grad_output);
  embeddings.backward_embeds(PastLength{2}, tensor, sum.types);
  CHECK(test::same_bits(embeddings.wte.grad(), sum.wte));
  CHECK(test::same_bits(embeddings.wpe.grad(), sum.wpe));
}

TEST_CASE("every lookup of the sum counts its own ids", "[gradients]") {
  // As in PyTorch, in which each of the three lookups is an operation of its own, and one sequence of positions is
  // looked up once for the whole batch.
  Matrix<float> weight = test::drawn<float>(4, 2);
  const EmbeddingOptions options{.padding_idx = 0, .scale_grad_by_freq = true};
  GPT2Embeddings<float> embeddings(Embedding<float>(weight, options), Embedding<float>(weight, options));
  IdMatrix<int> input_ids(2, 2);
  input_ids << 1, 1, 0, 2;
  const IdMatrix<int> types = IdMatrix<int>::Constant(2, 2, 1);
  const Matrix<float> ones = Matrix<float>::Ones(4, 2);
  embeddings.backward(input_ids, PastLength{0}, ones, types);
  Matrix<float> wte(4, 2);
  wte << 0, 0, 2, 2, 1, 1, 0, 0;  // row 1: once as a token (2 halves), once as a type (4 quarters)
  Matrix<float> wpe(4, 2);
  wpe << 0, 0, 2, 2, 0, 0, 0, 0;  // row 1: twice, because it is broadcast over both sequences
  CHECK(embeddings.wte.grad() == wte);
  CHECK(embeddings.wpe.grad() == wpe);

  embeddings.wpe.zero_grad();
  embeddings.backward_embeds(arange(2), ones, IdMatrix<int>(types));
  CHECK(embeddings.wpe.grad() == wpe);
  // Written out, the positions occur twice.
  embeddings.wpe.zero_grad();
  embeddings.backward_embeds(consecutive(2, 2), ones);
  CHECK(embeddings.wpe.grad() == wpe / 2);
}

TEST_CASE("when the sum's gradient throws, neither table's has changed", "[gradients]") {
  Sum sum;
  GPT2Embeddings<float>& embeddings = sum.embeddings;
  const IdMatrix<std::int64_t> positions = consecutive(20, 4);
  const auto with = [](IdMatrix<std::int64_t> ids, std::int64_t value) {
    ids(19, 3) = value;
    return ids;
  };
  const auto index_error = [&](const auto& ids, const auto& places, const auto& types) {
    return test::error_of<IndexError>([&] { embeddings.backward(ids, places, sum.grad_output, types); });
  };
  const auto check_all = [&] {
    CHECK(index_error(with(sum.input_ids, 11), positions, sum.types).name() == "input_ids");
    CHECK(index_error(sum.input_ids, with(positions, 9), sum.types).name() == "position_ids");
    CHECK(index_error(sum.input_ids, positions, with(sum.types, -1)).name() == "token_type_ids");
    CHECK(index_error(sum.input_ids, positions, with(sum.types, -1)).coordinates() ==
          std::vector<std::int64_t>{19, 3});
    CHECK(index_error(sum.input_ids, PastLength{6}, sum.types).bound() == 9);
    CHECK(test::error_of<ArgumentError>([&] {
            embeddings.backward(sum.input_ids, PastLength{-1}, sum.grad_output);
          }).name() == "past_length");
    CHECK(test::error_of<ShapeError>([&] {
            embeddings.backward(sum.input_ids, positions.topRows(19), sum.grad_output);
          }).name() == "position_ids");
    CHECK(test::error_of<ShapeError>([&] {
            embeddings.backward(sum.input_ids, positions, sum.grad_output.topRows(79));
          }).name() == "grad_output");
    CHECK(test::error_of<ShapeError>([&] {
            embeddings.backward_embeds(positions, sum.grad_output.leftCols(17));
          }).found() == "[80, 17]");
    CHECK(test::error_of<IndexError>([&] {
            embeddings.backward_embeds(positions, sum.grad_output, with(sum.types, 11));
          }).value() == 11);
  };
  check_all();
  CHECK(!embeddings.wte.has_grad());
  CHECK(!embeddings.wpe.has_grad());
  embeddings.backward(sum.input_ids, positions, sum.grad_output);
  const Matrix<float> wte = embeddings.wte.grad();
  const Matrix<float> wpe = embeddings.wpe.grad();
  check_all();
  CHECK(test::same_bits(embeddings.wte.grad(), wte));
  CHECK(test::same_bits(embeddings.wpe.grad(), wpe));
}

TEST_CASE("tables of different width are refused before a gradient changes", "[gradients]") {
  for (const Index cols : {16, 20}) {
    Sum sum;
    GPT2Embeddings<float>& embeddings = sum.embeddings;
    embeddings.wpe = Embedding<float>(9, cols);
    const auto check_all = [&] {
      const auto check = [&](auto&& action) {
        CHECK(test::error_of<ShapeError>(action).found() == "[9, " + std::to_string(cols) + "]");
      };
      check([&] { embeddings.backward(sum.input_ids, PastLength{}, sum.grad_output); });
      check([&] { embeddings.backward_embeds(consecutive(20, 4), sum.grad_output); });
      check([&] { embeddings.backward_embeds(consecutive(20, 4), sum.grad_output, sum.types); });
    };
    check_all();
    CHECK(!embeddings.wte.has_grad());
    CHECK(!embeddings.wpe.has_grad());
    embeddings.wte.mutable_grad().setConstant(3);
    embeddings.wpe.mutable_grad().setConstant(3);
    check_all();
    CHECK((embeddings.wte.grad().array() == 3).all());
    CHECK((embeddings.wpe.grad().array() == 3).all());
  }
}

TEST_CASE("gradients are what finite differences are", "[gradients]") {
  // The loss is the sum of the sines of the hidden states, so its gradient there is their cosines.
  GPT2Embeddings<double> embeddings(Embedding<double>(test::drawn<double>(6, 3, 1)),
                                    Embedding<double>(test::drawn<double>(5, 3, 2)));
  const IdMatrix<std::int64_t> input_ids = test::random_ids(2, 4, 6);
  const IdMatrix<std::int64_t> types = test::random_ids(2, 4, 6, 5);
  IdMatrix<std::int64_t> positions(2, 4);
  positions << 0, 1, 2, 3, 4, 4, 1, 0;
  const Matrix<double> embeds = test::drawn<double>(8, 3, 3);
  const auto cosines = [](const Tensor3<double>& hidden) -> Matrix<double> {
    return as_matrix(hidden).array().cos();
  };
  const auto check = [&](const auto& hidden, const auto& backward) {
    for (auto& [name, table] : embeddings.parameters()) table->zero_grad();
    backward(cosines(hidden()));
    const auto loss = [&] { return as_matrix(hidden()).array().sin().sum(); };
    for (auto& [name, table] : embeddings.parameters()) {
      if (!table->has_grad()) continue;
      INFO(name);
      for (Index i = 0; i < table->num_embeddings(); ++i) {
        for (Index j = 0; j < 3; ++j) {
          constexpr double step = 1e-5;
          const double value = table->weight()(i, j);
          table->mutable_weight()(i, j) = value + step;
          const double above = loss();
          table->mutable_weight()(i, j) = value - step;
          const double below = loss();
          table->mutable_weight()(i, j) = value;
          CHECK(table->grad()(i, j) == Approx((above - below) / (2 * step)).margin(1e-8));
        }
      }
    }
  };
  // as_matrix() is not for temporaries.
  Tensor3<double> kept;
  const auto keep = [&kept](Tensor3<double> hidden) -> Tensor3<double>& { return kept = std::move(hidden); };
  check([&]() -> Tensor3<double>& { return keep(embeddings.embed(embeds, positions)); },
        [&](const Matrix<double>& grad) { embeddings.backward_embeds(positions, grad); });
  CHECK(!embeddings.wte.has_grad());
  check([&]() -> Tensor3<double>& { return keep(embeddings.embed(embeds, positions, types)); },
        [&](const Matrix<double>& grad) { embeddings.backward_embeds(positions, grad, types); });
  check([&]() -> Tensor3<double>& { return keep(embeddings(input_ids)); },
        [&](const Matrix<double>& grad) { embeddings.backward(input_ids, PastLength{}, grad); });
  check([&]() -> Tensor3<double>& { return keep(embeddings(input_ids, positions)); },
        [&](const Matrix<double>& grad) { embeddings.backward(input_ids, positions, grad); });
  check([&]() -> Tensor3<double>& { return keep(embeddings(input_ids, positions, types)); },
        [&](const Matrix<double>& grad) { embeddings.backward(input_ids, positions, grad, types); });
  check(
      [&]() -> Tensor3<double>& { return keep(embeddings(input_ids, arange(1, 5), types.row(0))); },
      [&](const Matrix<double>& grad) { embeddings.backward(input_ids, arange(1, 5), grad, types.row(0)); });
}

TEST_CASE("an optimizer is a loop over the parameters, in the order of the checkpoint", "[gradients]") {
  Sum sum;
  GPT2Embeddings<float>& embeddings = sum.embeddings;
  const Matrix<float> wte = embeddings.wte.weight();
  const Matrix<float> wpe = embeddings.wpe.weight();
  embeddings.backward_embeds(PastLength{0}, as_tensor3(sum.grad_output, 20, 4));
  std::vector<std::string> stepped;
  for (auto& [name, embedding] : embeddings.parameters()) {
    if (!embedding->has_grad()) continue;
    stepped.emplace_back(name);
    embedding->mutable_weight() -= 0.5F * embedding->grad();
  }
  CHECK(stepped == std::vector<std::string>{"wpe.weight"});
  CHECK(test::same_bits(embeddings.wte.weight(), wte));
  CHECK(embeddings.wpe.weight() == wpe - 0.5F * embeddings.wpe.grad());

  const auto constant = std::as_const(embeddings).parameters();
  REQUIRE(constant.size() == 2);
  CHECK(constant[0].name == "wte.weight");
  CHECK(constant[0].embedding == &embeddings.wte);
  CHECK(constant[1].name == "wpe.weight");
  CHECK(constant[1].embedding == &embeddings.wpe);
}

}  // namespace gradients_tests
