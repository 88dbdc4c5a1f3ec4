// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// How much memory a call allocates beside what was there before: its inputs and its outputs.

#include <functional>

namespace heap {

/// The most bytes that a call holds at any one time of what it allocates, whoever does it: new, Eigen's
/// malloc or a library's. Not counted are memory mapped from files, and stacks. Negative where malloc cannot
/// be counted.
double peak_during(const std::function<void()>& call);

}  // namespace heap
