// SPDX-License-Identifier: MIT
//
// Compiled for AVX2 and linked first: a kernel that the other units also have. If it had the same name there, they
// would use this one, with registers of another width than they reckon with.

#include <gpt2/detail/kernels/dot_products.hpp>

template void gpt2::detail::CompiledProducts<float>::write<1, gpt2::detail::rows_for_few_states, false,
                                                           float>(gpt2::Index, const float* const*,
                                                                  const float* const*, const float* const*,
                                                                  float*);
