// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// OpenFile and renaming, for the system that this is compiled for.

#include "gpt2/detail/files/open_file.hpp"  // IWYU pragma: export

#if defined(_WIN32)
#include "gpt2/detail/files/windows.hpp"
#else
#include "gpt2/detail/files/posix.hpp"
#endif
