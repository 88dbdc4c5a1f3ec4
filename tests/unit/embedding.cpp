// SPDX-License-Identifier: MIT
#define EIGEN_ALLOW_UNALIGNED_SCALARS  // or Eigen 5 itself stops at a map that we must refuse

#include "gpt2/embedding.hpp"

#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <span>
#include <utility>
#include <vector>

#include "support.hpp"

namespace embedding_tests {

using namespace gpt2;

namespace {

/// A table whose element (i, j) is 100 i + j.
template <class T>
Matrix<T> numbered(Index rows, Index cols) {
  Matrix<T> matrix(rows, cols);
  for (Index i = 0; i < rows; ++i) {
    for (Index j = 0; j < cols; ++j) matrix(i, j) = static_cast<T>(static_cast<float>(100 * i + j));
  }
  return matrix;
}

template <class Table, class X>
concept CanLookUp = requires(const Table& table, const X& ids) {
  table(ids);
};
template <class Table, class X>
concept CanLookUpBraced = requires(const Table& table, X id) {
  table({id, id});
};
template <class Table, class X, class Out>
concept CanWrite = requires(const Table& table, const X& ids, Out&& out) {
  table.forward_into(ids, std::forward<Out>(out));
};

}  // namespace

TEMPLATE_TEST_CASE("a lookup copies rows bit for bit", "[embedding]", float, double, Eigen::half,
                   Eigen::bfloat16) {
  using T = TestType;
  Matrix<T> weight(5, 3);
  // Whatever the bits are, NaNs with payload, infinities, denormals and signed zeros included.
  std::mt19937 random(1);
  for (Index i = 0; i < weight.size(); ++i) {
    auto* bytes = reinterpret_cast<unsigned char*>(weight.data() + i);
    for (std::size_t b = 0; b < sizeof(T); ++b) bytes[b] = static_cast<unsigned char>(random());
  }
  weight(1, 1) = std::numeric_limits<T>::quiet_NaN();
  weight(2, 0) = static_cast<T>(-0.0F);
  const Embedding<T> table(weight);
  const Matrix<T> rows = table({4, 0, 1, 1, 2});
  REQUIRE(rows.rows() == 5);
  CHECK(test::same_bits(rows.row(0), weight.row(4)));
  CHECK(test::same_bits(rows.row(1), weight.row(0)));
  CHECK(test::same_bits(rows.row(2), weight.row(1)));
  CHECK(test::same_bits(rows.row(3), weight.row(1)));
  CHECK(test::same_bits(rows.row(4), weight.row(2)));
}

TEST_CASE("ids of rank 1 give a matrix, of rank 2 a tensor", "[embedding]") {
  const Embedding<float> table(numbered<float>(6, 4));
  const Matrix<float> rows = table(std::vector<int>{5, 0, 3});
  CHECK(rows(0, 1) == 501);
  CHECK(rows(1, 3) == 3);
  CHECK(rows(2, 0) == 300);

  IdMatrix<std::int64_t> ids(2, 3);
  ids << 0, 1, 2, 3, 4, 5;
  const Tensor3<float> batch = table(ids);
  CHECK(batch.dimension(0) == 2);
  CHECK(batch.dimension(1) == 3);
  CHECK(batch.dimension(2) == 4);
  CHECK(test::same_bits(batch, table.weight()));

  const Tensor3<float> one = table(IdMatrix<int>(ids.topRows(1).cast<int>()));
  CHECK(one.dimension(0) == 1);
  STATIC_REQUIRE(std::is_same_v<decltype(table(ids.row(0))), Matrix<float>>);
}

TEST_CASE("ids may come in any form", "[embedding]") {
  const Embedding<float> table(numbered<float>(9, 2));
  const Matrix<float> expected = table({1, 8, 3});
  const std::array<std::uint8_t, 3> array{1, 8, 3};
  const short plain[] = {1, 8, 3};
  CHECK(table(array) == expected);
  CHECK(table(plain) == expected);
  CHECK(table(std::span(array)) == expected);
  CHECK(table({1U, 8U, 3U}) == expected);
  CHECK(table(Eigen::Vector3i(1, 8, 3)) == expected);
  CHECK(table(Eigen::RowVector3i(1, 8, 3)) == expected);
  CHECK(table(Eigen::Array3i(1, 8, 3)) == expected);
  CHECK(table(Eigen::Vector3i(0, 7, 2).array() + 1) == expected);
  CHECK(table(Eigen::Vector3i(3, 8, 1).reverse()) == expected);
  const std::vector<int> strided{1, 0, 8, 0, 3, 0};
  CHECK(table(Eigen::Map<const Eigen::VectorXi, 0, Eigen::InnerStride<2>>(strided.data(), 3)) == expected);
  const Eigen::Vector<int, 5> spread(1, 0, 8, 0, 3);
  CHECK(table(spread(Eigen::seqN(0, 3, Eigen::fix<2>))) == expected);
  const auto list = {1L, 8L, 3L};
  CHECK(table(list) == expected);
}

TEST_CASE("matrices of ids may have any layout", "[embedding]") {
  const Embedding<float> table(numbered<float>(9, 2));
  IdMatrix<int> ids(2, 3);
  ids << 1, 2, 3, 4, 5, 6;
  const Tensor3<float> expected = table(ids);
  CHECK(test::same_bits(table(Eigen::MatrixXi(ids)), expected));
  CHECK(test::same_bits(table(Eigen::MatrixXi(ids.transpose()).transpose()), expected));
  CHECK(test::same_bits(table(ids.array()), expected));
  CHECK(test::same_bits(table(ids.cast<std::int64_t>()), expected));
  IdMatrix<int> wide = IdMatrix<int>::Constant(4, 7, -1);
  wide.block(1, 2, 2, 3) = ids;
  CHECK(test::same_bits(table(wide.block(1, 2, 2, 3)), expected));
  const Eigen::Matrix<int, 2, 3> fixed = ids;
  CHECK(test::same_bits(table(fixed), expected));
  const Eigen::Ref<const Eigen::MatrixXi> reference = ids;
  CHECK(test::same_bits(table(reference), expected));
  CHECK(test::same_bits(table(ids.colwise().reverse().colwise().reverse()), expected));
}

TEST_CASE("an expression is evaluated once, so what was checked is what is looked up", "[embedding]") {
  const Embedding<float> table(numbered<float>(2, 2));
  int calls = 0;
  const auto growing = IdVector<int>::NullaryExpr(2, [&calls](Index) { return calls++; });
  CHECK(table(growing) == table.weight());
  CHECK(calls == 2);
}

TEST_CASE("nothing looked up is a legal lookup", "[embedding]") {
  const Embedding<float> table(3, 4);
  CHECK(table(std::vector<int>{}).rows() == 0);
  CHECK(table(std::vector<int>{}).cols() == 4);
  const Tensor3<float> no_sequence = table(IdMatrix<int>(0, 5));
  CHECK(no_sequence.dimension(0) == 0);
  CHECK(no_sequence.dimension(1) == 5);
  CHECK(no_sequence.dimension(2) == 4);
  const Tensor3<float> no_token = table(IdMatrix<int>(2, 0));
  CHECK(no_token.dimension(0) == 2);
  CHECK(no_token.dimension(1) == 0);

  const Embedding<float> no_rows(0, 4);
  CHECK(no_rows(std::vector<int>{}).cols() == 4);
  CHECK(test::error_of<IndexError>([&] { (void)no_rows({0}); }).bound() == 0);

  const Embedding<float> no_columns(3, 0);
  CHECK(no_columns({0, 2}).rows() == 2);
  CHECK(no_columns({0, 2}).cols() == 0);
  CHECK(no_columns(IdMatrix<int>::Zero(2, 3)).dimension(2) == 0);
  CHECK_THROWS_AS(no_columns({3}), IndexError);
}

TEST_CASE("an id outside the table is refused by name, place, value and range", "[embedding]") {
  const Embedding<float> table(5, 2);
  const auto error = test::error_of<IndexError>([&] { (void)table({0, 4, 5}); });
  CHECK(std::string(error.what()) == "[gpt2.index_error] embedding: ids[2] = 5 is outside [0, 5)");
  CHECK(error.table() == "embedding");
  CHECK(error.name() == "ids");
  CHECK(error.coordinates() == std::vector<std::int64_t>{2});
  CHECK(error.value() == 5);
  CHECK(error.bound() == 5);

  IdMatrix<int> batch = IdMatrix<int>::Zero(3, 4);
  batch(2, 1) = -1;
  batch(2, 3) = 9;
  const auto second = test::error_of<IndexError>([&] { (void)table(batch); });
  CHECK(second.coordinates() == std::vector<std::int64_t>{2, 1});
  CHECK(second.value() == -1);
  const auto transposed = test::error_of<IndexError>([&] { (void)table(batch.transpose()); });
  CHECK(transposed.coordinates() == std::vector<std::int64_t>{1, 2});
  CHECK_NOTHROW(table({0, 4}));
}

TEST_CASE("ids are never narrowed before they are checked", "[embedding]") {
  const Embedding<float> table(5, 2);
  for (const std::int64_t id :
       {std::int64_t{-1}, std::int64_t{1} << 40, (std::int64_t{1} << 32) + 1,
        std::numeric_limits<std::int64_t>::min(), std::numeric_limits<std::int64_t>::max()}) {
    const auto error = test::error_of<IndexError>([&] { (void)table(std::vector{id}); });
    CHECK(error.value() == id);
  }
  const auto error = test::error_of<IndexError>(
      [&] { (void)table(std::vector{std::numeric_limits<std::uint64_t>::max()}); });
  CHECK(test::contains(error.what(), "18446744073709551615"));
  CHECK(test::error_of<IndexError>([&] { (void)table(std::vector<std::int8_t>{-128}); }).value() == -128);
  CHECK(test::error_of<IndexError>([&] { (void)table(std::vector<std::uint8_t>{255}); }).value() == 255);
  CHECK(test::error_of<IndexError>([&] { (void)table(std::vector<char>{'A'}); }).value() == 'A');
}

TEST_CASE("forward_into writes to matrices, maps, blocks and tensors", "[embedding]") {
  const Embedding<float> table(numbered<float>(6, 4));
  const std::vector<int> ids{5, 0, 3};
  const Matrix<float> expected = table(ids);

  Matrix<float> matrix(3, 4);
  table.forward_into(ids, matrix);
  CHECK(matrix == expected);

  Matrix<float> canvas = Matrix<float>::Constant(5, 8, -1);
  table.forward_into(ids, canvas.block(1, 2, 3, 4));
  CHECK(canvas.block(1, 2, 3, 4) == expected);
  CHECK(canvas.sum() == expected.sum() - 28);  // the frame is untouched

  std::vector<float> memory(12);
  table.forward_into(ids, Eigen::Map<Matrix<float>>(memory.data(), 3, 4));
  CHECK(Eigen::Map<Matrix<float>>(memory.data(), 3, 4) == expected);
  Eigen::Array<float, 3, 4, Eigen::RowMajor> array;
  table.forward_into(ids, array);
  CHECK(array.matrix() == expected);

  IdMatrix<int> batch(2, 3);
  batch << 0, 1, 2, 3, 4, 5;
  Tensor3<float> tensor(2, 3, 4);
  table.forward_into(batch, tensor);
  CHECK(test::same_bits(tensor, table.weight()));
  Matrix<float> flat(6, 4);
  table.forward_into(batch, flat);
  CHECK(flat == table.weight());
  flat.setZero();
  table.forward_into(batch, as_tensor3(flat, 2, 3));
  CHECK(flat == table.weight());
}

TEST_CASE("forward_into converts to wider scalars exactly", "[embedding]") {
  const Embedding<Eigen::half> half(numbered<Eigen::half>(6, 4));
  Matrix<float> as_float(2, 4);
  half.forward_into(std::vector{1, 5}, as_float);
  CHECK(as_float == numbered<float>(6, 4)({1, 5}, Eigen::seqN(0, 4)));
  Matrix<double> as_double(2, 4);
  half.forward_into(std::vector{1, 5}, as_double);
  CHECK(as_double == numbered<double>(6, 4)({1, 5}, Eigen::seqN(0, 4)));
  const Embedding<float> table(numbered<float>(6, 4));
  table.forward_into(std::vector{1, 5}, as_double);
  CHECK(as_double == numbered<double>(6, 4)({1, 5}, Eigen::seqN(0, 4)));
}

TEST_CASE("forward_into refuses an out of another shape, and nothing is written", "[embedding]") {
  const Embedding<float> table(6, 4);
  Matrix<float> out = Matrix<float>::Constant(3, 4, 7);
  const auto check_untouched = [&] { CHECK(out == Matrix<float>::Constant(3, 4, 7)); };

  const auto error = test::error_of<ShapeError>([&] { table.forward_into(std::vector{1, 2}, out); });
  CHECK(error.expected() == "[2, 4]");
  CHECK(error.found() == "[3, 4]");
  CHECK(test::contains(error.what(), "embedding: out"));
  check_untouched();
  CHECK_THROWS_AS(table.forward_into(std::vector{1, 2, 3}, out.leftCols(3)), ShapeError);
  check_untouched();
  CHECK_THROWS_AS(table.forward_into(std::vector{1, 2, 6}, out), IndexError);
  check_untouched();

  Tensor3<float> tensor(3, 2, 4);
  tensor.setConstant(7);
  const auto second =
      test::error_of<ShapeError>([&] { table.forward_into(IdMatrix<int>::Zero(2, 3), tensor); });
  CHECK(second.expected() == "[2, 3, 4]");
  CHECK(second.found() == "[3, 2, 4]");
  CHECK(as_matrix(tensor) == Matrix<float>::Constant(6, 4, 7));
}

TEST_CASE("a fresh table is N(0, 0.02²) of its seed", "[embedding]") {
  const Embedding<double> table(400, 100, {}, 3);
  CHECK(std::abs(table.weight().mean()) < 5 * 0.02 / 200);
  CHECK(std::sqrt(table.weight().array().square().mean()) == Approx(0.02).epsilon(0.02));
  const Embedding<double> same(400, 100, {}, 3);
  CHECK(same.weight() == table.weight());
  const Embedding<double> other(400, 100, {}, 4);
  CHECK_FALSE(other.weight() == table.weight());
  const Embedding<double> unseeded(400, 100);
  const Embedding<double> default_seeded(400, 100, {}, default_seed);
  CHECK(unseeded.weight() == default_seeded.weight());
}

TEST_CASE("the padding row is zero in a fresh table only", "[embedding]") {
  const Embedding<float> fresh(5, 3, {.padding_idx = 1}, 7);
  CHECK(fresh.weight().row(1).isZero(0));
  CHECK(fresh({1}).isZero(0));
  const Embedding<float> same_seed(5, 3, {}, 7);
  CHECK(fresh.weight().row(2) == same_seed.weight().row(2));

  const Embedding<float> given(numbered<float>(5, 3), {.padding_idx = 1});
  CHECK(given.weight() == numbered<float>(5, 3));
  CHECK(given({1}) == numbered<float>(5, 3).row(1));
}

TEST_CASE("padding_idx counts from the end if negative, and must be a row", "[embedding]") {
  CHECK(Embedding<float>(5, 3, {.padding_idx = -1}).options().padding_idx == 4);
  CHECK(Embedding<float>(5, 3, {.padding_idx = -5}).options().padding_idx == 0);
  CHECK(Embedding<float>(5, 3, {.padding_idx = 4}).options().padding_idx == 4);
  CHECK_FALSE(Embedding<float>(5, 3).options().padding_idx.has_value());
  CHECK(Embedding<float>(5, 3, {.scale_grad_by_freq = true}).options().scale_grad_by_freq);
  for (const Index row : {Index{5}, Index{-6}, std::numeric_limits<Index>::min()}) {
    const auto error = test::error_of<ArgumentError>([&] { Embedding<float>(5, 3, {.padding_idx = row}); });
    CHECK(error.name() == "padding_idx");
    CHECK(error.value() == static_cast<double>(row));
    CHECK(test::contains(error.what(), "[-5, 5)"));
    CHECK_THROWS_AS(Embedding<float>(numbered<float>(5, 3), {.padding_idx = row}), ArgumentError);
  }
  CHECK_THROWS_AS(Embedding<float>(0, 3, {.padding_idx = 0}), ArgumentError);
}

TEST_CASE("sizes that no table can have are refused", "[embedding]") {
  CHECK(test::error_of<ArgumentError>([] { Embedding<float>(-1, 3); }).name() == "num_embeddings");
  CHECK(test::error_of<ArgumentError>([] { Embedding<float>(3, -1); }).name() == "embedding_dim");
  CHECK(test::error_of<ArgumentError>([] {
          Embedding<float>(Index{1} << (sizeof(Index) * 5), Index{1} << (sizeof(Index) * 5));
        }).name() == "num_embeddings");
}

TEST_CASE("a borrowed table is the memory it was given, and keeps its owner alive", "[embedding]") {
  auto owner = std::make_shared<Matrix<float>>(numbered<float>(4, 3));
  const std::weak_ptr<Matrix<float>> watch = owner;
  {
    const auto table = Embedding<float>::view(Eigen::Map<const Matrix<float>>(owner->data(), 4, 3), owner,
                                              {.padding_idx = -1});
    owner.reset();
    REQUIRE_FALSE(watch.expired());
    CHECK(table.weight().data() == watch.lock()->data());
    CHECK(table.num_embeddings() == 4);
    CHECK(table.embedding_dim() == 3);
    CHECK(table.options().padding_idx == 3);
    CHECK(table({2}) == numbered<float>(4, 3).row(2));
  }
  CHECK(watch.expired());
}

TEST_CASE("writing to a borrowed table copies it once and lets its owner go", "[embedding]") {
  auto owner = std::make_shared<Matrix<float>>(numbered<float>(4, 3));
  const std::weak_ptr<Matrix<float>> watch = owner;
  auto table = Embedding<float>::view(Eigen::Map<const Matrix<float>>(owner->data(), 4, 3), owner);
  auto copy = table;
  CHECK(copy.weight().data() == table.weight().data());

  table.mutable_weight()(0, 0) = -1;
  const float* own = table.weight().data();
  CHECK(own != owner->data());
  CHECK((*owner)(0, 0) == 0);
  CHECK(copy.weight()(0, 0) == 0);
  table.mutable_weight()(0, 1) = -2;
  CHECK(table.weight().data() == own);
  CHECK(table.weight()(0, 0) == -1);
  CHECK(table.weight()(0, 1) == -2);

  owner.reset();
  CHECK_FALSE(watch.expired());  // the copy still borrows
  (void)copy.mutable_weight();
  CHECK(watch.expired());
}

TEST_CASE("a view refuses memory that cannot hold its scalars", "[embedding]") {
  alignas(8) std::array<std::byte, 64> memory{};
  const auto* crooked = reinterpret_cast<const double*>(memory.data() + 1);
  CHECK(test::error_of<ArgumentError>([&] {
          (void)Embedding<double>::view(Eigen::Map<const Matrix<double>>(crooked, 1, 2), nullptr);
        }).name() == "weight");
  CHECK_NOTHROW(Embedding<double>::view(Eigen::Map<const Matrix<double>>(nullptr, 0, 2), nullptr));
}

TEST_CASE("copies of an owning table are independent, moves take the table along", "[embedding]") {
  Embedding<float> table(numbered<float>(4, 3), {.padding_idx = 0});
  Embedding<float> copy = table;
  copy.mutable_weight()(1, 1) = -1;
  CHECK(table.weight()(1, 1) == 101);
  CHECK(copy.options() == table.options());

  const float* memory = table.weight().data();
  Embedding<float> moved = std::move(table);
  CHECK(moved.weight().data() == memory);
  CHECK(moved.num_embeddings() == 4);
  table = copy;
  CHECK(table.weight()(1, 1) == -1);
  STATIC_REQUIRE(std::is_nothrow_move_constructible_v<Embedding<float>>);
}

TEST_CASE("lookups do not depend on the device", "[embedding]") {
  const Embedding<float> table(50, 6);
  IdMatrix<int> ids(10, 13);
  for (Index i = 0; i < ids.size(); ++i) ids.data()[i] = static_cast<int>(i * 7 % 50);
  const Tensor3<float> expected = table(ids);
  for (const Index slice : {1, 7, 64, 1000}) {
    CHECK(test::same_bits(table(ids, test::SlicingDevice{slice}), expected));
    Matrix<float> out(130, 6);
    table.forward_into(ids, out, test::SlicingDevice{slice});
    CHECK(out == as_matrix(expected));
  }
  CHECK(test::same_bits(table(ids, Eigen::DefaultDevice{}), expected));
  CHECK(table({1, 2}, test::SlicingDevice{}) == table({1, 2}));
}

TEST_CASE("lookups equal a plain loop on random tables and ids", "[embedding]") {
  std::mt19937 random(20);
  const auto up_to = [&random](int most) {
    return static_cast<Index>(random() % static_cast<unsigned>(most + 1));
  };
  for (int round = 0; round < 200; ++round) {
    const Index rows = 1 + up_to(20);
    const Index cols = up_to(70);
    const Embedding<float> table(rows, cols, {}, static_cast<std::uint64_t>(round));
    IdMatrix<std::int32_t> ids(up_to(4), up_to(9));
    for (Index i = 0; i < ids.size(); ++i) {
      ids.data()[i] = static_cast<std::int32_t>(up_to(static_cast<int>(rows - 1)));
    }
    const Tensor3<float> result = table(ids);
    for (Index b = 0; b < ids.rows(); ++b) {
      for (Index s = 0; s < ids.cols(); ++s) {
        for (Index j = 0; j < cols; ++j) REQUIRE(result(b, s, j) == table.weight()(ids(b, s), j));
      }
    }
  }
}

TEST_CASE("other ids and outs are a question, not a hard error", "[embedding]") {
  using Table = Embedding<float>;
  using Row = std::vector<int>;
  STATIC_REQUIRE((CanLookUp<Table, Row> && CanLookUp<Table, Eigen::MatrixXi> && CanLookUpBraced<Table, int>));
  STATIC_REQUIRE_FALSE((CanLookUp<Table, std::vector<float>> || CanLookUp<Table, Eigen::VectorXd>));
  STATIC_REQUIRE_FALSE((CanLookUp<Table, std::vector<bool>> || CanLookUp<Table, std::array<bool, 2>>));
  STATIC_REQUIRE_FALSE((CanLookUp<Table, int> || CanLookUp<Table, std::vector<Row>>));
  STATIC_REQUIRE_FALSE((CanLookUpBraced<Table, float> || CanLookUpBraced<Table, bool>));
  STATIC_REQUIRE((CanWrite<Table, Row, Matrix<float>&> && CanWrite<Table, Row, Matrix<double>&>));
  STATIC_REQUIRE_FALSE((CanWrite<Table, Row, Tensor3<float>&> || CanWrite<Table, Row, Eigen::MatrixXf&>));
  STATIC_REQUIRE_FALSE((CanWrite<Table, Row, const Matrix<float>&>));
  STATIC_REQUIRE_FALSE((CanWrite<Embedding<double>, Row, Matrix<float>&>));
  STATIC_REQUIRE((CanWrite<Embedding<Eigen::half>, Row, Matrix<float>&>));
}

TEST_CASE("a writable map can be borrowed, and is copied before it is written to", "[embedding]") {
  auto memory = std::make_shared<Matrix<float>>(test::drawn<float>(5, 4, 1));
  const Matrix<float> original = *memory;
  Eigen::Map<Matrix<float>> map(memory->data(), 5, 4);
  Embedding<float> table = Embedding<float>::view(map, memory);
  CHECK(table.weight().data() == memory->data());
  table.mutable_weight().setZero();
  CHECK(*memory == original);
  CHECK(table.weight() == Matrix<float>::Zero(5, 4));
}

namespace {

template <class E>
concept HasWeight = requires(E&& table) {
  std::forward<E>(table).weight();
};
template <class E>
concept HasGrad = requires(E&& table) {
  std::forward<E>(table).grad();
};
template <class E>
concept HasMutableWeight = requires(E&& table) {
  std::forward<E>(table).mutable_weight();
};

}  // namespace

TEST_CASE("views of a temporary table do not compile", "[embedding]") {
  using E = Embedding<float>;
  STATIC_REQUIRE((HasWeight<E&> && HasWeight<const E&> && HasGrad<E&> && HasGrad<const E&>));
  STATIC_REQUIRE((HasMutableWeight<E&>));
  STATIC_REQUIRE_FALSE((HasWeight<E> || HasWeight<const E> || HasGrad<E> || HasGrad<const E>));
  STATIC_REQUIRE_FALSE((HasMutableWeight<E> || HasMutableWeight<const E&>));
}

}  // namespace embedding_tests
