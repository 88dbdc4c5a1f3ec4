// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// What is measured: groups of contestants that do the same operation on the same data.

#include <functional>
#include <string>
#include <vector>

/// One way of doing a group's operation.
struct Contestant {
  /// "ours", "limit", or a peer's name.
  std::string name;
  /// Does the operation once, into buffers that are there already where the contestant allows it. Empty where
  /// the peer is not to be had.
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
  /// How many calls are timed together: more than one where a clock could not resolve one.
  int calls = 1;
  /// Untimed calls before each sample.
  int untimed = 3;
  /// 0 for as many as the command line says.
  int samples = 0;
};

std::vector<Group> sum_groups();
std::vector<Group> lookup_groups();
std::vector<Group> growth_groups();
std::vector<Group> gradient_groups();
std::vector<Group> head_groups();
std::vector<Group> checkpoint_groups();
