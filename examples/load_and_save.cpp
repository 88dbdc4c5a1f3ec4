// SPDX-License-Identifier: MIT
//
// Checkpoints in and out: mapped or copied, in another type, one table alone; changed, and saved for transformers.

#include <cstring>
#include <filesystem>
#include <gpt2/checkpoint.hpp>
#include <gpt2/config.hpp>
#include <gpt2/pretrained.hpp>
#include <iostream>
#include <random>
#include <string>

namespace {

using Embeddings = gpt2::GPT2Embeddings<float>;

bool same_bits(const Embeddings& a, const Embeddings& b) {
  const auto same = [](const gpt2::Embedding<float>& left, const gpt2::Embedding<float>& right) {
    const auto size = static_cast<std::size_t>(left.weight().size());
    return left.weight().size() == right.weight().size() &&
           std::memcmp(left.weight().data(), right.weight().data(), sizeof(float) * size) == 0;
  };
  return same(a.wte, b.wte) && same(a.wpe, b.wpe);
}

}  // namespace

int main(int argc, char** argv) {
  const std::filesystem::path folder = argc > 1 ? argv[1] : "tests/reference/checkpoints/gpt2-tiny";

  // The file is mapped: its bytes are the table's, and memory is taken when rows are looked up.
  const auto checkpoint = gpt2::Checkpoint::open(folder);
  const gpt2::GPT2Config& config = checkpoint.config();
  const auto mapped = gpt2::from_pretrained<Embeddings>(checkpoint);
  std::cout << "wte [" << config.vocab_size << ", " << config.n_embd << "], wpe [" << config.n_positions
            << ", " << config.n_embd << "]\n";

  // Read into memory: the file may change afterwards.
  const auto copied = gpt2::from_pretrained<Embeddings>(folder, gpt2::LoadMode::copied);
  std::cout << "mapped and copied: " << (same_bits(mapped, copied) ? "equal" : "DIFFERENT") << "\n";

  // In another type than the file's, rounded once; and the positions alone.
  const auto halves = gpt2::from_pretrained<gpt2::GPT2Embeddings<Eigen::bfloat16>>(folder);
  const auto positions = gpt2::from_pretrained<gpt2::GPT2PositionEmbeddings<double>>(folder);
  std::cout << "an element in float, bfloat16, double: " << mapped.wpe.weight()(1, 2) << ", "
            << halves.wpe.weight()(1, 2) << ", " << positions.wpe.weight()(1, 2) << "\n";

  // A change is made in memory of the table's own, never in the file.
  Embeddings changed = mapped;
  changed.wte.mutable_weight().row(0).setZero();
  const auto saved = std::filesystem::temp_directory_path() /
                     ("gpt2-load_and_save-" + std::to_string(std::random_device{}()));
  gpt2::save_pretrained(saved, config, changed);  // transformers' GPT2Model.from_pretrained reads it
  {
    const auto loaded = gpt2::from_pretrained<Embeddings>(saved);
    std::cout << "saved and loaded: " << (same_bits(loaded, changed) ? "equal" : "DIFFERENT")
              << ", the original is " << (same_bits(mapped, copied) ? "as it was" : "CHANGED") << "\n";
    // A mapped file may be replaced: the mapping keeps the old one.
    gpt2::save_pretrained(saved, config, mapped);
    std::cout << "replaced while mapped: " << (same_bits(loaded, changed) ? "still the old one" : "DIFFERENT")
              << "\n";
  }

  // A config that does not fit is refused before anything is written.
  try {
    gpt2::GPT2Config other = config;
    other.n_positions += 1;
    gpt2::save_pretrained(saved, other, mapped);
  } catch (const gpt2::ShapeError& error) {
    std::cout << error.what() << "\n";
  }
  std::filesystem::remove_all(saved);
  try {
    static_cast<void>(gpt2::from_pretrained<Embeddings>("no-such-folder"));
  } catch (const gpt2::CheckpointError& error) {
    std::cout << error.kind() << ": " << std::filesystem::path(error.path()).filename().string() << "\n";
  }
}
