// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The arithmetic on rows that every operation comes down to, and its distribution over a device's threads.
/// Nothing here checks anything: that has happened.

#include <cstddef>
#include <cstring>
#include <type_traits>

#include "gpt2/types.hpp"

namespace gpt2::detail {

template <class T>
using ConstRow = Eigen::Map<const Eigen::Array<T, 1, Eigen::Dynamic>>;
template <class T>
using Row = Eigen::Map<Eigen::Array<T, 1, Eigen::Dynamic>>;

/// out = from, bit for bit where the types are the same.
template <class From, class To>
void copy_row(Index size, To* out, const From* from) {
  if constexpr (std::is_same_v<From, To>) {
    // memmove, for the caller may write to memory that the table borrows.
    if (size > 0) std::memmove(out, from, static_cast<std::size_t>(size) * sizeof(To));
  } else {
    Row<To>(out, size) = ConstRow<From>(from, size).template cast<To>();
  }
}

/// out = a + b, formed in A and rounded once.
template <class A, class T, class U, class To>
void add_rows(Index size, To* out, const T* a, const U* b) {
  Row<To>(out, size) =
      (ConstRow<T>(a, size).template cast<A>() + ConstRow<U>(b, size).template cast<A>()).template cast<To>();
}

/// out = (a + b) + c, formed in A and rounded once behind it.
template <class A, class T, class U, class V, class To>
void add_rows(Index size, To* out, const T* a, const U* b, const V* c) {
  Row<To>(out, size) = ((ConstRow<T>(a, size).template cast<A>() + ConstRow<U>(b, size).template cast<A>()) +
                        ConstRow<V>(c, size).template cast<A>())
                           .template cast<To>();
}

/// With fewer rows than this, waking threads costs more than they save.
inline constexpr Index fewest_rows_for_threads = 64;

/// Calls body(first, last) for parts of [0, size), on the device's threads. Each of them costs about `bytes` of
/// memory traffic.
template <Device D, class Body>
void for_parts(const D& device, Index size, Index bytes, const Body& body) {
  if constexpr (!std::is_same_v<D, Eigen::DefaultDevice>) {
    if (size > 1 && device.numThreads() > 1) {
      const auto traffic = static_cast<double>(bytes);
      device.parallelFor(size, Eigen::TensorOpCost(traffic / 2, traffic / 2, 0),
                         [&body](Index first, Index last) { body(first, last); });
      return;
    }
  }
  body(Index{0}, size);
}

/// Calls body(first, last) for parts of [0, rows), on the device's threads if there are rows enough.
template <Device D, class Body>
void for_rows(const D& device, Index rows, Index bytes, const Body& body) {
  if (rows < fewest_rows_for_threads) {
    body(Index{0}, rows);
  } else {
    for_parts(device, rows, bytes, body);
  }
}

}  // namespace gpt2::detail
