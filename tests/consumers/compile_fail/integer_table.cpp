// SPDX-License-Identifier: MIT
//
// A table holds floating-point numbers.
// expect: (satisfaction of|not satisfy)[^A-Za-z]*Scalar

#include <gpt2/embedding.hpp>

#ifdef GPT2_COMPILE_FAIL
using T = int;
#else
using T = float;
#endif

gpt2::Index rows(const gpt2::Embedding<T>& table) { return table.num_embeddings(); }
