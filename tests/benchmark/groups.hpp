// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The measurements: groups of contestants that do the same operation on the same data.

#include <functional>
#include <string>
#include <vector>

/// One way of doing a group's operation.
struct Contestant {
  /// "ours", "limit", or a peer's name.
  std::string name;
  /// Does the operation once, into existing buffers if the contestant allows it. Empty if the peer is not
  /// available.
  std::function<void()> call;
  /// Bytes to add to what one call allocates: work buffers that are kept between calls, less results that are
  /// allocated.
  double kept_bytes = 0;
};

/// Contestants that are measured in turn.
struct Group {
  /// "operation/shape/columns/ids/threads".
  std::string name;
  /// Makes the group's data, and the contestants, which keep it alive.
  std::function<std::vector<Contestant>()> contestants;
  int threads = 1;
  /// The number of calls that are timed together: more than one if a clock could not resolve one.
  int calls = 1;
  /// Untimed calls before each sample.
  int untimed = 3;
  /// The number of samples; 0 for that of the command line.
  int samples = 0;
};

std::vector<Group> sum_groups();
std::vector<Group> lookup_groups();
std::vector<Group> growth_groups();
std::vector<Group> gradient_groups();
std::vector<Group> head_groups();
std::vector<Group> checkpoint_groups();
