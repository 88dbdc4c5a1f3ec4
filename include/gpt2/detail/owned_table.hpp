// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The memory of tables, on huge pages if the system has them. Lookups are scattered over hundreds of megabytes: with
/// pages of 4 KiB almost every row waits for the page table.

#include <cstddef>
#include <cstdint>
#include <limits>
#include <new>
#include <utility>

#include "gpt2/scalar.hpp"

#ifdef __linux__
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// The size of a huge page on most processors: smaller tables have no use for one.
inline constexpr std::size_t fewest_bytes_for_huge_pages = std::size_t{2} << 20;

/// Requests huge pages, which the system provides at the first write to each. This is advice: a system that has no huge
/// pages, or none left, changes nothing.
inline void ask_for_huge_pages([[maybe_unused]] const void* data,
                               [[maybe_unused]] std::size_t bytes) noexcept {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (bytes < fewest_bytes_for_huge_pages) return;
  const long page = ::sysconf(_SC_PAGESIZE);
  if (page <= 0) return;
  // From the page that the memory begins in: the system cannot back part of a page by a huge one, and large blocks
  // often begin a few bytes into their first page.
  const std::uintptr_t before = reinterpret_cast<std::uintptr_t>(data) % static_cast<std::uintptr_t>(page);
  char* const begin = const_cast<char*>(static_cast<const char*>(data)) - before;
  (void)::madvise(begin, bytes + before, MADV_HUGEPAGE);
#endif
}

/// The elements that a table owns: a matrix that was given, where it is; or memory that begins at a cache line, as then
/// do its rows if they are whole lines: kernels go through them line by line.
template <class T>
class OwnedTable {
 public:
  OwnedTable() = default;
  /// A given matrix.
  explicit OwnedTable(Matrix<T> matrix) noexcept
      : memory_(std::move(matrix)), rows_(memory_.rows()), cols_(memory_.cols()) {}
  /// Elements that are not initialised, nor touched yet: pages may still become huge ones.
  [[nodiscard]] static OwnedTable uninitialised(Index rows, Index cols) {
    constexpr Index limit = (std::numeric_limits<Index>::max)() - (line - 1);
    if (rows > 0 && cols > limit / rows) throw std::bad_alloc();
    OwnedTable table;
    if (rows > 0 && cols > 0) {
      table.memory_.resize(1, rows * cols + line - 1);
      const auto address = reinterpret_cast<std::uintptr_t>(table.memory_.data());
      table.begin_ = static_cast<Index>((0 - address) % line_bytes / sizeof(T));
      ask_for_huge_pages(table.memory_.data(), static_cast<std::size_t>(table.memory_.size()) * sizeof(T));
    }
    table.rows_ = rows;
    table.cols_ = cols;
    return table;
  }
  /// A copy.
  template <class M>
  [[nodiscard]] static OwnedTable copy_of(const M& from) {
    OwnedTable table = uninitialised(from.rows(), from.cols());
    *table = from;
    return table;
  }

  OwnedTable(const OwnedTable& other) : OwnedTable(copy_of(*other)) {}
  OwnedTable(OwnedTable&& other) noexcept { swap(other); }
  OwnedTable& operator=(OwnedTable other) noexcept {
    swap(other);
    return *this;
  }
  ~OwnedTable() = default;

  [[nodiscard]] Index rows() const noexcept { return rows_; }
  [[nodiscard]] Index cols() const noexcept { return cols_; }
  [[nodiscard]] Index size() const noexcept { return rows_ * cols_; }
  [[nodiscard]] T* data() noexcept { return memory_.data() + begin_; }
  [[nodiscard]] const T* data() const noexcept { return memory_.data() + begin_; }
  [[nodiscard]] Eigen::Map<Matrix<T>> operator*() noexcept { return {data(), rows_, cols_}; }
  [[nodiscard]] Eigen::Map<const Matrix<T>> operator*() const noexcept { return {data(), rows_, cols_}; }

 private:
  static constexpr std::size_t line_bytes = 64;
  static constexpr Index line = line_bytes / sizeof(T);

  void swap(OwnedTable& other) noexcept {
    memory_.swap(other.memory_);
    std::swap(begin_, other.begin_);
    std::swap(rows_, other.rows_);
    std::swap(cols_, other.cols_);
  }

  Matrix<T> memory_;
  Index begin_ = 0;  // of the elements in memory_
  Index rows_ = 0;
  Index cols_ = 0;
};

}  // namespace gpt2::detail
