// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The distribution of work over a device's threads, and rows as Eigen's arrays.

#include <atomic>
#include <exception>
#include <type_traits>

#include "gpt2/device.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

template <class T>
using ConstRow = Eigen::Map<const Eigen::Array<T, 1, Eigen::Dynamic>>;
template <class T>
using Row = Eigen::Map<Eigen::Array<T, 1, Eigen::Dynamic>>;

/// With fewer rows than this, waking threads costs more than they save.
inline constexpr Index fewest_rows_for_threads = 64;

/// Runs parts of some work on several threads. An exception of a part may leave neither its thread, nor the call that
/// waits for the others: the first one is kept.
template <class Body>
struct Parts {
  const Body& body;
  std::exception_ptr error = nullptr;
  std::atomic_flag failed = {};

  void run(Index first, Index last) noexcept {
    try {
      body(first, last);
    } catch (...) {
      if (!failed.test_and_set()) error = std::current_exception();
    }
  }
};

/// Whether work is given to other threads. A task of the device's own pool must not wait for other tasks of that pool:
/// if every thread waited, none would be left to run them.
template <Device D>
[[nodiscard]] bool uses_threads(const D& device) {
  if constexpr (std::is_same_v<D, Eigen::DefaultDevice>) {
    return false;
  } else if constexpr (requires { device.currentThreadId(); }) {
    return device.numThreads() > 1 && device.currentThreadId() < 0;
  } else {
    return device.numThreads() > 1;
  }
}

/// Calls body(first, last) for parts of [0, size), on the device's threads. Each element costs about `bytes` of memory
/// traffic.
template <Device D, class Body>
void for_parts(const D& device, Index size, Index bytes, const Body& body) {
  if constexpr (!std::is_same_v<D, Eigen::DefaultDevice>) {
    if (size > 1 && uses_threads(device)) {
      const auto traffic = static_cast<double>(bytes);
      Parts<Body> parts{body};
      // A lambda with one reference fits in a std::function without an allocation.
      device.parallelFor(size, Eigen::TensorOpCost(traffic / 2, traffic / 2, 0),
                         [&parts](Index first, Index last) { parts.run(first, last); });
      if (parts.error) std::rethrow_exception(parts.error);
      return;
    }
  }
  body(Index{0}, size);
}

/// Calls body(first, last) for parts of [0, rows), on the device's threads if there are enough rows.
template <Device D, class Body>
void for_rows(const D& device, Index rows, Index bytes, const Body& body) {
  if (rows < fewest_rows_for_threads) {
    body(Index{0}, rows);
  } else {
    for_parts(device, rows, bytes, body);
  }
}

}  // namespace gpt2::detail
