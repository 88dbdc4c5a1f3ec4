// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Devices: the threads an operation runs on, and the way it stores its results.

#include <concepts>
#include <unsupported/Eigen/CXX11/Tensor>
#include <utility>

#include "gpt2/version.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// The threads that a large operation runs on: Eigen::DefaultDevice (the calling thread), Eigen::ThreadPoolDevice, or
/// any type with the latter's numThreads() and parallelFor(n, cost, body(first, last)). Eigen has a ThreadPoolDevice
/// if EIGEN_USE_THREADS is defined before its headers. A call from a task of the device's own pool (one for which
/// currentThreadId(), if the device has it, is not negative) runs in that task.
template <class D>
concept Device = std::same_as<D, Eigen::DefaultDevice> ||
    requires(const D& device, Eigen::Index n, const Eigen::TensorOpCost& cost,
             void (*body)(Eigen::Index, Eigen::Index)) {
  { device.numThreads() } -> std::convertible_to<int>;
  device.parallelFor(n, cost, body);
};

/// How the rows of lookups and sums are stored: through the caches, or streaming past them to memory. Streaming
/// saves a quarter of the time for results larger than the caches; for smaller ones it costs the next layer up to
/// three times its own time.
enum class StorePolicy {
  automatic,  ///< streaming from 8 MiB on
  regular,    ///< through the caches
  streaming,  ///< past them
};

/// A device with a policy; itself a device: `forward_into(ids, out, OnDevice{device, policy})`.
/// Lifetime: refers to the device.
template <Device D>
struct OnDevice {
  const D& device;                                    ///< the threads it runs on
  StorePolicy store_policy = StorePolicy::automatic;  ///< how results are stored

  /// The device's.
  [[nodiscard]] int numThreads() const {  // NOLINT(readability-identifier-naming): Eigen's name
    if constexpr (std::same_as<D, Eigen::DefaultDevice>) {
      return 1;
    } else {
      return device.numThreads();
    }
  }
  /// The device's; -1 if the device has no such function.
  [[nodiscard]] int currentThreadId() const {  // NOLINT(readability-identifier-naming): Eigen's name
    if constexpr (requires { device.currentThreadId(); }) {
      return device.currentThreadId();
    } else {
      return -1;
    }
  }
  /// The device's.
  template <class Body>
  // NOLINTNEXTLINE(readability-identifier-naming): Eigen's name
  void parallelFor(Eigen::Index n, const Eigen::TensorOpCost& cost, Body&& body) const {
    if constexpr (std::same_as<D, Eigen::DefaultDevice>) {
      body(Eigen::Index{0}, n);
    } else {
      device.parallelFor(n, cost, std::forward<Body>(body));
    }
  }
};
/// Deduces the device's type.
template <class D>
OnDevice(const D&, StorePolicy) -> OnDevice<D>;

}  // namespace gpt2
