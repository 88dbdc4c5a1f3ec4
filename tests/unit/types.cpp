// SPDX-License-Identifier: MIT
#include "gpt2/types.hpp"

#include <array>
#include <cstdint>
#include <deque>
#include <initializer_list>
#include <list>
#include <span>
#include <string>
#include <vector>

#include "gpt2/version.hpp"
#include "support.hpp"

using namespace gpt2;

namespace {

template <class M>
concept CanView = requires(M&& matrix) {
  as_matrix(std::forward<M>(matrix));
};
template <class M>
concept CanSplit = requires(M&& matrix) {
  as_tensor3(std::forward<M>(matrix), Index{1}, Index{1});
};

}  // namespace

TEST_CASE("a table holds float, double, half or bfloat16", "[types]") {
  STATIC_REQUIRE((Scalar<float> && Scalar<double> && Scalar<Eigen::half> && Scalar<Eigen::bfloat16>));
  STATIC_REQUIRE_FALSE((Scalar<int> || Scalar<long double> || Scalar<const float>));
  STATIC_REQUIRE((std::same_as<Accumulator<float>, float> && std::same_as<Accumulator<double>, double>));
  STATIC_REQUIRE(
      (std::same_as<Accumulator<Eigen::half>, float> && std::same_as<Accumulator<Eigen::bfloat16>, float>));
}

TEST_CASE("an id is of any integral type but bool", "[types]") {
  STATIC_REQUIRE((Id<std::int8_t> && Id<std::uint8_t> && Id<std::int16_t> && Id<std::uint16_t>));
  STATIC_REQUIRE((Id<std::int32_t> && Id<std::uint32_t> && Id<std::int64_t> && Id<std::uint64_t>));
  STATIC_REQUIRE((Id<char> && Id<char8_t> && Id<wchar_t> && Id<long> && Id<unsigned long long>));
  STATIC_REQUIRE_FALSE((Id<bool> || Id<float> || Id<double> || Id<Eigen::half> || Id<void> || Id<int*>));
}

TEST_CASE("ids are Eigen expressions or contiguous sized ranges", "[types]") {
  STATIC_REQUIRE((Ids<std::vector<int>> && Ids<std::array<char, 3>> && Ids<std::span<const std::uint64_t>>));
  STATIC_REQUIRE((Ids<int[3]> && Ids<std::initializer_list<long>> && Ids<const std::vector<int>&>));
  STATIC_REQUIRE((Ids<Eigen::VectorXi> && Ids<Eigen::ArrayXXi> && Ids<IdMatrix<std::uint8_t>>));
  STATIC_REQUIRE(
      (Ids<Eigen::Map<const IdMatrix<int>>> && Ids<decltype(Eigen::VectorXi() + Eigen::VectorXi())>));
  STATIC_REQUIRE_FALSE((Ids<std::vector<bool>> || Ids<std::vector<float>> || Ids<Eigen::MatrixXf>));
  STATIC_REQUIRE_FALSE((Ids<Eigen::Array<bool, 3, 1>> || Ids<std::vector<std::vector<int>>>));
  STATIC_REQUIRE_FALSE((Ids<std::list<int>> || Ids<std::deque<int>> || Ids<int> || Ids<int*>));
}

TEST_CASE("ids are of rank 2 only as matrices", "[types]") {
  using Row = decltype(std::declval<const IdMatrix<int>&>().row(0));
  STATIC_REQUIRE((ids_rank<IdMatrix<int>> == 2 && ids_rank<Eigen::ArrayXXi> == 2));
  STATIC_REQUIRE((ids_rank<IdVector<int>> == 1 && ids_rank<Eigen::RowVectorXi> == 1 && ids_rank<Row> == 1));
  STATIC_REQUIRE((ids_rank<std::vector<int>> == 1 && ids_rank<int[3]> == 1));
}

TEST_CASE("hidden states are row-major matrices, and tensors if ids are of rank 2", "[types]") {
  using Block = decltype(std::declval<Matrix<float>&>().topRows(1));
  STATIC_REQUIRE((HiddenOutput<Matrix<float>&, float, 1> && HiddenOutput<Block, float, 1>));
  STATIC_REQUIRE((HiddenOutput<Tensor3<float>&, float, 2> && HiddenOutput<Matrix<float>&, float, 2>));
  STATIC_REQUIRE((HiddenOutput<Eigen::TensorMap<Tensor3<float>>, float, 2>));
  STATIC_REQUIRE_FALSE((HiddenOutput<Tensor3<float>&, float, 1>));
  STATIC_REQUIRE_FALSE((HiddenOutput<Eigen::MatrixXf&, float, 1>));      // column-major
  STATIC_REQUIRE_FALSE((HiddenOutput<const Matrix<float>&, float, 1>));  // not writable
  STATIC_REQUIRE_FALSE((HiddenOutput<Eigen::Map<const Matrix<float>>, float, 1>));
  STATIC_REQUIRE_FALSE((HiddenOutput<Eigen::TensorMap<const Tensor3<float>>, float, 2>));
  STATIC_REQUIRE_FALSE((HiddenOutput<Eigen::Tensor<float, 3>&, float, 2>));  // column-major
}

