// SPDX-License-Identifier: MIT
//
// In the place of libFuzzer: every target on each of the inputs that are kept for it. One file, because it takes longer
// to read the headers than to compile the targets.

#define FUZZ_REPLAY
#include "config.cpp"
#include "encode.cpp"
#include "lookups.cpp"
#include "position_ids.cpp"
#include "quantized.cpp"
#include "safetensors.cpp"
#include "shard_index.cpp"
#include "vocabulary.cpp"

// For the targets above and the code below.
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "catch.hpp"

TEST_CASE("every target returns for each of its inputs", "[fuzz]") {
  const std::filesystem::path corpus = GPT2_FUZZ_CORPUS;
  const std::pair<const char*, int (*)(const std::uint8_t*, std::size_t)> targets[] = {
      {"config", config},           {"encode", encode},
      {"lookups", lookups},         {"position_ids", position_ids},
      {"quantized", quantized},     {"safetensors", safetensors},
      {"shard_index", shard_index}, {"vocabulary", vocabulary}};
  for (const auto& [name, target] : targets) {
    std::vector<std::filesystem::path> inputs;
    for (const auto& entry : std::filesystem::directory_iterator(corpus / name))
      inputs.push_back(entry.path());
    std::sort(inputs.begin(), inputs.end());
    REQUIRE_FALSE(inputs.empty());
    for (const std::filesystem::path& path : inputs) {
      std::cout << name << "/" << path.filename().string() << std::endl;  // seen even if it ends the program
      const std::string input = test::read_file(path);
      // A copy that ends where the input does, so that a sanitizer notices reads after it.
      const std::vector<std::uint8_t> bytes(input.begin(), input.end());
      CHECK(target(bytes.data(), bytes.size()) == 0);
    }
  }
}
