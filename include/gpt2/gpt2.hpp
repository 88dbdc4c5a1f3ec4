// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// All headers but mpi.hpp and communicator.hpp, which need MPI. Including single ones (embedding.hpp, embeddings.hpp,
/// …) compiles faster; of them, only config_json.hpp, safetensors.hpp, checkpoint.hpp, pretrained.hpp and
/// quantized_checkpoint.hpp parse JSON.

#include "gpt2/checkpoint.hpp"
#include "gpt2/config.hpp"
#include "gpt2/config_json.hpp"
#include "gpt2/device.hpp"
#include "gpt2/dropout.hpp"
#include "gpt2/dtype.hpp"
#include "gpt2/embedding.hpp"
#include "gpt2/embeddings.hpp"
#include "gpt2/error.hpp"
#include "gpt2/hidden.hpp"
#include "gpt2/ids.hpp"
#include "gpt2/initialization.hpp"
#include "gpt2/lm_head.hpp"
#include "gpt2/position_embeddings.hpp"
#include "gpt2/position_ids.hpp"
#include "gpt2/pretrained.hpp"
#include "gpt2/quantized_checkpoint.hpp"
#include "gpt2/quantized_embedding.hpp"
#include "gpt2/random.hpp"
#include "gpt2/resize.hpp"
#include "gpt2/safetensors.hpp"
#include "gpt2/scalar.hpp"
#include "gpt2/sparse_gradient.hpp"
#include "gpt2/table.hpp"
#include "gpt2/types.hpp"
#include "gpt2/version.hpp"