TEST_CASE("results go to the table's scalar or a wider one", "[types]") {
  STATIC_REQUIRE((SameOrWider<float, float> && SameOrWider<double, float> && SameOrWider<double, double>));
  STATIC_REQUIRE((SameOrWider<float, Eigen::half> && SameOrWider<double, Eigen::bfloat16>));
  STATIC_REQUIRE((SameOrWider<Eigen::half, Eigen::half>));
  STATIC_REQUIRE_FALSE((SameOrWider<float, double> || SameOrWider<Eigen::half, float>));
  STATIC_REQUIRE_FALSE((SameOrWider<Eigen::half, Eigen::bfloat16> || SameOrWider<int, Eigen::half>));
}

TEST_CASE("as_matrix and as_tensor3 see the same memory", "[types]") {
  Tensor3<float> tensor(2, 3, 4);
  for (Index i = 0; i < tensor.size(); ++i) tensor.data()[i] = static_cast<float>(i);

  const Eigen::Map<Matrix<float>> matrix = as_matrix(tensor);
  CHECK(matrix.rows() == 6);
  CHECK(matrix.cols() == 4);
  CHECK(matrix.data() == tensor.data());
  CHECK(matrix(1 * 3 + 2, 3) == tensor(1, 2, 3));

  Matrix<float> copy = matrix;
  const Eigen::TensorMap<Tensor3<float>> back = as_tensor3(copy, 2, 3);
  CHECK(back.data() == copy.data());
  CHECK(back(1, 2, 3) == tensor(1, 2, 3));

  const Tensor3<float>& constant = tensor;
  CHECK(as_matrix(constant).data() == tensor.data());
  CHECK(as_matrix(as_tensor3(as_matrix(tensor), 3, 2)).data() == tensor.data());
  const Matrix<float>& constant_matrix = copy;
  CHECK(as_matrix(as_tensor3(constant_matrix, 1, 6)).data() == copy.data());
  CHECK(as_tensor3(as_matrix(constant), 2, 3).data() == tensor.data());
}

TEST_CASE("as_tensor3 refuses a batch that does not divide the rows", "[types]") {
  Matrix<float> matrix(6, 4);
  for (const std::pair<Index, Index>& split :
       std::vector<std::pair<Index, Index>>{{2, 2}, {4, 2}, {0, 6}, {6, 0}, {-2, -3}, {Index{1} << 62, 4}}) {
    const auto error =
        test::error_of<ShapeError>([&] { (void)as_tensor3(matrix, split.first, split.second); });
    CHECK(error.found() == "6 rows");
  }
  Matrix<float> empty(0, 4);
  CHECK(as_tensor3(empty, 0, 7).dimension(1) == 7);
  CHECK(as_tensor3(empty, 7, 0).dimension(0) == 7);
}

TEST_CASE("views of temporaries do not compile, temporary views do", "[types]") {
  STATIC_REQUIRE((CanView<Tensor3<float>&> && CanView<const Tensor3<float>&>));
  STATIC_REQUIRE_FALSE((CanView<Tensor3<float>> || CanView<const Tensor3<float>>));
  STATIC_REQUIRE((CanSplit<Matrix<float>&> && CanSplit<const Matrix<float>&>));
  STATIC_REQUIRE_FALSE((CanSplit<Matrix<float>> || CanSplit<const Matrix<float>>));
  STATIC_REQUIRE((CanView<Eigen::TensorMap<Tensor3<float>>> && CanSplit<Eigen::Map<Matrix<float>>>));
}

TEST_CASE("devices have threads and a parallelFor", "[types]") {
  STATIC_REQUIRE((Device<Eigen::DefaultDevice> && Device<test::SlicingDevice>));
  STATIC_REQUIRE_FALSE((Device<int> || Device<std::vector<int>>));
}

TEST_CASE("the version's constants are its macros", "[types]") {
  CHECK(version_major == GPT2_EMBEDDINGS_VERSION_MAJOR);
  CHECK(version_minor == GPT2_EMBEDDINGS_VERSION_MINOR);
  CHECK(version_patch == GPT2_EMBEDDINGS_VERSION_PATCH);
}
