// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Writing a file whole or not at all.

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "gpt2/error.hpp"

#if __has_include(<unistd.h>)
#include <fcntl.h>
#include <unistd.h>
#endif

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// Writes `parts`, one behind the other, to a temporary file beside `path`, and renames it to `path` once
/// it is on the disk. Whoever has the old file open or mapped keeps the old one.
/// Throws: CheckpointError (IoError). The old file is as it was then, and the temporary gone.
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
    stream_.reset(std::fopen(path_.string().c_str(), "wbx"));  // x: fails if there is such a file already
    if (!stream_) fail("cannot be created");
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    if (renamed_) return;
    stream_.reset();
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }

  void write(std::span<const std::byte> bytes) {
    if (bytes.empty()) return;  // its data may be null
    if (std::fwrite(bytes.data(), 1, bytes.size(), stream_.get()) != bytes.size()) fail("cannot be written");
  }

  void rename_to_target() {
    if (std::fflush(stream_.get()) != 0) fail("cannot be written");
#if __has_include(<unistd.h>)
    // Some file systems have nothing to synchronise, and say so.
    if (::fsync(::fileno(stream_.get())) != 0 && errno != EINVAL && errno != ENOTSUP) {
      fail("cannot be written");
    }
#endif
    if (std::fclose(stream_.release()) != 0) fail("cannot be written");
    std::error_code error;
    std::filesystem::rename(path_, target_, error);
    if (error) fail("cannot be replaced", error);
    renamed_ = true;
  }

 private:
  struct Close {
    void operator()(std::FILE* file) const noexcept { std::fclose(file); }
  };

  [[noreturn]] void fail(std::string_view problem,
                         std::error_code code = std::error_code(errno, std::generic_category())) const {
    throw CheckpointError(target_.string(), "", "IoError", std::string(problem) + ": " + code.message());
  }

  std::filesystem::path target_;
  std::filesystem::path path_;
  std::unique_ptr<std::FILE, Close> stream_;
  bool renamed_ = false;
};

inline void replace_file(const std::filesystem::path& path,
                         std::span<const std::span<const std::byte>> parts) {
  [[maybe_unused]] const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : ".";
  TemporaryFile file(path);
  for (const std::span<const std::byte> part : parts) file.write(part);
  file.rename_to_target();  // Behind it nothing may throw.
#if __has_include(<unistd.h>)
  // So that the new name survives a power failure, too. The file is complete either way, so this may fail.
  if (const int descriptor = ::open(folder.c_str(), O_RDONLY | O_CLOEXEC); descriptor >= 0) {
    static_cast<void>(::fsync(descriptor));
    ::close(descriptor);
  }
#endif
}

}  // namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail
