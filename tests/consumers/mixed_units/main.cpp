// SPDX-License-Identifier: MIT
//
// A program whose translation units are compiled for different processors. The linker keeps one definition of each
// inline function, whichever; all units must compute the same all the same.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "unit.hpp"

namespace {

constexpr int skipped = 77;

/// Quarters, which every kind of table but int8 stores as they are.
std::vector<float> quarters(int size, unsigned seed) {
  std::vector<float> numbers(static_cast<std::size_t>(size));
  for (float& number : numbers) {
    seed = seed * 1664525U + 1013904223U;
    number = static_cast<float>(static_cast<int>(seed >> 24U) - 128) / 4;
  }
  return numbers;
}

bool near(const std::vector<float>& found, const std::vector<float>& expected, double tolerance) {
  const auto same = [tolerance](float x, float y) { return std::abs(double{x} - double{y}) <= tolerance; };
  return std::ranges::equal(found, expected, same);
}

int failures = 0;
void check(bool right, const char* unit, const char* what, int kind, const Inputs& inputs) {
  if (right) return;
  std::printf("%s: wrong %s of table %d, width %d, states %d\n", unit, what, kind, inputs.width,
              inputs.states);
  ++failures;
}

void check_unit(const char* name, Results (*compute)(const Inputs&), const Inputs& inputs) {
  std::vector<float> rows;
  for (const long long id : inputs.ids) {
    const auto* row = inputs.table.data() + id * inputs.width;
    rows.insert(rows.end(), row, row + inputs.width);
  }
  std::vector<float> logits;
  for (int s = 0; s < inputs.states; ++s) {
    for (int r = 0; r < inputs.rows; ++r) {
      double sum = 0;
      for (int j = 0; j < inputs.width; ++j) {
        sum += double{inputs.hidden[static_cast<std::size_t>(s * inputs.width + j)]} *
               double{inputs.table[static_cast<std::size_t>(r * inputs.width + j)]};
      }
      logits.push_back(static_cast<float>(sum));
    }
  }
  const Results results = compute(inputs);
  for (int kind = 0; kind < 4; ++kind) {
    // An int8 table is off by half a step, of which there are 254 from -32 to 31.75.
    const bool is_exact = kind < 3;
    check(near(results.lookups[kind], rows, is_exact ? 0 : 0.13), name, "rows", kind, inputs);
    check(near(results.logits[kind], logits, is_exact ? 0.02 : 0.13 * 32 * inputs.width), name, "logits",
          kind, inputs);
  }
}

}  // namespace

int main() {
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
    std::puts("this processor cannot run all units");
    return skipped;
  }
  for (const int width : {1, 7, 8, 12, 65, 768}) {
    for (const int states : {1, 3, 5}) {
      const Inputs inputs{70,
                          width,
                          quarters(70 * width, 1),
                          {0, 69, 3, 3, 12, 50, 7, 1, 69},
                          states,
                          quarters(states * width, 2)};
      check_unit("baseline", baseline::compute, inputs);
      check_unit("as compiled", as_compiled::compute, inputs);
      check_unit("avx", avx::compute, inputs);
      check_unit("avx2", avx2::compute, inputs);
    }
  }
  return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
