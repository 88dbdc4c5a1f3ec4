// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Reading files that may be anything: a folder, a FIFO, or shorter than they were a moment ago.

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "gpt2/error.hpp"

#if __has_include(<sys/mman.h>)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#else
#include <fstream>
#endif

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// A regular file, open for reading.
class ReadOnlyFile {
 public:
  /// Follows symbolic links, as the Hugging Face cache is made of them.
  /// Throws: CheckpointError (IoError) if it cannot be opened or is not a regular file. A FIFO does not
  /// block.
  explicit ReadOnlyFile(const std::filesystem::path& path);
  ReadOnlyFile(const ReadOnlyFile&) = delete;
  ReadOnlyFile& operator=(const ReadOnlyFile&) = delete;
  ~ReadOnlyFile();

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// In bytes, when it was opened.
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

  /// Fills `out` from the byte at `offset` on.
  /// Throws: CheckpointError (IoError), also if the file ends before `out` is full.
  void read(std::uint64_t offset, std::span<std::byte> out) const;

  /// `size` bytes from `offset` on, as text.
  /// Throws: like read.
  [[nodiscard]] std::string read_text(std::uint64_t offset, std::uint64_t size) const;

  /// `size` bytes from `offset` on, in memory of their own that is aligned for every scalar.
  /// Throws: like read.
  [[nodiscard]] std::shared_ptr<const std::byte> read_copy(std::uint64_t offset, std::uint64_t size) const;

  /// Whether map() maps, rather than reads.
#if __has_include(<sys/mman.h>)
  static constexpr bool can_map = true;
#else
  static constexpr bool can_map = false;
#endif

  /// The whole file as memory, read-only and private.
  /// Throws: CheckpointError (IoError).
  /// Lifetime: the memory outlives this object. Changes that others make to the file in place show through,
  /// and touching memory behind its end after it was truncated raises SIGBUS.
  [[nodiscard]] std::shared_ptr<const std::byte> map() const;

 private:
  [[noreturn]] void fail(std::string_view problem) const {
    throw CheckpointError(path_, "", "IoError", problem);
  }
  [[noreturn]] void fail_with_errno(std::string_view problem) const {
    const std::error_code code(errno, std::generic_category());
    fail(std::string(problem) + ": " + code.message());
  }
  /// Throws: CheckpointError if `size` bytes are more than memory can be asked for.
  [[nodiscard]] std::size_t memory_size(std::uint64_t size) const {
    if (size > static_cast<std::uint64_t>(std::numeric_limits<std::ptrdiff_t>::max())) {
      fail("is larger than the address space");
    }
    return static_cast<std::size_t>(size);
  }

  std::string path_;
  std::uint64_t size_ = 0;
#if __has_include(<sys/mman.h>)
  int descriptor_ = -1;
#else
  mutable std::ifstream stream_;
#endif
};

// Implementation.

#if __has_include(<sys/mman.h>)

inline ReadOnlyFile::ReadOnlyFile(const std::filesystem::path& path) : path_(path.string()) {
  // Without O_NONBLOCK, a FIFO would wait here for somebody to write to it.
  do {
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
  } while (descriptor_ < 0 && errno == EINTR);
  if (descriptor_ < 0) fail_with_errno("cannot be opened");
  // The descriptor is asked, not the path: that might be another file by now. The destructor does not run
  // when the constructor throws.
  struct stat status {};
  const bool known = ::fstat(descriptor_, &status) == 0;
  if (known && S_ISREG(status.st_mode)) {
    size_ = static_cast<std::uint64_t>(status.st_size);
    return;
  }
  const int error = errno;
  ::close(descriptor_);
  errno = error;
  if (!known) fail_with_errno("cannot be examined");
  fail(S_ISDIR(status.st_mode) ? "is a folder, not a file" : "is not a regular file");
}

inline ReadOnlyFile::~ReadOnlyFile() { ::close(descriptor_); }

inline void ReadOnlyFile::read(std::uint64_t offset, std::span<std::byte> out) const {
  constexpr std::size_t largest = std::size_t{1} << 30U;  // macOS refuses to read 2 GiB at once
  while (!out.empty()) {
    const ::ssize_t count =
        ::pread(descriptor_, out.data(), (std::min)(out.size(), largest), static_cast<::off_t>(offset));
    if (count < 0) {
      if (errno == EINTR) continue;
      fail_with_errno("cannot be read");
    }
    if (count == 0) fail("ends while it is being read");
    offset += static_cast<std::uint64_t>(count);
    out = out.subspan(static_cast<std::size_t>(count));
  }
}

inline std::shared_ptr<const std::byte> ReadOnlyFile::map() const {
  const std::size_t size = memory_size(size_);
  if (size == 0) return read_copy(0, 0);  // mmap refuses to map nothing
  void* const memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor_, 0);
  if (memory == MAP_FAILED) fail_with_errno("cannot be mapped into memory");
  return {static_cast<const std::byte*>(memory),
          [memory, size](const std::byte*) noexcept { ::munmap(memory, size); }};
}

#else

inline ReadOnlyFile::ReadOnlyFile(const std::filesystem::path& path) : path_(path.string()) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error)) {
    fail(error ? "cannot be opened: " + error.message() : std::string("is not a regular file"));
  }
  stream_.open(path, std::ios::binary | std::ios::ate);
  const auto end = stream_.tellg();
  if (!stream_ || end < 0) fail("cannot be opened");
  size_ = static_cast<std::uint64_t>(end);
}

inline ReadOnlyFile::~ReadOnlyFile() = default;

inline void ReadOnlyFile::read(std::uint64_t offset, std::span<std::byte> out) const {
  stream_.clear();
  stream_.seekg(static_cast<std::streamoff>(offset));
  stream_.read(reinterpret_cast<char*>(out.data()), static_cast<std::streamsize>(out.size()));
  if (!stream_) fail("cannot be read");
}

inline std::shared_ptr<const std::byte> ReadOnlyFile::map() const { return read_copy(0, size_); }

#endif

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

}  // namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail
