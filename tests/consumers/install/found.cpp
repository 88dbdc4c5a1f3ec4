// SPDX-License-Identifier: MIT
//
// Whether a project that uses the library finds it, the version that it asked for, and the headers of both dependencies.

#include <cstdio>
#include <gpt2/version.hpp>

#if !__has_include(<Eigen/Core>) || !__has_include(<unsupported/Eigen/CXX11/Tensor>)
#error "Eigen is not found"
#endif
#if !__has_include(<nlohmann/json.hpp>)
#error "nlohmann/json is not found"
#endif
#if !__has_include(<gpt2/gpt2.hpp>)
#error "only a part of the library is found"
#endif

int main() { std::printf("%d.%d.%d\n", gpt2::version_major, gpt2::version_minor, gpt2::version_patch); }
