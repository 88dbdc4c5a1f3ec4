// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Allocations, counted and made to fail, in malloc itself, which operator new and Eigen both call. That needs
/// glibc, and no sanitizer with a malloc of its own; elsewhere nothing is counted, and only results are tested. It
/// defines malloc, so only one translation unit of a program may include it.

#include <atomic>
#include <cstddef>
#include <cstdlib>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TEST_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define TEST_SANITIZER
#endif
#endif

namespace test {

/// Whether anything is counted.
#if defined(__GLIBC__) && !defined(TEST_SANITIZER)
inline constexpr bool counting = true;
#else
inline constexpr bool counting = false;
#endif

struct Memory {
  std::atomic<std::size_t> blocks{0};  // that were ever allocated
  std::atomic<std::size_t> bytes{0};   // that were ever requested
  std::atomic<std::size_t> live_blocks{0};
  std::atomic<std::size_t> live_bytes{0};
  std::atomic<std::size_t> peak_bytes{0};     // the most live_bytes
  std::atomic<std::size_t> failing_block{0};  // the how-many-th allocation from now on fails; 0: none
};
inline constinit Memory memory;

/// The number of blocks and bytes that an action allocates.
struct Allocations {
  std::size_t blocks;
  std::size_t bytes;
};
template <class Action>
Allocations allocations_of(Action&& action) {
  const std::size_t blocks = memory.blocks;
  const std::size_t bytes = memory.bytes;
  action();
  return {memory.blocks - blocks, memory.bytes - bytes};
}

}  // namespace test

#if defined(__GLIBC__) && !defined(TEST_SANITIZER)
#include <malloc.h>

namespace test::detail {

/// Counts an allocation that is about to be made; false if it is the one that is to fail.
inline bool count(std::size_t size) noexcept {
  memory.blocks.fetch_add(1, std::memory_order_relaxed);
  memory.bytes.fetch_add(size, std::memory_order_relaxed);
  return memory.failing_block.load(std::memory_order_relaxed) == 0 ||
         memory.failing_block.fetch_sub(1, std::memory_order_relaxed) != 1;
}

inline void* added(void* block) noexcept {
  if (block == nullptr) return block;
  ++memory.live_blocks;
  const std::size_t live = memory.live_bytes += malloc_usable_size(block);
  if (live > memory.peak_bytes) memory.peak_bytes = live;
  return block;
}

inline void removed(std::size_t usable_size) noexcept {
  --memory.live_blocks;
  memory.live_bytes -= usable_size;
}

}  // namespace test::detail

extern "C" {

void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t n, std::size_t size);
void* __libc_realloc(void* block, std::size_t size);
void __libc_free(void* block);

void* malloc(std::size_t size) noexcept {
  return test::detail::count(size) ? test::detail::added(__libc_malloc(size)) : nullptr;
}
void* calloc(std::size_t n, std::size_t size) noexcept {
  return test::detail::count(n * size) ? test::detail::added(__libc_calloc(n, size)) : nullptr;
}
void* realloc(void* block, std::size_t size) noexcept {
  if (!test::detail::count(size)) return nullptr;
  const std::size_t before = block == nullptr ? 0 : malloc_usable_size(block);
  void* const moved = __libc_realloc(block, size);
  if (block != nullptr && (moved != nullptr || size == 0)) test::detail::removed(before);
  return test::detail::added(moved);
}
void free(void* block) noexcept {
  if (block != nullptr) test::detail::removed(malloc_usable_size(block));
  __libc_free(block);
}
}
#endif
