// SPDX-License-Identifier: MIT
//
// What it costs to open a checkpoint and embed 1,024 tokens, mapped and copied, beside reading the file whole.
//
//   open_checkpoint FOLDER

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <gpt2/gpt2.hpp>
#include <string>
#include <vector>

namespace {

/// Resident memory in bytes: the process's own, and pages of mapped files, which it shares with the system's
/// cache. Zero where /proc is not to be had.
struct Resident {
  double own = 0;
  double file = 0;
};

Resident resident() {
  Resident now;
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    double kib = 0;
    if (std::sscanf(line.c_str(), "RssAnon: %lf", &kib) == 1) now.own = kib * 1024;
    if (std::sscanf(line.c_str(), "RssFile: %lf", &kib) == 1) now.file = kib * 1024;
  }
  return now;
}

/// Runs an action `rounds` times, and prints its median time and how much resident memory it holds at its end.
template <class Action>
double report(const char* name, int rounds, Action&& action) {
  std::vector<double> seconds;
  Resident grown;
  for (int round = 0; round < rounds; ++round) {
    const Resident before = resident();
    const auto start = std::chrono::steady_clock::now();
    const auto held = action();
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    const Resident after = resident();
    grown.own = std::max(grown.own, after.own - before.own);
    grown.file = std::max(grown.file, after.file - before.file);
    (void)held;
  }
  std::nth_element(seconds.begin(), seconds.begin() + rounds / 2, seconds.end());
  const double median = seconds[static_cast<std::size_t>(rounds) / 2];
  std::printf("%-34s %9.3f ms   memory +%6.1f MB of its own, +%6.1f MB of mapped file\n", name, median * 1e3,
              grown.own / 1e6, grown.file / 1e6);
  return median;
}

void run(const std::filesystem::path& folder) {
  const auto config = gpt2::from_pretrained<gpt2::GPT2Config>(folder);
  const auto file = folder / "model.safetensors";
  std::printf("%s, %.0f MB\n", file.filename().c_str(),
              static_cast<double>(std::filesystem::file_size(file)) / 1e6);

  // Tokens from everywhere in the table, at all positions.
  gpt2::IdVector<std::int64_t> ids(config.n_positions);
  for (gpt2::Index i = 0; i < ids.size(); ++i) ids[i] = i * 7919 % config.vocab_size;

  const auto open_and_embed = [&](gpt2::LoadMode mode) {
    auto embeddings = gpt2::from_pretrained<gpt2::GPT2Embeddings<float>>(folder, mode);
    auto hidden = embeddings(ids);
    return std::pair(std::move(embeddings), std::move(hidden));
  };
  constexpr int rounds = 9;
  const double mapped = report("open mapped, embed n_positions", rounds,
                               [&] { return open_and_embed(gpt2::LoadMode::mapped); });
  report("open copied, embed n_positions", rounds, [&] { return open_and_embed(gpt2::LoadMode::copied); });
  const double read = report("read the file into memory", rounds, [&] {
    std::vector<char> bytes(std::filesystem::file_size(file));
    std::ifstream(file, std::ios::binary).read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return bytes;
  });
  std::printf("mapped is %.0f times faster than reading the file\n", read / mapped);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 2) throw std::invalid_argument("usage: open_checkpoint FOLDER");
    run(argv[1]);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "open_checkpoint: %s\n", error.what());
    return 1;
  }
}
