// SPDX-License-Identifier: MIT
//
// The input as a model.safetensors.index.json, beside two shards of a small checkpoint; in the folder above lies
// another file, which no index may lead to. Either the tables are those of the shards, or there is a
// CheckpointError.

#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz.hpp"
#include "gpt2/pretrained.hpp"
#include "temporary_folder.hpp"

using namespace gpt2;
using fuzz::check;

namespace {

/// A file with both tables, all of whose elements are the same.
void write_tables(const std::filesystem::path& path, float element, const std::string& prefix = "") {
  const std::vector<float> elements(6, element);
  const auto tensor = [&](std::uint64_t rows) {
    return TensorView{DType::F32, {rows, 2}, std::as_bytes(std::span(elements).first(2 * rows))};
  };
  save_safetensors(path, std::array{NamedTensor{prefix + "wte.weight", tensor(3)},
                                    NamedTensor{prefix + "wpe.weight", tensor(2)}});
}

struct Files {
  test::TemporaryFolder above;
  std::filesystem::path folder = above / "checkpoint";

  Files() {
    std::filesystem::create_directories(folder / "sub");
    test::write_file(folder / "config.json", R"({"vocab_size":3,"n_positions":2,"n_embd":2})");
    write_tables(folder / "1.safetensors", 1);
    write_tables(folder / "sub" / "2.safetensors", 2, "transformer.");
    write_tables(above / "outside.safetensors", 3);
  }
};

/// The index's entry for a tensor, empty if there is none.
std::string shard_of(const nlohmann::json& index, const char* table) {
  std::string shard;
  for (const char* const prefix : {"", "transformer."}) {
    const auto& weight_map = index.at("weight_map");
    const auto found = weight_map.find(std::string(prefix) + table);
    if (found != weight_map.end()) shard = found->get<std::string>();
  }
  return shard;
}

}  // namespace

FUZZ_TARGET(shard_index) {
  static const Files files;
  const std::string_view text = fuzz::text_of(data, size);
  test::write_file(files.folder / "model.safetensors.index.json", text);
  try {
    const auto embeddings = from_pretrained<GPT2Embeddings<float>>(files.folder);
    const auto index = nlohmann::json::parse(text.begin(), text.end());
    const auto is_from = [&](const Embedding<float>& table, const char* name) {
      const std::string shard = shard_of(index, name);
      return table.weight().isApproxToConstant(shard == "1.safetensors" ? 1.0F : 2.0F);
    };
    check(is_from(embeddings.wte, "wte.weight"), "wte comes from the shard that the index names");
    check(is_from(embeddings.wpe, "wpe.weight"), "wpe comes from the shard that the index names");
  } catch (const CheckpointError& error) {
    const std::string message = error.what();
    check(message.find('\n') == message.npos && message.size() < 4000, "a message is one short line");
  }
  return 0;
}
