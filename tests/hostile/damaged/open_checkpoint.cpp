// SPDX-License-Identifier: MIT

// Opens one checkpoint the way a user would and prints the outcome: "ok" and status 0, or the kind of the error
// and status 2, with the whole message on the next line. Every byte that was promised is touched, so that one that is
// not there is noticed.

#include <cstdint>
#include <exception>
#include <iostream>
#include <string>
#include <string_view>

#include "gpt2/embeddings.hpp"
#include "gpt2/error.hpp"
#include "gpt2/pretrained.hpp"
#include "gpt2/safetensors.hpp"

namespace {

unsigned sum_of_file(const std::string& path, gpt2::LoadMode mode) {
  const gpt2::SafeTensors file = gpt2::SafeTensors::open(path, mode);
  unsigned sum = 0;
  for (const std::string& name : file.names()) {
    for (const std::byte byte : file[name].bytes) sum += static_cast<unsigned>(byte);
  }
  return sum;
}

unsigned sum_of_folder(const std::string& path, gpt2::LoadMode mode) {
  const auto embeddings = gpt2::from_pretrained<gpt2::GPT2Embeddings<float>>(path, mode);
  return static_cast<unsigned>(embeddings.wte.weight().sum() + embeddings.wpe.weight().sum());
}

unsigned sum_of(std::string_view what, const std::string& path, gpt2::LoadMode mode) {
  if (what == "file") return sum_of_file(path, mode);
  if (what == "folder") return sum_of_folder(path, mode);
  return static_cast<unsigned>(gpt2::from_pretrained<gpt2::GPT2Config>(path).vocab_size);
}

/// The kind and the message of the error, or "ok".
std::string outcome(std::string_view what, const std::string& path, gpt2::LoadMode mode, unsigned& sum) {
  try {
    sum = sum_of(what, path, mode);
    return "ok";
  } catch (const gpt2::CheckpointError& error) {
    return error.kind() + "\n" + error.what();
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc == 3 ? argv[1] : "";
  if (what != "file" && what != "folder" && what != "config") {
    std::cerr << "usage: open_checkpoint file|folder|config PATH\n";
    return 64;
  }
  try {
    unsigned mapped_sum = 0;
    unsigned copied_sum = 0;
    const std::string mapped = outcome(what, argv[2], gpt2::LoadMode::mapped, mapped_sum);
    const std::string copied = outcome(what, argv[2], gpt2::LoadMode::copied, copied_sum);
    std::cout << mapped << "\n";
    if (mapped != copied || mapped_sum != copied_sum) {
      std::cout << "but copied: " << copied << "\n";
      return 3;
    }
    return mapped == "ok" ? 0 : 2;
  } catch (const std::exception& error) {
    std::cout << "unexpected: " << error.what() << "\n";
    return 3;
  }
}
