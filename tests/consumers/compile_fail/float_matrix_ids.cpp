// SPDX-License-Identifier: MIT
//
// Ids are integers: hidden states in the place of ids are refused.
// expect: ids_must_be_integers_not_floating_point_or_bool

#include <Eigen/Core>
#include <gpt2/embedding.hpp>

#ifdef GPT2_COMPILE_FAIL
using Ids = Eigen::MatrixXf;
#else
using Ids = Eigen::MatrixXi;
#endif

gpt2::Tensor3<float> look_up(const gpt2::Embedding<float>& table, const Ids& ids) { return table(ids); }
