// SPDX-License-Identifier: MIT
//
// The input as a safetensors file: opened in both modes, every tensor read, a position table and quantised tables
// loaded from it, and written again. An input that begins with a brace is a header, and the bytes after the first
// byte 0xFF is data: their length need not be guessed. Every other input is a file as it is.

#include "gpt2/safetensors.hpp"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz.hpp"
#include "gpt2/pretrained.hpp"
#include "gpt2/quantized_checkpoint.hpp"
#include "temporary_folder.hpp"

using namespace gpt2;
using fuzz::check;

namespace {

std::string file_of(std::string_view input) {
  if (!input.starts_with('{')) return std::string(input);
  const std::size_t end = std::min(input.find('\xFF'), input.size());
  return test::safetensors_file(input.substr(0, end), input.substr(std::min(end + 1, input.size())));
}

/// The result of an action, or nothing and the error's message.
template <class Action>
auto outcome(const Action& action, std::string& error) -> std::optional<decltype(action())> {
  try {
    return action();
  } catch (const CheckpointError& caught) {
    error = caught.what();
    check(error.find('\n') == error.npos && error.size() < 4000, "a message is one short line");
    return std::nullopt;
  }
}

bool same_bytes(const TensorView& a, const TensorView& b) {
  return a.dtype == b.dtype && a.shape == b.shape &&
         std::equal(a.bytes.begin(), a.bytes.end(), b.bytes.begin(), b.bytes.end());
}

void check_tensors(const SafeTensors& file, std::size_t file_size) {
  const std::vector<std::string> names = file.names();
  check(names.size() == file.size() && std::is_sorted(names.begin(), names.end()), "names are sorted");
  std::size_t total = 0;
  for (const std::string& name : names) {
    const TensorView tensor = file[name];
    std::uint64_t bits_of_tensor = bits(tensor.dtype);
    for (const std::uint64_t extent : tensor.shape) bits_of_tensor *= extent;
    check(tensor.bytes.size() * 8 == bits_of_tensor, "a tensor has the size of its shape");
    total += tensor.bytes.size();
  }
  check(total < file_size, "the tensors do not overlap");
}

/// Whether wpe.weight is there, and nothing that decides with it which tensor is the position table.
bool has_one_table(const std::vector<std::string>& names) {
  std::size_t tables = 0;
  bool has_wpe = false;
  for (const std::string& name : names) {
    for (const char* const table : {"wte.weight", "wpe.weight", "lm_head.weight"})
      tables += name.ends_with(table);
    has_wpe = has_wpe || name == "wpe.weight";
  }
  return has_wpe && tables == 1;
}

/// Element i of a floating-point tensor.
double element(const TensorView& tensor, Index i) {
  const auto read = [&]<class S>(S number) {
    std::memcpy(&number, tensor.bytes.data() + static_cast<std::size_t>(i) * sizeof(S), sizeof(S));
    return static_cast<double>(number);
  };
  switch (tensor.dtype) {
    case DType::F64:
      return read(double{});
    case DType::F32:
      return read(float{});
    case DType::F16:
      return read(Eigen::half{});
    default:
      return read(Eigen::bfloat16{});
  }
}

/// Loads wpe as a table of T, in both modes, and compares it with the elements converted one by one.
template <class T>
void check_position_table(const std::filesystem::path& folder, const TensorView& tensor) {
  const bool is_floating = tensor.dtype == DType::F64 || tensor.dtype == DType::F32 ||
                           tensor.dtype == DType::F16 || tensor.dtype == DType::BF16;
  for (const LoadMode mode : {LoadMode::mapped, LoadMode::copied}) {
    std::string error;
    const auto loaded =
        outcome([&] { return from_pretrained<GPT2PositionEmbeddings<T>>(folder, mode); }, error);
    check(loaded.has_value() == is_floating, "a table is loaded if it is one of floating-point numbers");
    if (!loaded) continue;
    const auto weight = loaded->wpe.weight();
    for (Index i = 0; i < weight.size(); ++i) {
      check(fuzz::same(weight.data()[i], static_cast<T>(element(tensor, i))), "an element is converted");
    }
  }
}

}  // namespace

FUZZ_TARGET(safetensors) {
  static const test::TemporaryFolder folder;
  const std::string bytes = file_of(fuzz::text_of(data, size));
  const std::filesystem::path path = folder / "model.safetensors";
  test::write_file(path, bytes);

  std::string mapped_error;
  std::string copied_error;
  const auto mapped = outcome([&] { return SafeTensors::open(path); }, mapped_error);
  const auto copied = outcome([&] { return SafeTensors::open(path, LoadMode::copied); }, copied_error);
  check(mapped_error == copied_error, "both modes refuse the same");
  if (!mapped) return 0;

  check_tensors(*mapped, bytes.size());
  std::vector<NamedTensor> tensors;
  for (const std::string& name : mapped->names()) {
    const TensorView tensor = (*mapped)[name];
    check(same_bytes(tensor, (*copied)[name]), "both modes read the same");
    tensors.push_back({name, tensor});
    if (name.ends_with(".weight")) {
      std::string ignored;
      const std::string table = name.substr(0, name.size() - 7);
      const auto quantized = outcome([&] { return load_quantized(path, table); }, ignored);
      check(!quantized || quantized->dequantize().size() == static_cast<Index>(tensor.bytes.size()),
            "a quantised table has the size of its tensor");
    }
  }

  const std::filesystem::path again = folder / "again.safetensors";
  save_safetensors(again, tensors, mapped->metadata());
  const SafeTensors written = SafeTensors::open(again);
  check(written.names() == mapped->names(), "the written file has the same names");
  for (const auto& [name, tensor] : tensors) check(same_bytes(written[name], tensor), "and the same tensors");
  std::map<std::string, std::string> metadata = mapped->metadata();
  metadata.try_emplace("format", "pt");
  check(written.metadata() == metadata, "and the same metadata");

  if (has_one_table(mapped->names())) {
    const TensorView tensor = (*mapped)["wpe.weight"];
    if (tensor.shape.size() == 2 && !tensor.bytes.empty()) {
      test::write_file(folder / "config.json", R"({"n_positions":)" + std::to_string(tensor.shape[0]) +
                                                   R"(,"n_embd":)" + std::to_string(tensor.shape[1]) + "}");
      check_position_table<float>(folder.path(), tensor);
      check_position_table<double>(folder.path(), tensor);
    }
  }
  return 0;
}
