// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Memory of tables, on huge pages if the system has them. Lookups are scattered over a table of hundreds of
/// megabytes; with pages of 4 KiB almost every row waits for the page table.

#include <cstddef>
#include <cstdint>
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

/// An uninitialised matrix, whose memory is not touched yet.
template <class T>
[[nodiscard]] Matrix<T> new_table(Index rows, Index cols) {
  Matrix<T> table(rows, cols);
  ask_for_huge_pages(table.data(), static_cast<std::size_t>(table.size()) * sizeof(T));
  return table;
}

/// A copy of a matrix.
template <class M>
[[nodiscard]] Matrix<typename M::Scalar> copied_table(const M& from) {
  auto table = new_table<typename M::Scalar>(from.rows(), from.cols());
  table = from;
  return table;
}

/// A matrix that a table owns, whose copies request huge pages.
template <class T>
class OwnedTable {
 public:
  OwnedTable() = default;
  explicit OwnedTable(Matrix<T> matrix) noexcept : matrix_(std::move(matrix)) {}

  OwnedTable(const OwnedTable& other) : matrix_(copied_table(other.matrix_)) {}
  // NOLINTNEXTLINE(cert-oop54-cpp): of the same shape, Eigen assigns a matrix to itself
  OwnedTable& operator=(const OwnedTable& other) {
    const Matrix<T>& from = other.matrix_;
    if (matrix_.rows() == from.rows() && matrix_.cols() == from.cols()) {
      matrix_ = from;  // into the existing memory
    } else {
      matrix_ = copied_table(from);
    }
    return *this;
  }
  OwnedTable(OwnedTable&&) noexcept = default;
  OwnedTable& operator=(OwnedTable&&) noexcept = default;
  ~OwnedTable() = default;

  [[nodiscard]] const Matrix<T>& operator*() const noexcept { return matrix_; }
  [[nodiscard]] Matrix<T>& operator*() noexcept { return matrix_; }
  [[nodiscard]] const Matrix<T>* operator->() const noexcept { return &matrix_; }
  [[nodiscard]] Matrix<T>* operator->() noexcept { return &matrix_; }

 private:
  Matrix<T> matrix_;
};

}  // namespace gpt2::detail
