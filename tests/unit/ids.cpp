// SPDX-License-Identifier: MIT
#include "gpt2/ids.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <list>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "gpt2/embedding.hpp"
#include "support.hpp"

namespace ids_tests {

using namespace gpt2;

TEST_CASE("an id is of any integral type but bool", "[ids]") {
  STATIC_REQUIRE((Id<std::int8_t> && Id<std::uint8_t> && Id<std::int16_t> && Id<std::uint16_t>));
  STATIC_REQUIRE((Id<std::int32_t> && Id<std::uint32_t> && Id<std::int64_t> && Id<std::uint64_t>));
  STATIC_REQUIRE((Id<char> && Id<char8_t> && Id<wchar_t> && Id<long> && Id<unsigned long long>));
  STATIC_REQUIRE_FALSE((Id<bool> || Id<float> || Id<double> || Id<Eigen::half> || Id<void> || Id<int*>));
}

TEST_CASE("ids are Eigen expressions, tensors of rank 1 or 2, or random-access ranges", "[ids]") {
  STATIC_REQUIRE((Ids<std::vector<int>> && Ids<std::array<char, 3>> && Ids<std::span<const std::uint64_t>>));
  STATIC_REQUIRE((Ids<int[3]> && Ids<std::initializer_list<long>> && Ids<const std::vector<int>&>));
  STATIC_REQUIRE((Ids<Eigen::VectorXi> && Ids<Eigen::ArrayXXi> && Ids<IdMatrix<std::uint8_t>>));
  STATIC_REQUIRE(
      (Ids<Eigen::Map<const IdMatrix<int>>> && Ids<decltype(Eigen::VectorXi() + Eigen::VectorXi())>));
  STATIC_REQUIRE_FALSE((Ids<std::vector<bool>> || Ids<std::vector<float>> || Ids<Eigen::MatrixXf>));
  STATIC_REQUIRE_FALSE((Ids<Eigen::Array<bool, 3, 1>> || Ids<std::vector<std::vector<int>>>));
  STATIC_REQUIRE(
      (Ids<std::deque<int>> && Ids<Eigen::Tensor<int, 1>> && Ids<Eigen::Tensor<int, 2, Eigen::RowMajor>>));
  STATIC_REQUIRE_FALSE((Ids<Eigen::Tensor<float, 1>> || Ids<Eigen::Tensor<int, 3>>));
  STATIC_REQUIRE_FALSE((Ids<std::list<int>> || Ids<int> || Ids<int*>));
}

TEST_CASE("ids are of rank 2 only as matrices", "[ids]") {
  using Row = decltype(std::declval<const IdMatrix<int>&>().row(0));
  STATIC_REQUIRE((ids_rank<IdMatrix<int>> == 2 && ids_rank<Eigen::ArrayXXi> == 2));
  STATIC_REQUIRE((ids_rank<IdVector<int>> == 1 && ids_rank<Eigen::RowVectorXi> == 1 && ids_rank<Row> == 1));
  STATIC_REQUIRE((ids_rank<std::vector<int>> == 1 && ids_rank<int[3]> == 1));
}

TEST_CASE("whatever ids come in, the same rows are looked up", "[ids]") {
  const Embedding<float> table(test::drawn<float>(7, 5, 1));
  const std::vector<int> ids{3, 0, 6, 3, 2, 1};
  const Matrix<float> expected = table(ids);
  CHECK(table(std::deque<int>(ids.begin(), ids.end())) == expected);
  CHECK(table(std::deque<std::int8_t>(ids.begin(), ids.end())) == expected);

  Eigen::Tensor<int, 1> vector(6);
  std::copy(ids.begin(), ids.end(), vector.data());
  CHECK(table(vector) == expected);

  Eigen::Tensor<int, 2, Eigen::RowMajor> rows(2, 3);
  Eigen::Tensor<int, 2> columns(2, 3);
  for (Index i = 0; i < 6; ++i) {
    rows(i / 3, i % 3) = ids[static_cast<std::size_t>(i)];
    columns(i / 3, i % 3) = ids[static_cast<std::size_t>(i)];
  }
  const Tensor3<float> of_rows = table(rows);
  CHECK(of_rows.dimension(0) == 2);
  CHECK(as_matrix(of_rows) == expected);
  const Tensor3<float> of_columns = table(columns);
  CHECK(as_matrix(of_columns) == expected);
  const Tensor3<float> of_map = table(Eigen::TensorMap<Eigen::Tensor<int, 2>>(columns));
  CHECK(as_matrix(of_map) == expected);
}

TEST_CASE("ids that are copied first are checked like others", "[ids]") {
  Embedding<float> table(test::drawn<float>(7, 5, 1));
  Matrix<float> out = Matrix<float>::Constant(3, 5, 4);
  const std::deque<std::int64_t> wrong{1, 4294967297, 2};
  CHECK(std::string(test::error_of<IndexError>([&] { table.forward_into(wrong, out); }).what()) ==
        "[gpt2.index_error] embedding: ids[1] = 4294967297 is outside [0, 7)");
  CHECK(out == Matrix<float>::Constant(3, 5, 4));

  Eigen::Tensor<int, 2> batch(2, 3);
  batch.setZero();
  batch(1, 2) = -1;
  const auto error = test::error_of<IndexError>([&] { (void)table(batch); });
  CHECK(error.coordinates() == std::vector<std::int64_t>{1, 2});
  CHECK_THROWS_AS(table.backward(batch, Matrix<float>(6, 5)), IndexError);
  CHECK_FALSE(table.has_grad());

  const std::deque<int> none;
  CHECK(table(none).rows() == 0);
}

}  // namespace ids_tests
