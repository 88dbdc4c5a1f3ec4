// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Finding the files of a checkpoint by the path that a user gives.

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "gpt2/detail/files/foreign_file.hpp"
#include "gpt2/detail/files/read_only_file.hpp"
#include "gpt2/detail/files/shard_index.hpp"
#include "gpt2/detail/files/strict_json.hpp"
#include "gpt2/error.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// A symbolic link that leads nowhere exists as well: it is an error, not a reason to look elsewhere.
[[nodiscard]] inline bool is_there(const std::filesystem::path& path) {
  std::error_code error;
  return std::filesystem::symlink_status(path, error).type() != std::filesystem::file_type::not_found;
}

[[nodiscard]] inline bool is_folder(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(path, ignored);
}

/// The snapshot that an entry of the Hugging Face cache (models--org--name) holds for its branch main.
/// Throws: CheckpointError (IoError), which names the existing snapshots.
[[nodiscard]] inline std::filesystem::path main_snapshot(const std::filesystem::path& entry) {
  constexpr std::uint64_t longest = 1024;
  const std::filesystem::path reference = entry / "refs" / "main";
  const auto fail = [&](const std::string& problem) {
    std::string found;
    std::error_code error;
    for (std::filesystem::directory_iterator file(entry / "snapshots", error), end; !error && file != end;
         file.increment(error)) {
      if (found.size() < 400)
        found += (found.empty() ? "" : ", ") + printable(path_text(file->path().filename()));
    }
    throw CheckpointError(path_text(entry), "", kinds::io_error,
                          "is an entry of the Hugging Face cache " + problem +
                              ": give the path to one of its snapshots (" +
                              (found.empty() ? "it has none" : found) + ")");
  };
  if (!is_there(reference)) fail("without refs/main");
  const ReadOnlyFile file(reference);
  std::string name = file.read_text(0, (std::min)(file.size(), longest));
  while (!name.empty() && (name.back() == '\n' || name.back() == '\r' || name.back() == ' ')) name.pop_back();
  if (!shard_name_fault(name).empty() || name.find('/') != name.npos ||
      find_invalid_utf8(name) != name.npos) {
    fail("whose refs/main is no name of a snapshot");
  }
  std::filesystem::path snapshot = entry / "snapshots" / path_of(name);
  if (!is_folder(snapshot)) fail("whose refs/main names " + printable(name) + ", which is not there");
  return snapshot;
}

/// The files of a checkpoint.
struct ModelFolder {
  static constexpr const char* config_name = "config.json";
  static constexpr const char* model_name = "model.safetensors";
  static constexpr const char* index_name = "model.safetensors.index.json";

  std::filesystem::path folder;
  std::filesystem::path model;  ///< the file with the tensors, or the index of their shards
  bool is_sharded = false;      ///< model is an index

  [[nodiscard]] std::filesystem::path config() const { return folder / config_name; }

  /// A file with weights in another format; empty if there is none.
  [[nodiscard]] std::string_view foreign() const {
    // NOLINTNEXTLINE(readability-qualified-auto): an iterator, which is a pointer in some libraries
    const auto found = std::find_if(foreign_weights.begin(), foreign_weights.end(),
                                    [&](std::string_view name) { return is_there(folder / name); });
    return found == foreign_weights.end() ? std::string_view() : *found;
  }

  /// Throws: CheckpointError (IoError), with the probable reason.
  [[noreturn]] void fail_without_model() const {
    std::string problem = "has neither " + std::string(model_name) + " nor " + index_name;
    if (const std::string_view other = foreign(); !other.empty()) {
      problem +=
          ", but " + std::string(other) +
          ", which is not read: load the folder with transformers (GPT2LMHeadModel.from_pretrained) and "
          "save it with save_pretrained";
    }
    throw CheckpointError(path_text(folder), "", kinds::io_error, problem);
  }
};

/// Finds the files of a checkpoint by the path to a folder, to a file with tensors or an index in one, or to an entry
/// of the Hugging Face cache. They need not exist.
/// Throws: CheckpointError (IoError) for an entry of the cache without a snapshot for main.
[[nodiscard]] inline ModelFolder find_model(const std::filesystem::path& path) {
  ModelFolder found;
  // A path that does not exist is taken for a folder, unless its name is that of a file.
  const bool is_file = is_there(path) ? !is_folder(path) : path.extension() == ".safetensors";
  if (is_file) {
    found.folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
    if (path.filename() != ModelFolder::config_name) {
      found.model = path;
      found.is_sharded = path_text(path.filename()).ends_with(".index.json");
      return found;
    }
  } else {
    found.folder = path;
    const bool has_files = is_there(found.config()) || is_there(path / ModelFolder::model_name) ||
                           is_there(path / ModelFolder::index_name);
    if (!has_files && is_folder(path / "snapshots")) found.folder = main_snapshot(path);
  }
  if (is_there(found.folder / ModelFolder::model_name)) {
    found.model = found.folder / ModelFolder::model_name;
  } else if (is_there(found.folder / ModelFolder::index_name)) {
    found.model = found.folder / ModelFolder::index_name;
    found.is_sharded = true;
  }
  return found;
}

}  // namespace gpt2::detail
