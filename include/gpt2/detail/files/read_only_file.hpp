// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Reading files that may be anything: a folder, a FIFO, or shorter than they were a moment ago.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "gpt2/detail/files/file_system.hpp"
#include "gpt2/error.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// A regular file, open for reading. Its functions may be called from several threads at once.
class ReadOnlyFile {
 public:
  /// Follows symbolic links, as the Hugging Face cache is made of them.
  /// Throws: CheckpointError (IoError) if it cannot be opened or is not a regular file. A FIFO does not block.
  explicit ReadOnlyFile(const std::filesystem::path& path);

  /// As UTF-8.
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// Closes the file. Nothing can be read from it afterwards.
  void close() noexcept {
    std::error_code ignored;  // nothing was written
    file_.close(ignored);
  }

  /// In bytes, when it was opened.
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

  /// Fills `out` from the byte at `offset` on.
  /// Throws: CheckpointError (IoError), also if the file ends before `out` is full.
  void read(std::uint64_t offset, std::span<std::byte> out) const;

  /// `size` bytes from `offset` on, as text.
  /// Throws: as read().
  [[nodiscard]] std::string read_text(std::uint64_t offset, std::uint64_t size) const;

  /// `size` bytes from `offset` on, in memory of their own that is aligned for every scalar.
  /// Throws: as read().
  [[nodiscard]] std::shared_ptr<const std::byte> read_copy(std::uint64_t offset, std::uint64_t size) const;

  /// `size` bytes from `offset` on, as memory that is read-only and private: the pages that hold them are mapped,
  /// or the bytes are read if the file system cannot map.
  /// Throws: as read(), and IoError if the address space has no room.
  /// Lifetime: the memory outlives this object. Changes that others make to the file in place show through, and
  /// touching memory after its end when it was truncated raises SIGBUS.
  [[nodiscard]] std::shared_ptr<const std::byte> map(std::uint64_t offset, std::uint64_t size) const;

 private:
  [[noreturn]] void fail(const std::string& problem) const {
    throw CheckpointError(path_, "", kinds::io_error, problem);
  }
  [[noreturn]] void fail(std::string_view problem, const std::error_code& error) const {
    fail(std::string(problem) + ": " + error.message());
  }
  /// Throws: CheckpointError if `size` bytes are more than one allocation can have.
  [[nodiscard]] std::size_t memory_size(std::uint64_t size) const {
    if (size > static_cast<std::uint64_t>((std::numeric_limits<std::ptrdiff_t>::max)())) {
      fail("is larger than the address space");
    }
    return static_cast<std::size_t>(size);
  }

  std::string path_;
  OpenFile file_;
  std::uint64_t size_ = 0;
};

// Implementation.

inline ReadOnlyFile::ReadOnlyFile(const std::filesystem::path& path) : path_(path_text(path)) {
  std::error_code error;
  file_ = OpenFile::to_read(path, error);
  if (error == std::errc::is_a_directory) fail("is a folder, not a file");
  if (error) fail("cannot be opened", error);
  // The status is the open file's, not the path's, which might name another file by now.
  const OpenFile::FileStatus status = file_.status(error);
  if (error) fail("cannot be examined", error);
  if (status.type != OpenFile::Type::regular) {
    fail(status.type == OpenFile::Type::folder ? "is a folder, not a file" : "is not a regular file");
  }
  size_ = status.size;
}

inline void ReadOnlyFile::read(std::uint64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    std::error_code error;
    const std::size_t count = file_.read(offset, out, error);
    if (error) fail("cannot be read", error);
    if (count == 0) fail("ends while it is being read");
    offset += count;
    out = out.subspan(count);
  }
}

inline std::string ReadOnlyFile::read_text(std::uint64_t offset, std::uint64_t size) const {
  std::string text(memory_size(size), '\0');
  read(offset, std::as_writable_bytes(std::span(text)));
  return text;
}

inline std::shared_ptr<const std::byte> ReadOnlyFile::read_copy(std::uint64_t offset,
                                                                std::uint64_t size) const {
  // operator new aligns for std::max_align_t; not cleared first, as read fills all of it.
  std::shared_ptr<std::byte[]> memory(new std::byte[memory_size(size)]);
  read(offset, {memory.get(), memory_size(size)});
  return {memory, memory.get()};
}

inline std::shared_ptr<const std::byte> ReadOnlyFile::map(std::uint64_t offset, std::uint64_t size) const {
  if (size == 0) return read_copy(offset, 0);  // no system maps 0 bytes
  const std::uint64_t before = offset % OpenFile::map_granularity();
  std::error_code error;
  const std::shared_ptr<const std::byte> memory =
      file_.map(offset - before, memory_size(before + size), error);
  if (error) fail("cannot be mapped into memory", error);
  if (!memory) return read_copy(offset, size);
  return {memory, memory.get() + before};
}

}  // namespace gpt2::detail
