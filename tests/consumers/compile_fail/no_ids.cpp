// SPDX-License-Identifier: MIT
//
// Ids come in an Eigen object or a range: a single number is neither.
// expect: ids_must_be_an_Eigen_object_or_a_range

#include <array>
#include <gpt2/embedding.hpp>

#ifdef GPT2_COMPILE_FAIL
using Ids = int;
#else
using Ids = std::array<int, 1>;
#endif

auto look_up(const gpt2::Embedding<float>& table, const Ids& ids) { return table(ids); }
