// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Files that are often found in place of a checkpoint's, and advice about each.

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>

#include "gpt2/version.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// The number of bytes of a file that foreign_file_text() needs.
inline constexpr std::size_t foreign_file_bytes = 64;

/// The kind of a file that cannot be read, by its first bytes, and advice: the end of the sentence "path …". Empty
/// if the kind is unknown.
[[nodiscard]] constexpr std::string_view foreign_file_text(std::string_view begin) noexcept {
  begin = begin.substr(0, (std::min)(begin.size(), foreign_file_bytes));
  if (begin.starts_with("version https://git-lfs")) {
    return "is a git-lfs pointer, not the file itself: run \"git lfs pull\" in the repository, or download "
           "the file";
  }
  if (begin.starts_with("GGUF")) {
    return "is a GGUF file, for llama.cpp: take the safetensors checkpoint that it was made from";
  }
  if (begin.starts_with("PK\x03\x04") || begin.starts_with("PK\x05\x06")) {
    return "is a zip archive: if torch.save wrote it, load it with PyTorch and save it with "
           "safetensors.torch.save_model or save_pretrained; otherwise unpack it";
  }
  if (begin.starts_with('\x80')) {
    return "is a pickle, as torch.save wrote it: load it with PyTorch and save it with "
           "safetensors.torch.save_model or save_pretrained";
  }
  const std::size_t first = begin.find_first_not_of(" \t\r\n");
  if (first != begin.npos && begin[first] == '<') {
    return "is an HTML or XML page, as servers send in place of a file: download the file again, and log in "
           "if its "
           "repository asks for that";
  }
  return {};
}

/// Names of files with weights that this library does not read.
inline constexpr std::array<std::string_view, 4> foreign_weights{
    "pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack"};

}  // namespace gpt2::detail
