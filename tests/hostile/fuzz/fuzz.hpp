// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Shared by the fuzz targets. A target is one function on one input, any bytes. It returns if the library's result
/// for them, or its documented error, is that of a plain reference implementation; any other outcome ends the program.

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <type_traits>

/// Begins a target, a function of `data` and `size` that returns 0: the one that libFuzzer calls or, in the replay of
/// all targets, one of that name.
#ifdef FUZZ_REPLAY
#define FUZZ_TARGET(name) static int name(const std::uint8_t* data, std::size_t size)
#else
#define FUZZ_TARGET(name)                                                            \
  extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size); \
  extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size)
#endif

namespace fuzz {

/// Ends the program unless something is as it should be.
inline void check(bool as_expected, const char* what) {
  if (as_expected) return;
  std::fprintf(stderr, "wrong: %s\n", what);
  std::abort();
}

/// An input as text, for targets that read files.
[[nodiscard]] inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// An input as a sequence of decisions. Behind its end there are zeros.
class Choices {
 public:
  Choices(const std::uint8_t* data, std::size_t size) : bytes_(text_of(data, size)) {}

  [[nodiscard]] bool empty() const { return bytes_.empty(); }

  /// The next bytes as a number of any value.
  template <class Number>
  [[nodiscard]] Number any() {
    static_assert(std::is_trivially_copyable_v<Number>);
    const std::size_t size = bytes_.size() < sizeof(Number) ? bytes_.size() : sizeof(Number);
    unsigned char representation[sizeof(Number)] = {};
    if (size > 0) std::memcpy(representation, bytes_.data(), size);
    bytes_.remove_prefix(size);
    Number number;
    std::memcpy(static_cast<void*>(&number), representation, sizeof(Number));
    return number;
  }

  /// The next byte as a number in [0, bound).
  [[nodiscard]] int below(int bound) { return any<std::uint8_t>() % bound; }
  [[nodiscard]] bool yes() { return below(2) == 1; }

 private:
  std::string_view bytes_;
};

/// Whether two numbers have the same bits, or are both NaN: which of several NaNs a sum ends with depends on how
/// the compiler orders its terms.
template <class Number>
[[nodiscard]] bool same(Number a, Number b) {
  return (a != a && b != b) || std::memcmp(&a, &b, sizeof(Number)) == 0;
}

}  // namespace fuzz
