// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The memory that a call allocates beside its inputs and outputs, which exist before.

#include <functional>

namespace heap {

/// The peak of the bytes that a call allocates, by new, Eigen's malloc or a library's. Memory mapped from files
/// and stacks are not counted. Negative if malloc cannot be counted.
double peak_during(const std::function<void()>& call);

}  // namespace heap
