// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Files by the calls of Windows. They are declared here as in windows.h, because windows.h defines macros that break
/// headers included after it.

#if defined(_WIN32)

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "gpt2/detail/files/open_file.hpp"

struct _SECURITY_ATTRIBUTES;
struct _OVERLAPPED;
union _LARGE_INTEGER;

extern "C" {
__declspec(dllimport) void* __stdcall CreateFileW(const wchar_t*, unsigned long, unsigned long,
                                                  struct _SECURITY_ATTRIBUTES*, unsigned long, unsigned long,
                                                  void*);
__declspec(dllimport) int __stdcall CloseHandle(void*);
__declspec(dllimport) unsigned long __stdcall GetLastError();
__declspec(dllimport) unsigned long __stdcall GetFileType(void*);
__declspec(dllimport) int __stdcall GetFileSizeEx(void*, union _LARGE_INTEGER*);
__declspec(dllimport) int __stdcall ReadFile(void*, void*, unsigned long, unsigned long*,
                                             struct _OVERLAPPED*);
__declspec(dllimport) int __stdcall WriteFile(void*, const void*, unsigned long, unsigned long*,
                                              struct _OVERLAPPED*);
__declspec(dllimport) int __stdcall FlushFileBuffers(void*);
__declspec(dllimport) void* __stdcall CreateFileMappingW(void*, struct _SECURITY_ATTRIBUTES*, unsigned long,
                                                         unsigned long, unsigned long, const wchar_t*);
#if defined(_WIN64)
__declspec(dllimport) void* __stdcall MapViewOfFile(void*, unsigned long, unsigned long, unsigned long,
                                                    unsigned long long);
#else
__declspec(dllimport) void* __stdcall MapViewOfFile(void*, unsigned long, unsigned long, unsigned long,
                                                    unsigned long);
#endif
__declspec(dllimport) int __stdcall UnmapViewOfFile(const void*);
__declspec(dllimport) unsigned long __stdcall GetFileAttributesW(const wchar_t*);
__declspec(dllimport) unsigned long __stdcall GetFinalPathNameByHandleW(void*, wchar_t*, unsigned long,
                                                                        unsigned long);
__declspec(dllimport) int __stdcall MoveFileExW(const wchar_t*, const wchar_t*, unsigned long);
__declspec(dllimport) int __stdcall DeleteFileW(const wchar_t*);
}

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// Windows' own constants, under our names: theirs are macros.
namespace windows {
inline constexpr unsigned long generic_read = 0x80000000;
inline constexpr unsigned long generic_write = 0x40000000;
inline constexpr unsigned long share_all = 7;  // FILE_SHARE_READ, _WRITE and _DELETE
inline constexpr unsigned long create_new = 1;
inline constexpr unsigned long open_existing = 3;
inline constexpr unsigned long attribute_normal = 0x80;
inline constexpr unsigned long attribute_readonly = 1;
inline constexpr unsigned long attribute_directory = 0x10;
inline constexpr unsigned long no_attributes = 0xFFFFFFFF;
inline constexpr unsigned long type_disk = 1;
inline constexpr unsigned long page_readonly = 2;
inline constexpr unsigned long map_read = 4;
inline constexpr unsigned long move_replace = 1;
inline constexpr unsigned long move_write_through = 8;
inline constexpr unsigned long error_access_denied = 5;
inline constexpr unsigned long error_sharing_violation = 32;
inline constexpr unsigned long error_handle_eof = 38;
inline constexpr unsigned long error_user_mapped_file = 1224;

/// OVERLAPPED, of which only the offset is used.
struct Overlapped {
  std::uintptr_t internal = 0;
  std::uintptr_t internal_high = 0;
  unsigned long offset = 0;
  unsigned long offset_high = 0;
  void* event = nullptr;
};

/// Begin and end of the names of files that were mapped when they were replaced, and so were moved aside.
inline constexpr std::wstring_view aside_begin = L".gpt2-";
inline constexpr std::wstring_view aside_end = L".old";

[[nodiscard]] inline bool is_aside(std::wstring_view path) noexcept {
  const std::size_t separator = path.find_last_of(L"\\/");
  const std::wstring_view name = separator == path.npos ? path : path.substr(separator + 1);
  return name.starts_with(aside_begin) && name.ends_with(aside_end);
}

/// Deletes the file of a mapping that has ended, if it was moved aside meanwhile. If others still have it mapped, the
/// last of them deletes it.
inline void close_and_clean_up(void* file) noexcept {
  std::array<wchar_t, 2048> path{};
  const unsigned long size =
      ::GetFinalPathNameByHandleW(file, path.data(), static_cast<unsigned long>(path.size()), 0);
  ::CloseHandle(file);
  if (size == 0 || size >= path.size() || !is_aside({path.data(), size})) return;
  ::DeleteFileW(path.data());
}

/// Deletes files that were moved aside by programs which have ended since.
inline void clean_up(const std::filesystem::path& folder) noexcept {
  try {
    std::error_code error;
    for (std::filesystem::directory_iterator file(folder, error), end; !error && file != end;
         file.increment(error)) {
      if (is_aside(file->path().native())) ::DeleteFileW(file->path().c_str());
    }
  } catch (...) {  // no memory: the next replacement tries again
  }
}
}  // namespace windows

