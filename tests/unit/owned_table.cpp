// SPDX-License-Identifier: MIT
//
// Owned tables begin at cache lines, request huge pages from 2 MiB on, and are copied like any value.

#include <cstddef>
#include <cstdint>
#include <fstream>
#include <limits>
#include <new>
#include <optional>
#include <sstream>
#include <string>
#include <utility>

#include "counted_memory.hpp"
#include "gpt2/embedding.hpp"
#include "gpt2/quantized_embedding.hpp"
#include "gpt2/resize.hpp"
#include "support.hpp"

namespace owned_table_tests {

using namespace gpt2;

namespace {

/// Whether huge pages were requested for the memory at an address, or nullopt if the system does not say.
std::optional<bool> asked(const void* address) {
  if (!std::ifstream("/sys/kernel/mm/transparent_hugepage/enabled")) return std::nullopt;
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  std::ifstream maps("/proc/self/smaps");
  bool found = false;
  for (std::string line; std::getline(maps, line);) {
    std::uintptr_t begin = 0;
    std::uintptr_t end = 0;
    char dash = 0;
    if (std::istringstream(line) >> std::hex >> begin >> dash >> end && dash == '-') {
      found = begin <= at && at < end;
    } else if (found && line.starts_with("VmFlags:")) {
      return (line + ' ').find(" hg ") != std::string::npos;
    }
  }
  return std::nullopt;
}

template <class Map>
bool asked_for(const Map& table) {
  // In its middle: beside it there may be other memory.
  return asked(table.data() + table.size() / 2).value_or(true);
}

}  // namespace

TEST_CASE("owned tables of 2 MiB and more ask for huge pages: fresh, copied, resized, quantised, gradients",
          "[owned_table]") {
  const Embedding<float> fresh(16384, 64);  // 4 MiB
  CHECK(asked_for(fresh.weight()));
  Embedding<float> copy = fresh;  // NOLINT(performance-unnecessary-copy-initialization): what is tested
  CHECK(copy.weight() == fresh.weight());
  CHECK(asked_for(copy.weight()));
  CHECK(asked_for(copy.mutable_grad()));
  CHECK(copy.grad().isZero());
  const Embedding<float> with_grad = copy;
  CHECK(asked_for(with_grad.grad()));

  const Embedding<float> resized = resize_token_embeddings(fresh, 16385, {.mean_resizing = false});
  CHECK(resized.weight().topRows(16384) == fresh.weight());
  CHECK(asked_for(resized.weight()));

  const Embedding<float> larger = resize_positions(fresh, 65536, PositionGrowth::zero);
  const QuantizedEmbedding quantized(larger);
  CHECK(asked_for(quantized.values()));
  const QuantizedEmbedding quantized_copy = quantized;
  CHECK(quantized_copy.values() == quantized.values());
  CHECK(asked_for(quantized_copy.values()));
  CHECK(asked_for(quantized.dequantize()));

  auto borrowing = Embedding<float>::view(fresh.weight(), nullptr);
  CHECK(borrowing.mutable_weight() == fresh.weight());
  CHECK(asked_for(borrowing.weight()));
}

TEST_CASE("what the library allocates for a table begins at a cache line; a matrix that is given stays",
          "[owned_table]") {
  const auto at_line = [](const auto& table) {
    return reinterpret_cast<std::uintptr_t>(table.data()) % 64 == 0;
  };
  for (const Index rows : {1, 2, 3, 1000}) {
    INFO(rows << " rows");
    const Embedding<float> fresh(rows, 5);
    const Embedding<Eigen::bfloat16> halves(rows, 5);
    Embedding<double> doubles(rows, 5);
    CHECK(at_line(fresh.weight()));
    CHECK(at_line(halves.weight()));
    CHECK(at_line(doubles.weight()));
    CHECK(at_line(doubles.mutable_grad()));
    const Embedding<double> copy = doubles;
    CHECK(at_line(copy.weight()));
    CHECK(copy.weight() == doubles.weight());
    CHECK(at_line(copy.grad()));
    const Embedding<float> resized = resize_positions(fresh, 2 * rows, PositionGrowth::repeat_last);
    CHECK(at_line(resized.weight()));
    const QuantizedEmbedding quantized(fresh);
    CHECK(at_line(quantized.values()));
    auto borrowing = Embedding<float>::view(fresh.weight(), nullptr);
    CHECK(at_line(borrowing.mutable_weight()));
  }
  Matrix<float> matrix = Matrix<float>::Ones(3, 5);
  const float* const memory = matrix.data();
  const Embedding<float> given(std::move(matrix));
  CHECK(given.weight().data() == memory);
}

TEST_CASE("a moved-from table is empty, and may be assigned to", "[owned_table]") {
  Embedding<float> table(3, 5);
  table.mutable_grad().setOnes();
  const Embedding<float> same = table;
  Embedding<float> moved = std::move(table);
  CHECK(moved.weight() == same.weight());
  CHECK(moved.grad() == same.grad());
  table = moved;  // NOLINT(bugprone-use-after-move): what is tested
  CHECK(table.weight() == same.weight());
  moved = Embedding<float>(0, 7);
  CHECK(moved.num_embeddings() == 0);
  CHECK(moved.embedding_dim() == 7);
  moved = std::move(table);
  CHECK(moved.weight() == same.weight());
  CHECK(moved.grad() == same.grad());
}

TEST_CASE("a request for huge pages changes no element, whatever memory it is for", "[owned_table]") {
  detail::ask_for_huge_pages(nullptr, 0);
  Matrix<char> memory = Matrix<char>::Constant(3, Index{1} << 20, 'x');
  for (const std::size_t before : {std::size_t{0}, std::size_t{1}, std::size_t{64}, std::size_t{4096}}) {
    detail::ask_for_huge_pages(memory.data() + before, static_cast<std::size_t>(memory.size()) - before);
  }
  CHECK((memory.array() == 'x').all());
}

TEST_CASE("an owned table without memory for it is refused, an empty one takes none", "[owned_table]") {
  constexpr Index most = (std::numeric_limits<Index>::max)();
  CHECK_THROWS_AS(detail::OwnedTable<std::int8_t>::uninitialised(1, most), std::bad_alloc);
  CHECK_THROWS_AS(detail::OwnedTable<float>::uninitialised(2, most), std::bad_alloc);
  for (const auto& [rows, cols] : {std::pair<Index, Index>{0, most}, {most, 0}, {0, 0}}) {
    const auto table = detail::OwnedTable<float>::uninitialised(rows, cols);
    CHECK(table.rows() == rows);
    CHECK(table.cols() == cols);
    CHECK(table.size() == 0);
  }
  CHECK(Embedding<float>({}).num_embeddings() == 0);
  CHECK(QuantizedEmbedding({}, {}, {}).num_embeddings() == 0);
}

TEST_CASE("if memory runs out while a table is assigned, it is as it was", "[owned_table]") {
  Embedding<float> larger(7, 4);
  larger.mutable_grad().setConstant(2);
  Embedding<float> original(3, 4);
  original.mutable_grad().setConstant(1);
  const QuantizedEmbedding larger_bytes(larger);
  const QuantizedEmbedding original_bytes(original);
  Embedding<float> table = original;
  QuantizedEmbedding bytes = original_bytes;
  const auto fails = [](std::size_t block, const auto& assign) {
    bool failed = false;
    test::memory.failing_block = block;
    try {
      assign();
    } catch (const std::bad_alloc&) {
      failed = true;
    }
    test::memory.failing_block = 0;
    return failed;
  };
  for (std::size_t block = 1; test::counting && block <= 2; ++block) {
    INFO("allocation " << block);
    CHECK(fails(block, [&] { table = larger; }));
    CHECK(table.weight() == original.weight());
    CHECK(table.grad() == original.grad());
  }
  for (std::size_t block = 1; test::counting && block <= 3; ++block) {
    INFO("allocation " << block);
    CHECK(fails(block, [&] { bytes = larger_bytes; }));
    CHECK(bytes.values() == original_bytes.values());
    CHECK(bytes.scales() == original_bytes.scales());
    CHECK(bytes.offsets() == original_bytes.offsets());
  }
  table = larger;
  CHECK(table.weight() == larger.weight());
  CHECK(table.grad() == larger.grad());
  bytes = larger_bytes;
  CHECK(bytes.values() == larger_bytes.values());
  CHECK(bytes.scales() == larger_bytes.scales());
  const Embedding<float>& itself = table;
  table = itself;
  CHECK(table.weight() == larger.weight());
}

}  // namespace owned_table_tests
