// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Writing a file whole or not at all.

#include <cstddef>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "gpt2/detail/files/file_system.hpp"
#include "gpt2/error.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// Writes `parts`, one after the other, to a temporary file beside `path`, and renames it to `path` once it is on
/// the disk. Programs that have the old file open or mapped keep it. The new one has the old one's permission
/// bits; if there was no old one, those of any new file.
/// Throws: CheckpointError (IoError). Then the old file is as it was, and the temporary one is removed.
inline void replace_file(const std::filesystem::path& path,
                         std::span<const std::span<const std::byte>> parts);

// Implementation.

/// A file that is removed again unless it is renamed.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::filesystem::path& target) : target_(target) {
    std::random_device random;
    // Short, and not made from the target's name, which may be as long as names can be.
    path_ = target.parent_path() /
            (".gpt2-" + std::to_string(random()) + "-" + std::to_string(random()) + ".tmp");
    std::error_code error;
    file_ = OpenFile::create(path_, target, error);
    if (error) fail("cannot be created", error);
    created_ = true;
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    if (!created_) return;
    std::error_code ignored;
    file_.close(ignored);
    std::filesystem::remove(path_, ignored);
  }

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  void write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
      std::error_code error;
      const std::size_t count = file_.write(bytes, error);
      if (error) fail("cannot be written", error);
      bytes = bytes.subspan(count);
    }
  }

  void rename_to_target() {
    std::error_code error;
    file_.synchronise(error);
    if (!error) file_.close(error);
    if (error) fail("cannot be written", error);
    rename_over(path_, target_, error);
    if (error) fail("cannot be replaced", error);
    created_ = false;
  }

 private:
  [[noreturn]] void fail(std::string_view problem, const std::error_code& error) const {
    throw CheckpointError(path_text(target_), "", kinds::io_error,
                          std::string(problem) + ": " + error.message());
  }

  std::filesystem::path target_;
  std::filesystem::path path_;
  OpenFile file_;
  bool created_ = false;
};

inline void replace_file(const std::filesystem::path& path,
                         std::span<const std::span<const std::byte>> parts) {
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  TemporaryFile file(path);
  for (const std::span<const std::byte> part : parts) file.write(part);
  file.rename_to_target();  // Nothing may throw after it.
  synchronise_folder(folder);
}

}  // namespace gpt2::detail
