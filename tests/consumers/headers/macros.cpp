// SPDX-License-Identifier: MIT
//
// Every public header after macros that other headers define: those of windows.h, of X11, of the system's own headers,
// of glibc and BSD, of Arduino and Objective-C. Most of them expand to something that compiles nowhere. The foreign
// headers that ours include come before the macros: whether those tolerate them is not tested here.
//
// And the second of two translation units: see first.cpp.

#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <deque>
#include <exception>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <nlohmann/json.hpp>
#include <numbers>
#include <optional>
#include <random>
#include <ranges>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <unsupported/Eigen/CXX11/Tensor>
#include <utility>
#include <vector>
#if __has_include(<unistd.h>) && !defined(_WIN32)
#include <cpuid.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

#define GPT2_NOT_A_NAME )(*.this is a macro of somebody else

// windows.h and what it includes.
#define min(a, b) (((a) < (b)) ? (a) : (b))
#define max(a, b) (((a) > (b)) ? (a) : (b))
#define near
#define far
#define small char
#define hyper GPT2_NOT_A_NAME
#define interface struct
#define cdecl
#define pascal
#define IN
#define OUT
#define OPTIONAL
#define CONST const
#define VOID void
#define TRUE 1
#define FALSE 0
#define DELETE GPT2_NOT_A_NAME
#define ERROR 0
#define NO_ERROR 0L
#define STRICT 1
#define ABSOLUTE 1
#define RELATIVE 2
#define TRANSPARENT 1
#define OPAQUE 2
#define DIFFERENCE 11
#define THIS void
#define PURE = 0
#define GetObject GPT2_NOT_A_NAME
#define GetMessage GPT2_NOT_A_NAME
#define CreateFile GPT2_NOT_A_NAME
#define DeleteFile GPT2_NOT_A_NAME
#define CopyFile GPT2_NOT_A_NAME
#define MoveFile GPT2_NOT_A_NAME
#define ReplaceFile GPT2_NOT_A_NAME
#define SendMessage GPT2_NOT_A_NAME
#define GetCurrentTime GPT2_NOT_A_NAME
#define Yield() GPT2_NOT_A_NAME
#define rad1 GPT2_NOT_A_NAME
#define grp1 GPT2_NOT_A_NAME
#define psh1 GPT2_NOT_A_NAME
#define chx1 GPT2_NOT_A_NAME
#define edt1 GPT2_NOT_A_NAME
#define lst1 GPT2_NOT_A_NAME
#define stc1 GPT2_NOT_A_NAME
// X11.
#define Bool int
#define True 1
#define False 0
#define None 0L
#define Status int
#define Always 2
#define Complex 0
#define Convex 2
#define Expose 12
#define Unsorted 0
#define CursorShape 0
#define KeyPress 2
#define Above 0
#define Below 1
#define Opposite 4
// Compilers' and systems' own.
#define major(x) GPT2_NOT_A_NAME
#define minor(x) GPT2_NOT_A_NAME
#define makedev(x, y) GPT2_NOT_A_NAME
#define unix 1
#define linux 1
#define i386 1
#define errno_t GPT2_NOT_A_NAME
#define index_of GPT2_NOT_A_NAME
#define PAGE_SIZE 4096
#define NAN_BITS GPT2_NOT_A_NAME
#define DOMAIN 1
#define OVERFLOW 3
#define UNDERFLOW 4
#define EMPTY 0
// Checks of other libraries; Objective-C's, Arduino's, Perl's and Qt's words.
#define check(condition) GPT2_NOT_A_NAME
#define verify(condition) GPT2_NOT_A_NAME
#define require(condition, label) GPT2_NOT_A_NAME
#define CHECK(condition) GPT2_NOT_A_NAME
#define REQUIRE(condition) GPT2_NOT_A_NAME
#define ASSERT(condition) GPT2_NOT_A_NAME
#define LOG(level) GPT2_NOT_A_NAME
#define FATAL GPT2_NOT_A_NAME
#define INFO GPT2_NOT_A_NAME
#define WARNING GPT2_NOT_A_NAME
#define DEBUG 1
#define nil nullptr
#define Nil nullptr
#define YES 1
#define NO 0
#define B1 1
#define F1 GPT2_NOT_A_NAME
#define HIGH 1
#define LOW 0
#define PI 3.14
#define bit(b) (1UL << (b))
#define sq(x) ((x) * (x))
#define constrain(x, low, high) GPT2_NOT_A_NAME
#define slots
#define signals public
#define emit
#define foreach GPT2_NOT_A_NAME
#define forever for (;;)
#define VERSION "1.0"
#define PACKAGE "other"
#define likely(x) (x)
#define unlikely(x) (x)
#define countof(x) (sizeof(x) / sizeof((x)[0]))
#define offset_of GPT2_NOT_A_NAME
#define container_of GPT2_NOT_A_NAME

#include "gpt2/gpt2.hpp"
#include "units.hpp"

gpt2::GPT2Config small_config() {
  return gpt2::parse_config(R"({"vocab_size": 11, "n_positions": 7, "n_embd": 4, "n_head": 2})");
}

gpt2::Matrix<float> embed_elsewhere(const std::vector<int>& ids) {
  return gpt2::GPT2Embeddings<float>(small_config())(ids);
}