[[nodiscard]] inline std::error_code last_error() noexcept {
  return {static_cast<int>(::GetLastError()), std::system_category()};
}

inline constexpr std::size_t largest_transfer = std::size_t{1} << 30U;  // sizes are 32-bit numbers here

inline OpenFile::Handle OpenFile::none() noexcept {
  return reinterpret_cast<Handle>(~std::uintptr_t{0});  // INVALID_HANDLE_VALUE
}

inline OpenFile OpenFile::to_read(const std::filesystem::path& path, std::error_code& error) noexcept {
  const Handle file = ::CreateFileW(path.c_str(), windows::generic_read, windows::share_all, nullptr,
                                    windows::open_existing, windows::attribute_normal, nullptr);
  error = file == none() ? last_error() : std::error_code();
  // A folder cannot be opened like this; the error should not be that of a file without permission to read.
  if (error && error.value() == static_cast<int>(windows::error_access_denied)) {
    const unsigned long attributes = ::GetFileAttributesW(path.c_str());
    if (attributes != windows::no_attributes && (attributes & windows::attribute_directory) != 0) {
      error = std::make_error_code(std::errc::is_a_directory);
    }
  }
  return OpenFile(file);
}

inline OpenFile OpenFile::create(const std::filesystem::path& path, const std::filesystem::path& /*model*/,
                                 std::error_code& error) noexcept {
  // Permissions come from the folder.
  const Handle file = ::CreateFileW(path.c_str(), windows::generic_write, windows::share_all, nullptr,
                                    windows::create_new, windows::attribute_normal, nullptr);
  error = file == none() ? last_error() : std::error_code();
  return OpenFile(file);
}

inline OpenFile::FileStatus OpenFile::status(std::error_code& error) const noexcept {
  error.clear();
  if (::GetFileType(handle_) != windows::type_disk) return {};
  std::int64_t size = 0;
  if (::GetFileSizeEx(handle_, reinterpret_cast<union _LARGE_INTEGER*>(&size)) == 0) {
    error = last_error();
    return {};
  }
  return {Type::regular, static_cast<std::uint64_t>(size)};
}

inline std::size_t OpenFile::read(std::uint64_t offset, std::span<std::byte> out,
                                  std::error_code& error) const noexcept {
  error.clear();
  windows::Overlapped place;
  place.offset = static_cast<unsigned long>(offset & 0xFFFFFFFFU);
  place.offset_high = static_cast<unsigned long>(offset >> 32U);
  unsigned long count = 0;
  const int read =
      ::ReadFile(handle_, out.data(), static_cast<unsigned long>((std::min)(out.size(), largest_transfer)),
                 &count, reinterpret_cast<struct _OVERLAPPED*>(&place));
  if (read != 0) return count;
  if (::GetLastError() != windows::error_handle_eof) error = last_error();
  return 0;
}

