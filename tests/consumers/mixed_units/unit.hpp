// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Results that each translation unit computes with the library, which neither this file nor main.cpp includes.

#include <vector>

/// Tables of `width` columns, and the ids and states that are looked up in and multiplied with them.
struct Inputs {
  int rows;
  int width;
  std::vector<float> table;  // [rows, width], of numbers that half and bfloat16 have
  std::vector<long long> ids;
  int states;
  std::vector<float> hidden;  // [states, width]
};

/// Of the table stored as float, half, bfloat16 and int8.
struct Results {
  std::vector<float> lookups[4];  // [ids, width]
  std::vector<float> logits[4];   // [states, rows]
};

namespace baseline {
Results compute(const Inputs& inputs);
}
namespace as_compiled {
Results compute(const Inputs& inputs);
}
namespace avx {
Results compute(const Inputs& inputs);
}
namespace avx2 {
Results compute(const Inputs& inputs);
}
