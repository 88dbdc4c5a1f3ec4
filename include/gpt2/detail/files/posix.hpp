// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Files by POSIX's calls.

#if !defined(_WIN32)

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <system_error>

#include "gpt2/detail/files/open_file.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// The calls for files beyond 2 GiB. On 32 bits glibc has them under names of their own.
namespace large_files {
#if defined(__USE_LARGEFILE64) && !defined(__OFF_T_MATCHES_OFF64_T)
using FileStatus = struct ::stat64;
using Offset = ::off64_t;
inline constexpr int open_flag = O_LARGEFILE;
inline int examine(int file, FileStatus& status) noexcept { return ::fstat64(file, &status); }
inline ::ssize_t read(int file, void* out, std::size_t size, Offset offset) {
  return ::pread64(file, out, size, offset);
}
inline void* map(std::size_t size, int file, Offset offset) noexcept {
  return ::mmap64(nullptr, size, PROT_READ, MAP_PRIVATE, file, offset);
}
#else
using FileStatus = struct ::stat;
using Offset = ::off_t;
inline constexpr int open_flag = 0;
inline int examine(int file, FileStatus& status) noexcept { return ::fstat(file, &status); }
inline ::ssize_t read(int file, void* out, std::size_t size, Offset offset) {
  return ::pread(file, out, size, offset);
}
inline void* map(std::size_t size, int file, Offset offset) noexcept {
  return ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, offset);
}
#endif
}  // namespace large_files

[[nodiscard]] inline std::error_code last_error() noexcept { return {errno, std::generic_category()}; }

inline constexpr std::size_t largest_transfer = std::size_t{1} << 30U;  // macOS refuses 2 GiB at once

inline OpenFile::Handle OpenFile::none() noexcept { return -1; }

inline OpenFile OpenFile::to_read(const std::filesystem::path& path, std::error_code& error) noexcept {
  int file = -1;
  do {
    // Without O_NONBLOCK, a FIFO would wait here for a writer.
    file = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY | large_files::open_flag);
  } while (file < 0 && errno == EINTR);
  error = file < 0 ? last_error() : std::error_code();
  return OpenFile(file);
}

inline OpenFile OpenFile::create(const std::filesystem::path& path, const std::filesystem::path& model,
                                 std::error_code& error) noexcept {
  constexpr ::mode_t permission_bits = 0777;
  struct ::stat old {};
  const bool has_model = ::stat(model.c_str(), &old) == 0 && S_ISREG(old.st_mode);
  int file = -1;
  do {
    // Until it has the permissions of the other, only its owner can read it. The umask applies to a new one.
    file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | large_files::open_flag,
                  has_model ? ::mode_t{0600} : ::mode_t{0666});
  } while (file < 0 && errno == EINTR);
  error = file < 0 ? last_error() : std::error_code();
  // Some file systems have no permissions to change. The file then has fewer, never more.
  if (file >= 0 && has_model) static_cast<void>(::fchmod(file, old.st_mode & permission_bits));
  return OpenFile(file);
}

inline OpenFile::FileStatus OpenFile::status(std::error_code& error) const noexcept {
  large_files::FileStatus status{};
  error.clear();
  if (large_files::examine(handle_, status) != 0) {
    error = last_error();
    return {};
  }
  const Type type = S_ISREG(status.st_mode)   ? Type::regular
                    : S_ISDIR(status.st_mode) ? Type::folder
                                              : Type::other;
  return {type, static_cast<std::uint64_t>(status.st_size)};
}

inline std::size_t OpenFile::read(std::uint64_t offset, std::span<std::byte> out,
                                  std::error_code& error) const noexcept {
  error.clear();
  for (;;) {
    const ::ssize_t count = large_files::read(handle_, out.data(), (std::min)(out.size(), largest_transfer),
                                              static_cast<large_files::Offset>(offset));
    if (count >= 0) return static_cast<std::size_t>(count);
    if (errno == EINTR) continue;
    error = last_error();
    return 0;
  }
}

// NOLINTNEXTLINE(readability-make-member-function-const): the file changes
inline std::size_t OpenFile::write(std::span<const std::byte> bytes, std::error_code& error) noexcept {
  error.clear();
  for (;;) {
    const ::ssize_t count = ::write(handle_, bytes.data(), (std::min)(bytes.size(), largest_transfer));
    if (count > 0) return static_cast<std::size_t>(count);
    if (count < 0 && errno == EINTR) continue;
    error = count < 0 ? last_error() : std::make_error_code(std::errc::no_space_on_device);
    return 0;
  }
}

// NOLINTNEXTLINE(readability-make-member-function-const): the file changes
inline void OpenFile::synchronise(std::error_code& error) noexcept {
  error.clear();
  // Some file systems have nothing to synchronise, and say so.
  if (::fsync(handle_) != 0 && errno != EINVAL && errno != ENOTSUP) error = last_error();
}

inline void OpenFile::close(std::error_code& error) noexcept {
  error.clear();
  if (handle_ == none()) return;
  // Closed even if the call fails; after an interruption it must not be repeated.
  if (::close(std::exchange(handle_, none())) != 0 && errno != EINTR) error = last_error();
}

inline std::uint64_t OpenFile::map_granularity() noexcept {
  const long size = ::sysconf(_SC_PAGESIZE);
  return size > 0 ? static_cast<std::uint64_t>(size) : 65536;
}

inline std::shared_ptr<const std::byte> OpenFile::map(std::uint64_t offset, std::size_t size,
                                                      std::error_code& error) const {
  error.clear();
  void* const memory = large_files::map(size, handle_, static_cast<large_files::Offset>(offset));
  if (memory != MAP_FAILED) {
    return {static_cast<const std::byte*>(memory),
            [memory, size](const std::byte*) noexcept { ::munmap(memory, size); }};
  }
  // Network and FUSE file systems, and kernels without mmap.
  if (errno != ENODEV && errno != ENOTSUP && errno != ENOSYS) error = last_error();
  return nullptr;
}

inline void rename_over(const std::filesystem::path& from, const std::filesystem::path& to,
                        std::error_code& error) noexcept {
  error = ::rename(from.c_str(), to.c_str()) == 0 ? std::error_code() : last_error();
}

inline void synchronise_folder(const std::filesystem::path& folder) noexcept {
  const int file = ::open(folder.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return;
  static_cast<void>(::fsync(file));
  ::close(file);
}

}  // namespace gpt2::detail

#endif
