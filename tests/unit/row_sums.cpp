// SPDX-License-Identifier: MIT
//
// The kernels against plain loops: every width of a row, type, address and policy. CMake builds this again as other
// processors run it.

#include "gpt2/detail/kernels/row_sums.hpp"

#include <array>
#include <bit>
#include <cstdint>

#include "gpt2/embeddings.hpp"
#include "support.hpp"

namespace row_sums_tests {

using namespace gpt2;

namespace {

constexpr std::array<Index, 9> widths{0, 1, 7, 16, 17, 65, 127, 768, 1600};
constexpr std::array policies{StorePolicy::automatic, StorePolicy::regular, StorePolicy::streaming};

/// Calls body(out) with blocks of a larger matrix, at every offset from a cache line, and checks that nothing
/// around them is written.
template <class To, class Body>
void with_framed_blocks(Index rows, Index cols, const Body& body) {
  for (Index offset = 0; offset < 5; ++offset) {
    Matrix<To> frame = Matrix<To>::Constant(rows + 2, cols + offset + 3, To(-77));
    body(frame.block(1, offset, rows, cols));
    frame.block(1, offset, rows, cols).setConstant(To(-77));
    CHECK((frame.array() == To(-77)).all());
  }
}

template <class T, class To>
void check_sums(Index batch, Index seq_length) {
  using A = Accumulator<T>;
  for (const Index width : widths) {
    const GPT2Embeddings<T> embeddings(Embedding<T>(test::drawn<T>(30, width, 1)),
                                       Embedding<T>(test::drawn<T>(30, width, 2)));
    const IdMatrix<std::int64_t> ids = test::random_ids(batch, seq_length, 30);
    const IdMatrix<std::int64_t> types = test::random_ids(batch, seq_length, 30, 2);
    Matrix<To> rows(batch * seq_length, width);
    Matrix<To> sums(batch * seq_length, width);
    Matrix<To> typed(batch * seq_length, width);
    for (Index i = 0; i < rows.rows(); ++i) {
      const Index token = ids.data()[i];
      for (Index j = 0; j < width; ++j) {
        const T word = embeddings.wte.weight()(token, j);
        const A sum = static_cast<A>(word) + static_cast<A>(embeddings.wpe.weight()(i % seq_length, j));
        rows(i, j) = static_cast<To>(static_cast<A>(word));
        sums(i, j) = static_cast<To>(sum);
        typed(i, j) = static_cast<To>(sum + static_cast<A>(embeddings.wte.weight()(types.data()[i], j)));
      }
    }
    const Eigen::DefaultDevice device;
    for (const StorePolicy policy : policies) {
      INFO(batch << " x " << seq_length << " x " << width << ", policy " << static_cast<int>(policy));
      const OnDevice on{device, policy};
      with_framed_blocks<To>(rows.rows(), width, [&](auto out) {
        embeddings.wte.forward_into(ids, out, on);
        CHECK(test::same_bits(out, rows));
        embeddings.forward_into(ids, PastLength{0}, out, on);
        CHECK(test::same_bits(out, sums));
        embeddings.forward_into(ids, PastLength{0}, out, types, on);
        CHECK(test::same_bits(out, typed));
      });
    }
  }
}

}  // namespace

TEMPLATE_TEST_CASE("rows and their sums are what plain loops write", "[row_sums]", float, double, Eigen::half,
                   Eigen::bfloat16) {
  check_sums<TestType, TestType>(3, 5);  // groups that neither batch nor sequence divides
  check_sums<TestType, Accumulator<TestType>>(1, 9);
  check_sums<TestType, TestType>(1, 1);  // a row alone
  check_sums<TestType, Accumulator<TestType>>(1, 1);
}

TEST_CASE("half and bfloat16 are widened to double", "[row_sums]") {
  check_sums<Eigen::half, double>(2, 3);
  check_sums<Eigen::bfloat16, double>(2, 3);
  check_sums<float, double>(2, 3);
}

TEST_CASE("large results, which are streamed, are the same bits", "[row_sums]") {
  const GPT2Embeddings<float> embeddings(Embedding<float>(test::drawn<float>(100, 65, 1)),
                                         Embedding<float>(test::drawn<float>(512, 65, 2)));
  const auto ids = test::random_ids(66, 512, 100);
  Tensor3<float> automatic(66, 512, 65);
  REQUIRE(automatic.size() * Index{sizeof(float)} > detail::fewest_bytes_to_stream);
  embeddings.forward_into(ids, PastLength{0}, automatic);
  Tensor3<float> regular(66, 512, 65);
  embeddings.forward_into(ids, PastLength{0}, regular, OnDevice{test::SlicingDevice{}, StorePolicy::regular});
  CHECK(test::same_bits(automatic, regular));
}

TEST_CASE("a policy says what is streamed, and without one the size does", "[row_sums]") {
  const Eigen::DefaultDevice device;
  constexpr Index large = detail::fewest_bytes_to_stream;
  CHECK(detail::is_streamed(device, large));
  CHECK_FALSE(detail::is_streamed(device, large - 1));
  CHECK(detail::is_streamed(OnDevice{device, StorePolicy::streaming}, 0));
  CHECK_FALSE(detail::is_streamed(OnDevice{device, StorePolicy::regular}, large));
}

TEST_CASE("lookups keep the bits of every NaN", "[row_sums]") {
  Matrix<float> weight(1, 21);
  for (Index j = 0; j < 21; ++j)
    weight(j) = std::bit_cast<float>(0x7F800001U + static_cast<std::uint32_t>(j));
  const Embedding<float> table(weight);
  CHECK(test::same_bits(table({0}), weight));
}

TEMPLATE_TEST_CASE("gradients of every width are what plain loops add", "[row_sums]", float, double,
                   Eigen::half, Eigen::bfloat16) {
  using T = TestType;
  using A = Accumulator<T>;
  for (const Index width : widths) {
    for (const Index n : {Index{1}, Index{7}, Index{8}, Index{100}}) {
      INFO(n << " x " << width);
      const auto ids = test::random_ids(1, n, 9);  // which repeats ids within groups
      const Matrix<T> grad_output = test::drawn<T>(n, width);
      Embedding<T> table(9, width);
      table.mutable_grad().setConstant(A{3});
      Matrix<A> expected = Matrix<A>::Constant(9, width, A{3});
      for (Index i = 0; i < n; ++i) {
        for (Index j = 0; j < width; ++j) expected(ids(i), j) += static_cast<A>(grad_output(i, j));
      }
      table.backward(ids, grad_output);
      CHECK(test::same_bits(table.grad(), expected));
    }
  }
}

}  // namespace row_sums_tests
