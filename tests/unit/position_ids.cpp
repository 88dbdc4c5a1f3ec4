// SPDX-License-Identifier: MIT
#include "gpt2/position_ids.hpp"

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "support.hpp"

namespace position_ids_tests {

using namespace gpt2;

namespace {

template <class I>
std::vector<I> values(const Eigen::Matrix<I, Eigen::Dynamic, 1>& vector) {
  return {vector.begin(), vector.end()};
}

template <class M>
concept CanBeMask = requires(const M& mask) {
  position_ids_from_attention_mask(mask);
};
template <class M>
concept CanBeCounted = requires(const M& ids) {
  position_ids_like(ids);
};

constexpr std::int64_t lowest = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t highest = std::numeric_limits<std::int64_t>::max();

}  // namespace

TEST_CASE("arange counts from 0, from a start, and in steps", "[position_ids]") {
  CHECK(values(arange(4)) == std::vector<std::int64_t>{0, 1, 2, 3});
  CHECK(values(arange(2, 5)) == std::vector<std::int64_t>{2, 3, 4});
  CHECK(values(arange(1, 8, 3)) == std::vector<std::int64_t>{1, 4, 7});
  CHECK(values(arange(1, 7, 3)) == std::vector<std::int64_t>{1, 4});
  CHECK(values(arange(5, 0, -2)) == std::vector<std::int64_t>{5, 3, 1});
  CHECK(arange(0).size() == 0);
  CHECK(arange(3, 3).size() == 0);
  CHECK(arange(3, 3, -1).size() == 0);
}

TEST_CASE("arange is of int64 unless told otherwise", "[position_ids]") {
  STATIC_REQUIRE(std::is_same_v<decltype(arange(8)), IdVector<std::int64_t>>);
  STATIC_REQUIRE(std::is_same_v<decltype(arange<std::uint8_t>(8)), IdVector<std::uint8_t>>);
  STATIC_REQUIRE(std::is_same_v<decltype(arange<float>(8)), Eigen::VectorXf>);
}

TEST_CASE("arange counts without overflow at the ends of its type", "[position_ids]") {
  CHECK(values(arange(lowest, highest, std::int64_t{1} << 62)) ==
        std::vector<std::int64_t>{lowest, lowest / 2, 0, -(lowest / 2)});
  CHECK(values(arange(highest, lowest, lowest)) == std::vector<std::int64_t>{highest, -1});
  CHECK(values(arange(highest - 2, highest)) == std::vector<std::int64_t>{highest - 2, highest - 1});
  CHECK(arange<std::int8_t>(127).size() == 127);
  CHECK(values(arange<std::int8_t>(-128, 127, 100)) == std::vector<std::int8_t>{-128, -28, 72});
  CHECK(values(arange<std::uint64_t>(std::numeric_limits<std::uint64_t>::max() - 1,
                                     std::numeric_limits<std::uint64_t>::max())) ==
        std::vector<std::uint64_t>{std::numeric_limits<std::uint64_t>::max() - 1});
}

TEST_CASE("arange of more values than memory can hold is out of memory", "[position_ids]") {
  CHECK_THROWS_AS(arange(lowest, highest), std::bad_alloc);
  CHECK_THROWS_AS(arange<double>(0, 1e300), std::bad_alloc);
}

TEST_CASE("floating arange has ceil((end - start) / step) values", "[position_ids]") {
  CHECK(values(arange<float>(2.5F)) == std::vector<float>{0, 1, 2});
  CHECK(values(arange<double>(1.0, 2.0, 0.25)) == std::vector<double>{1.0, 1.25, 1.5, 1.75});
  CHECK(values(arange<double>(1.0, 0.0, -0.5)) == std::vector<double>{1.0, 0.5});
  CHECK(arange<float>(0, 1, 0.1F).size() == 10);
}

TEST_CASE("arange refuses a step that does not lead to the end", "[position_ids]") {
  CHECK(test::error_of<ArgumentError>([] { (void)arange(0, 4, 0); }).name() == "step");
  CHECK(test::error_of<ArgumentError>([] { (void)arange(0, 4, -1); }).value() == -1);
  CHECK(test::error_of<ArgumentError>([] { (void)arange(4, 0, 1); }).name() == "step");
  CHECK(test::error_of<ArgumentError>([] { (void)arange(-1); }).name() == "step");
  CHECK(test::error_of<ArgumentError>([] { (void)arange<float>(0, 1, -0.5F); }).value() == -0.5);
  CHECK(test::error_of<ArgumentError>([] { (void)arange<float>(0, 1, 0); }).name() == "step");
}

TEST_CASE("arange refuses numbers that are not finite", "[position_ids]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(test::error_of<ArgumentError>([&] { (void)arange<double>(nan, 1, 1); }).name() == "start");
  CHECK(test::error_of<ArgumentError>([&] { (void)arange<double>(infinity); }).name() == "end");
  CHECK(test::error_of<ArgumentError>([&] { (void)arange<double>(0, 1, nan); }).name() == "step");
}

TEST_CASE("position_ids_like keeps scalar and rank", "[position_ids]") {
  const IdMatrix<std::int32_t> batch = IdMatrix<std::int32_t>::Constant(2, 3, 7);
  const IdMatrix<std::int32_t> positions = position_ids_like(batch);
  CHECK(positions == (IdMatrix<std::int32_t>(2, 3) << 0, 1, 2, 0, 1, 2).finished());
  const IdVector<std::uint8_t> row = position_ids_like(std::vector<std::uint8_t>{9, 9}, 253);
  CHECK(values(row) == std::vector<std::uint8_t>{253, 254});
  STATIC_REQUIRE(std::is_same_v<decltype(position_ids_like({1, 2})), IdVector<int>>);
  CHECK(values(position_ids_like({5L, 6L, 7L}, 2)) == std::vector<long>{2, 3, 4});
  CHECK(position_ids_like(batch.row(0)).size() == 3);
  STATIC_REQUIRE(ids_rank<decltype(position_ids_like(batch.row(0)))> == 1);
  CHECK(position_ids_like(Eigen::MatrixXi::Zero(2, 3)) == positions);
}

TEST_CASE("position_ids_like of nothing is nothing, at any past length", "[position_ids]") {
  CHECK(position_ids_like(std::vector<std::int8_t>{}, 1000).size() == 0);
  const auto none = position_ids_like(IdMatrix<int>(3, 0));
  CHECK(none.rows() == 3);
  CHECK(none.cols() == 0);
  CHECK(position_ids_like(IdMatrix<int>(0, 3)).cols() == 3);
}

TEST_CASE("position_ids_like refuses a negative past and positions that do not fit", "[position_ids]") {
  const auto negative = test::error_of<ArgumentError>([] { (void)position_ids_like({1}, -1); });
  CHECK(negative.name() == "past_length");
  CHECK(negative.value() == -1);
  const std::vector<std::int8_t> ids(128);
  CHECK(position_ids_like(ids)[127] == 127);
  const auto error = test::error_of<IndexError>([&] { (void)position_ids_like(ids, 1); });
  CHECK(error.name() == "position_ids");
  CHECK(error.value() == 128);
  CHECK(error.bound() == 128);
  CHECK(test::contains(error.what(), "past_length 1"));
  if constexpr (sizeof(Index) == sizeof(highest)) {
    CHECK(position_ids_like(std::vector<std::int64_t>{0}, highest)[0] == highest);
    CHECK_THROWS_AS(position_ids_like(std::vector<std::int64_t>{0, 0}, highest), IndexError);
    CHECK(position_ids_like(std::vector<std::uint64_t>{0, 0}, highest)[1] == std::uint64_t{1} << 63U);
  } else {
    CHECK_THROWS_AS(position_ids_like(std::vector<std::int64_t>{0}, highest), ArgumentError);
  }
}

TEST_CASE("an attention mask gives real tokens the positions 0, 1, …", "[position_ids]") {
  IdMatrix<int> mask(4, 4);
  mask << 0, 0, 1, 1,  // left padding
      1, 1, 0, 0,      // right padding
      1, 0, 1, 1,      // inner padding
      0, 0, 0, 0;
  IdMatrix<std::int64_t> expected(4, 4);
  expected << 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0;
  CHECK(position_ids_from_attention_mask(mask) == expected);
  CHECK(position_ids_from_attention_mask(mask.cast<bool>()) == expected);
  CHECK(position_ids_from_attention_mask(mask.cast<std::uint8_t>().eval()) == expected);
  CHECK(position_ids_from_attention_mask(Eigen::MatrixXi(mask)) == expected);
  CHECK(position_ids_from_attention_mask(
            Eigen::Array<bool, Eigen::Dynamic, Eigen::Dynamic>(mask.array().cast<bool>())) == expected);

  IdMatrix<std::int64_t> with_ones(4, 4);
  with_ones << 1, 1, 0, 1, 0, 1, 1, 1, 0, 1, 1, 2, 1, 1, 1, 1;
  CHECK(position_ids_from_attention_mask(mask, 1) == with_ones);
}

TEST_CASE("a mask of one sequence gives positions of rank 1", "[position_ids]") {
  const IdVector<std::int64_t> positions =
      position_ids_from_attention_mask(std::array<bool, 3>{false, true, true});
  CHECK(values(positions) == std::vector<std::int64_t>{0, 0, 1});
  CHECK(values(position_ids_from_attention_mask(std::vector<char>{1, 1})) == std::vector<std::int64_t>{0, 1});
}

TEST_CASE("an empty mask gives no positions", "[position_ids]") {
  CHECK(position_ids_from_attention_mask(IdMatrix<int>(0, 5)).cols() == 5);
  CHECK(position_ids_from_attention_mask(IdMatrix<int>(5, 0)).rows() == 5);
}

TEST_CASE("mask values other than 0 and 1 are refused", "[position_ids]") {
  IdMatrix<int> mask = IdMatrix<int>::Ones(2, 3);
  for (const int value : {2, -1, 256, std::numeric_limits<int>::min()}) {
    mask(1, 2) = value;
    const auto error = test::error_of<ArgumentError>([&] { (void)position_ids_from_attention_mask(mask); });
    CHECK(error.name() == "attention_mask");
    CHECK(test::contains(error.what(), "attention_mask[1, 2] = "));
    CHECK(error.value() == value);
  }
  CHECK(test::error_of<ArgumentError>([&] {
          (void)position_ids_from_attention_mask(std::vector<int>{1}, -1);
        }).name() == "masked_position");
  STATIC_REQUIRE_FALSE((CanBeMask<Eigen::MatrixXf> || CanBeMask<std::vector<double>>));
}

TEST_CASE("packed documents each start at 0", "[position_ids]") {
  CHECK(values(packed_position_ids({3, 0, 2})) == std::vector<std::int64_t>{0, 1, 2, 0, 1});
  CHECK(values(packed_position_ids(std::vector<std::uint8_t>{1, 2})) == std::vector<std::int64_t>{0, 0, 1});
  CHECK(packed_position_ids(std::vector<int>{}).size() == 0);
  const auto error = test::error_of<ArgumentError>([] { (void)packed_position_ids({1, -2}); });
  CHECK(error.name() == "lengths");
  CHECK(test::contains(error.what(), "lengths[1] = "));
  CHECK(error.value() == -2);
  CHECK(test::error_of<ArgumentError>([] {
          (void)packed_position_ids({highest, highest});
        }).name() == "lengths");
  CHECK(test::error_of<ArgumentError>([] {
          (void)packed_position_ids({std::int64_t{1}, highest / 8});
        }).name() == "lengths");
}

TEST_CASE("positions restart after an EOS, which belongs to the document it ends", "[position_ids]") {
  constexpr int eos = 50256;
  const std::vector<int> ids{5, 6, eos, 7, 8, eos, 1};
  CHECK(values(position_ids_reset_after(ids, eos)) == std::vector<std::int64_t>{0, 1, 2, 0, 1, 2, 0});
  CHECK(values(position_ids_reset_after({eos, eos, 3}, eos)) == std::vector<std::int64_t>{0, 0, 0});
  IdMatrix<std::int16_t> batch(2, 3);
  batch << 1, 2, 3, 2, 2, 1;
  IdMatrix<std::int64_t> expected(2, 3);
  expected << 0, 1, 0, 0, 0, 0;
  CHECK(position_ids_reset_after(batch, 2) == expected);
}

TEST_CASE("the EOS is compared by value, whatever the types", "[position_ids]") {
  CHECK(values(position_ids_reset_after(std::vector<std::uint8_t>{0, 0, 0}, 256)) ==
        std::vector<std::int64_t>{0, 1, 2});
  CHECK(values(position_ids_reset_after(std::vector<std::uint64_t>{~std::uint64_t{0}, 1}, -1)) ==
        std::vector<std::int64_t>{0, 1});
  CHECK(values(position_ids_reset_after(std::vector<std::int8_t>{-1, 1}, -1)) ==
        std::vector<std::int64_t>{0, 0});
}

TEST_CASE("floating-point and bool ids have no positions", "[position_ids]") {
  STATIC_REQUIRE((CanBeCounted<std::vector<int>> && CanBeCounted<Eigen::MatrixXi>));
  STATIC_REQUIRE_FALSE((CanBeCounted<std::vector<float>> || CanBeCounted<Eigen::MatrixXf>));
  STATIC_REQUIRE_FALSE((CanBeCounted<std::array<bool, 2>> || CanBeCounted<std::vector<bool>>));
}

TEST_CASE("arange counts between numbers whose distance no double holds", "[position_ids]") {
  const auto up = arange<double>(-1.7e308, 1.7e308, 1e308);
  REQUIRE(up.size() == 4);
  CHECK(up[0] == -1.7e308);
  CHECK(up[1] == -1.7e308 + 1e308);
  CHECK(up[3] == Approx(1.3e308));
  const auto down = arange<double>(1.7e308, -1.7e308, -1.7e308);
  REQUIRE(down.size() == 2);
  CHECK(down[1] == 0);
  const auto floats = arange<float>(-0x1.8p127F, 0x1.8p127F, 0x1p127F);
  REQUIRE(floats.size() == 3);
  CHECK(floats[2] == 0x1p126F);
  const auto bytes = arange<std::int8_t>(-128, 127, 100);
  REQUIRE(bytes.size() == 3);
  CHECK(bytes[2] == 72);
  const auto wide = arange<std::int64_t>(std::numeric_limits<std::int64_t>::min(),
                                         std::numeric_limits<std::int64_t>::max(), std::int64_t{1} << 62);
  REQUIRE(wide.size() == 4);
  CHECK(wide[3] == std::int64_t{1} << 62);
}

TEST_CASE("a past length is of any integral type, checked and never narrowed", "[position_ids]") {
  CHECK(PastLength{std::vector<int>(3).size()}.value == 3);
  CHECK(PastLength{std::uint8_t{200}}.value == 200);
  CHECK(PastLength{}.value == 0);
  const auto error =
      test::error_of<ArgumentError>([] { (void)PastLength{std::numeric_limits<std::uint64_t>::max()}; });
  CHECK(error.name() == "past_length");
  CHECK(test::contains(error.what(), "18446744073709551615"));
  CHECK(position_ids_like(std::vector<int>(2), std::size_t{5})[1] == 6);
}

}  // namespace position_ids_tests
