// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The names that errors give to arguments.

#include "gpt2/version.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// The table that an operation uses, and the argument that holds the ids or hidden states for it.
struct ArgumentName {
  const char* table;
  const char* name;
  const char* bound_name = nullptr;  // the config's name for the table's rows, if that helps
};

inline constexpr ArgumentName ids_argument{"embedding", "ids"};
inline constexpr ArgumentName input_ids_argument{"wte", "input_ids"};
inline constexpr ArgumentName token_type_ids_argument{"wte", "token_type_ids"};
inline constexpr ArgumentName position_ids_argument{"wpe", "position_ids", "n_positions"};

}  // namespace gpt2::detail
