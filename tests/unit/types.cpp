// SPDX-License-Identifier: MIT
#include "gpt2/types.hpp"

#include <utility>
#include <vector>

#include "gpt2/version.hpp"
#include "support.hpp"

namespace types_tests {

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

TEST_CASE("the version's constants are its macros", "[types]") {
  CHECK(version_major == GPT2_EMBEDDINGS_VERSION_MAJOR);
  CHECK(version_minor == GPT2_EMBEDDINGS_VERSION_MINOR);
  CHECK(version_patch == GPT2_EMBEDDINGS_VERSION_PATCH);
}

}  // namespace types_tests
