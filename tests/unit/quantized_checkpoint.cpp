// SPDX-License-Identifier: MIT
#include "gpt2/quantized_checkpoint.hpp"

#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "support.hpp"
#include "temporary_folder.hpp"

namespace quantized_checkpoint_tests {

using namespace gpt2;

TEST_CASE("quantised tables are saved and loaded bit for bit", "[quantized_checkpoint]") {
  const test::TemporaryFolder folder;
  const QuantizedEmbedding wte(Embedding<float>(test::drawn<float>(9, 5, 1, 0.02)));
  const QuantizedEmbedding wpe(Embedding<float>(test::drawn<float>(4, 5, 2, 0.02)));
  const auto check = [](const QuantizedEmbedding& found, const QuantizedEmbedding& expected) {
    CHECK(found.values() == expected.values());
    CHECK(found.scales() == expected.scales());
    CHECK(found.offsets() == expected.offsets());
  };
  save_quantized(folder / "wte.safetensors", "wte", wte);
  check(load_quantized(folder / "wte.safetensors", "wte"), wte);

  std::vector<NamedTensor> tensors;
  for (auto& tensor : named_tensors("transformer.wte", wte)) tensors.push_back(std::move(tensor));
  for (auto& tensor : named_tensors("transformer.wpe", wpe)) tensors.push_back(std::move(tensor));
  save_safetensors(folder / "both.safetensors", tensors);
  check(load_quantized(folder / "both.safetensors", "transformer.wte"), wte);
  check(load_quantized(folder / "both.safetensors", "transformer.wpe"), wpe);
  const SafeTensors file = SafeTensors::open(folder / "both.safetensors");
  CHECK(file["transformer.wte.weight"].dtype == DType::I8);
  CHECK(file["transformer.wte.weight"].shape == std::vector<std::uint64_t>{9, 5});
  CHECK(file["transformer.wte.scale"].dtype == DType::F32);
  CHECK(file["transformer.wte.offset"].shape == std::vector<std::uint64_t>{9});

  const QuantizedEmbedding empty(Embedding<float>(0, 5));
  save_quantized(folder / "empty.safetensors", "wte", empty);
  check(load_quantized(folder / "empty.safetensors", "wte"), empty);
}

TEST_CASE("files without a quantised table are refused", "[quantized_checkpoint]") {
  const test::TemporaryFolder folder;
  const QuantizedEmbedding wte(Embedding<float>(test::drawn<float>(9, 5, 1, 0.02)));
  const auto path = folder / "wte.safetensors";
  const auto check = [&](const char* tensor, const char* kind) {
    const auto error = test::error_of<CheckpointError>([&] { (void)load_quantized(path, "wte"); });
    CHECK(error.path() == path.string());
    CHECK(error.tensor() == tensor);
    CHECK(error.kind() == kind);
  };
  check("", "IoError");
  save_quantized(path, "wpe", wte);
  check("wte.weight", "TensorNotFound");

  auto tensors = named_tensors("wte", wte);
  const auto save = [&] { save_safetensors(path, tensors); };
  SECTION("of another type") {
    tensors[0].tensor.dtype = DType::U8;
    save();
    check("wte.weight", "UnexpectedDType");
  }
  SECTION("of another rank") {
    tensors[0].tensor.shape = {45};
    save();
    check("wte.weight", "UnexpectedShape");
  }
  SECTION("with no rows of more columns than there are numbers for") {
    tensors[0].tensor.shape = {0, std::uint64_t{1} << 63U};
    tensors[0].tensor.bytes = {};
    save();
    check("wte.weight", "UnexpectedShape");
  }
  SECTION("without an offset") {
    tensors[2].name = "wte.offsets";
    save();
    check("wte.offset", "TensorNotFound");
  }
  SECTION("with a scale too few") {
    tensors[1].tensor.shape = {8};
    tensors[1].tensor.bytes = tensors[1].tensor.bytes.first(32);
    save();
    check("wte.scale", "UnexpectedShape");
  }
  SECTION("with an invalid scale") {
    const std::vector<float> scales{1, 1, 1, std::numeric_limits<float>::quiet_NaN(), 1, 1, 1, 1, 1};
    tensors[1].tensor.bytes = std::as_bytes(std::span(scales));
    save();
    check("wte", "UnexpectedValue");
    CHECK(test::contains(test::error_of<CheckpointError>([&] { (void)load_quantized(path, "wte"); }).what(),
                         "scales[3]"));
  }
}

}  // namespace quantized_checkpoint_tests
