// SPDX-License-Identifier: MIT
#pragma once

#include <gpt2/config.hpp>
#include <gpt2/types.hpp>
#include <vector>

gpt2::GPT2Config small_config();
gpt2::Matrix<float> embed_elsewhere(const std::vector<int>& ids);
