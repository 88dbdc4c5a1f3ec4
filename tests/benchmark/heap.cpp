// SPDX-License-Identifier: MIT

#include "heap.hpp"

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdlib>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer)
#define GPT2_SANITIZED 1
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define GPT2_SANITIZED 1
#endif

#if defined(__GLIBC__) && !defined(GPT2_SANITIZED)

#include <malloc.h>

// NOLINTBEGIN(bugprone-reserved-identifier,cert-dcl*,readability-identifier-naming)
// The C library's own names of the functions replaced below.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);
}
// NOLINTEND(bugprone-reserved-identifier,cert-dcl*,readability-identifier-naming)

namespace {

// While nothing is counted, which is whenever time is taken, a call costs one more branch.
std::atomic<bool> counting{false};
std::atomic<std::ptrdiff_t> held{0};
std::atomic<std::ptrdiff_t> peak{0};

void* taken(void* memory) {
  if (counting.load(std::memory_order_relaxed) && memory != nullptr) {
    const auto size = static_cast<std::ptrdiff_t>(malloc_usable_size(memory));
    const std::ptrdiff_t now = held.fetch_add(size) + size;
    std::ptrdiff_t before = peak.load();
    while (before < now && !peak.compare_exchange_weak(before, now)) {
    }
  }
  return memory;
}

void given_back(void* memory) {
  if (counting.load(std::memory_order_relaxed) && memory != nullptr) {
    held.fetch_sub(static_cast<std::ptrdiff_t>(malloc_usable_size(memory)));
  }
}

}  // namespace

extern "C" {

void* malloc(std::size_t size) noexcept { return taken(__libc_malloc(size)); }

void* calloc(std::size_t count, std::size_t size) noexcept { return taken(__libc_calloc(count, size)); }

void* realloc(void* memory, std::size_t size) noexcept {
  given_back(memory);
  return taken(__libc_realloc(memory, size));
}

void* memalign(std::size_t alignment, std::size_t size) noexcept {
  return taken(__libc_memalign(alignment, size));
}

void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  return taken(__libc_memalign(alignment, size));
}

int posix_memalign(void** memory, std::size_t alignment, std::size_t size) noexcept {
  void* found = taken(__libc_memalign(alignment, size));
  if (found == nullptr) return ENOMEM;
  *memory = found;
  return 0;
}

void free(void* memory) noexcept {
  given_back(memory);
  __libc_free(memory);
}

}  // extern "C"

double heap::peak_during(const std::function<void()>& call) {
  held = 0;
  peak = 0;
  counting = true;
  call();
  counting = false;
  return static_cast<double>(peak.load());
}

#else

double heap::peak_during(const std::function<void()>& call) {
  call();
  return -1;
}

#endif
