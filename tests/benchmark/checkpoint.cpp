// SPDX-License-Identifier: MIT
//
// From a checkpoint of GPT-2's size to 1,024 embedded tokens, beside reading the file.

#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <gpt2/pretrained.hpp>
#include <memory>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "groups.hpp"
#include "inputs.hpp"

namespace {

using gpt2::Embedding;
using gpt2::GPT2Embeddings;

/// A folder that exists as long as this object.
class Checkpoint {
 public:
  Checkpoint()
      : folder_(std::filesystem::temp_directory_path() /
                ("gpt2-benchmark-" + std::to_string(std::random_device()()))) {
    gpt2::GPT2Config config;
    const Buffer<float>& wte = token_table(config.n_embd);
    const Buffer<float>& wpe = position_table(config.n_embd);
    gpt2::save_pretrained(folder_, config,
                          GPT2Embeddings<float>(Embedding<float>::view(wte.table(), nullptr),
                                                Embedding<float>::view(wpe.table(), nullptr)));
    // The same with the rest of a model, of which only the size matters.
    std::vector<gpt2::NamedTensor> tensors{tensor("wte.weight", wte, vocab_size),
                                           tensor("wpe.weight", wpe, n_positions)};
    for (int layer = 0; layer < 12; ++layer) {
      tensors.push_back(tensor("h." + std::to_string(layer) + ".weight", wte, 10595));
    }
    gpt2::save_safetensors(file(), tensors);
  }
  Checkpoint(const Checkpoint&) = delete;
  Checkpoint& operator=(const Checkpoint&) = delete;
  ~Checkpoint() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }

  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  [[nodiscard]] std::filesystem::path file() const { return folder_ / "model.safetensors"; }

 private:
  static gpt2::NamedTensor tensor(std::string name, const Buffer<float>& table, Index rows) {
    const auto cols = static_cast<std::uint64_t>(table.table().cols());
    const auto bytes = std::as_bytes(std::span(table.data(), static_cast<std::size_t>(rows) * cols));
    return {std::move(name), {gpt2::DType::F32, {static_cast<std::uint64_t>(rows), cols}, bytes}};
  }

  std::filesystem::path folder_;
};

void read(const std::filesystem::path& path) {
  const auto size = std::filesystem::file_size(path);
  const auto bytes = std::make_unique_for_overwrite<char[]>(size);
  std::ifstream file(path, std::ios::binary);
  if (!file.read(bytes.get(), static_cast<std::streamsize>(size)))
    throw std::runtime_error("cannot read " + path.string());
}

std::vector<Contestant> contestants() {
  const auto checkpoint = std::make_shared<const Checkpoint>();
  const auto ids = std::make_shared<const std::vector<std::int64_t>>(draw_ids(n_positions, Draw::uniform, 6));
  const auto open_and_embed = [checkpoint, ids](gpt2::LoadMode mode) {
    const auto embeddings = gpt2::from_pretrained<GPT2Embeddings<float>>(checkpoint->folder(), mode);
    (void)embeddings(*ids);
  };
  return {{"ours", [open_and_embed] { open_and_embed(gpt2::LoadMode::mapped); }},
          {"ours, copied", [open_and_embed] { open_and_embed(gpt2::LoadMode::copied); }},
          {"limit", [checkpoint] { read(checkpoint->file()); }}};
}

}  // namespace

std::vector<Group> checkpoint_groups() {
  Group group{"checkpoint/1x1024/768/uniform/1", contestants};
  // One read of the file is enough to replace the contents of the caches; more would only take minutes.
  group.untimed = 1;
  return {group};
}
