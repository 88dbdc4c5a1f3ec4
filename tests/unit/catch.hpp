// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Catch2, whichever of its two major versions is installed.

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;  // version 2 has it in the global namespace
#else
#include <catch2/catch.hpp>
#endif
