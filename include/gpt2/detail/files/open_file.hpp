// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The calls for files that the library needs of an operating system: the one place where platforms differ. posix.hpp
/// and windows.hpp define them.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "gpt2/version.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// A path as UTF-8, for messages.
[[nodiscard]] inline std::string path_text(const std::filesystem::path& path) {
  const std::u8string text = path.u8string();
  return {text.begin(), text.end()};
}

/// The path that a UTF-8 text names.
[[nodiscard]] inline std::filesystem::path path_of(std::string_view utf8) {
  return {std::u8string(utf8.begin(), utf8.end())};
}

/// An open file, which is closed by the destructor. Functions set `error` if they fail, and clear it otherwise.
class OpenFile {
 public:
#if defined(_WIN32)
  using Handle = void*;
#else
  using Handle = int;
#endif

  enum class Type { regular, folder, other };

  struct FileStatus {
    Type type = Type::other;
    std::uint64_t size = 0;  ///< in bytes
  };

  OpenFile() = default;
  explicit OpenFile(Handle handle) noexcept : handle_(handle) {}
  OpenFile(OpenFile&& other) noexcept : handle_(std::exchange(other.handle_, none())) {}
  OpenFile& operator=(OpenFile&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~OpenFile() {
    std::error_code ignored;
    close(ignored);
  }

  /// Opens for reading. Others may rename, replace and delete the file meanwhile; a FIFO does not block.
  [[nodiscard]] static OpenFile to_read(const std::filesystem::path& path, std::error_code& error) noexcept;

  /// Creates a file for writing, which must not exist. It gets the permissions of `model` if that is a file, and
  /// otherwise those of any new file.
  [[nodiscard]] static OpenFile create(const std::filesystem::path& path, const std::filesystem::path& model,
                                       std::error_code& error) noexcept;

  [[nodiscard]] FileStatus status(std::error_code& error) const noexcept;

  /// Reads up to out.size() bytes from `offset` on; the system may read fewer, and reads 0 at the file's end.
  [[nodiscard]] std::size_t read(std::uint64_t offset, std::span<std::byte> out,
                                 std::error_code& error) const noexcept;

  /// Writes up to bytes.size() bytes, at least one unless it fails.
  [[nodiscard]] std::size_t write(std::span<const std::byte> bytes, std::error_code& error) noexcept;

  /// Waits until everything is on the disk.
  void synchronise(std::error_code& error) noexcept;

  void close(std::error_code& error) noexcept;

  /// The offset of a mapping is a multiple of this.
  [[nodiscard]] static std::uint64_t map_granularity() noexcept;

  /// Part of the file as memory, read-only and private. Null without an error if this file cannot be mapped,
  /// only read.
  /// Lifetime: the memory outlives this object.
  [[nodiscard]] std::shared_ptr<const std::byte> map(std::uint64_t offset, std::size_t size,
                                                     std::error_code& error) const;

 private:
  [[nodiscard]] static Handle none() noexcept;

  Handle handle_ = none();
};

/// Renames a file and replaces the one that has the new name. Programs that have that one open or mapped keep it.
void rename_over(const std::filesystem::path& from, const std::filesystem::path& to,
                 std::error_code& error) noexcept;

/// Makes sure that new names in a folder survive a power failure, as far as the system can. Never fails: the
/// files are complete either way.
void synchronise_folder(const std::filesystem::path& folder) noexcept;

}  // namespace gpt2::detail