inline std::size_t OpenFile::write(std::span<const std::byte> bytes, std::error_code& error) noexcept {
  error.clear();
  unsigned long count = 0;
  if (::WriteFile(handle_, bytes.data(),
                  static_cast<unsigned long>((std::min)(bytes.size(), largest_transfer)), &count,
                  nullptr) == 0) {
    error = last_error();
    return 0;
  }
  if (count == 0) error = std::make_error_code(std::errc::no_space_on_device);
  return count;
}

inline void OpenFile::synchronise(std::error_code& error) noexcept {
  error = ::FlushFileBuffers(handle_) != 0 ? std::error_code() : last_error();
}

inline void OpenFile::close(std::error_code& error) noexcept {
  error.clear();
  if (handle_ == none()) return;
  if (::CloseHandle(std::exchange(handle_, none())) == 0) error = last_error();
}

inline std::uint64_t OpenFile::map_granularity() noexcept { return 65536; }

inline std::shared_ptr<const std::byte> OpenFile::map(std::uint64_t offset, std::size_t size,
                                                      std::error_code& error) const {
  error.clear();
  void* const section = ::CreateFileMappingW(handle_, nullptr, windows::page_readonly, 0, 0, nullptr);
  if (section == nullptr) {
    error = last_error();
    return nullptr;
  }
  const void* const memory =
      ::MapViewOfFile(section, windows::map_read, static_cast<unsigned long>(offset >> 32U),
                      static_cast<unsigned long>(offset & 0xFFFFFFFFU), size);
  if (memory == nullptr) error = last_error();
  ::CloseHandle(section);  // the view stays valid
  if (memory == nullptr) return nullptr;
  // The mapping's own handle, by which it finds the file's present name.
  std::array<wchar_t, 2048> path{};
  const unsigned long length =
      ::GetFinalPathNameByHandleW(handle_, path.data(), static_cast<unsigned long>(path.size()), 0);
  void* const file = length == 0 || length >= path.size()
                         ? none()
                         : ::CreateFileW(path.data(), 0, windows::share_all, nullptr, windows::open_existing,
                                         windows::attribute_normal, nullptr);
  return {static_cast<const std::byte*>(memory), [memory, file](const std::byte*) noexcept {
            ::UnmapViewOfFile(memory);
            if (file != none()) windows::close_and_clean_up(file);
          }};
}

inline void rename_over(const std::filesystem::path& from, const std::filesystem::path& to,
                        std::error_code& error) noexcept try {
  const auto move = [](const std::filesystem::path& source, const std::filesystem::path& target) {
    return ::MoveFileExW(source.c_str(), target.c_str(),
                         windows::move_replace | windows::move_write_through) != 0;
  };
  windows::clean_up(to.has_parent_path() ? to.parent_path() : std::filesystem::path("."));
  error.clear();
  if (move(from, to)) return;
  error = last_error();
  const auto code = static_cast<unsigned long>(error.value());
  if (code != windows::error_access_denied && code != windows::error_sharing_violation &&
      code != windows::error_user_mapped_file) {
    return;
  }
  const unsigned long attributes = ::GetFileAttributesW(to.c_str());
  if (attributes == windows::no_attributes ||
      (attributes & (windows::attribute_directory | windows::attribute_readonly)) != 0) {
    return;
  }
  // A file that is mapped can be renamed, but neither replaced nor deleted.
  std::random_device random;
  const std::filesystem::path aside =
      to.parent_path() / (std::wstring(windows::aside_begin) + std::to_wstring(random()) + L"-" +
                          std::to_wstring(random()) + std::wstring(windows::aside_end));
  if (!move(to, aside)) return;
  if (move(from, to)) {
    error.clear();
    ::DeleteFileW(aside.c_str());  // or the last mapping does, when it ends
  } else {
    error = last_error();
    static_cast<void>(move(aside, to));
  }
} catch (...) {
  error = std::make_error_code(std::errc::not_enough_memory);
}

inline void synchronise_folder(const std::filesystem::path& /*folder*/) noexcept {
  // MoveFileExW has waited until the name was on the disk.
}

}  // namespace gpt2::detail

#endif
