// SPDX-License-Identifier: MIT
//
// The head of a program that has a BLAS.

#include <cstdio>
#include <gpt2/lm_head.hpp>

#ifndef EIGEN_USE_BLAS
#error "the target tells Eigen of the BLAS"
#endif

int main() {
  const gpt2::Embedding<float> wte(gpt2::Matrix<float>::Constant(300, 8, 0.5F));
  const gpt2::Matrix<float> logits = gpt2::logits(wte, gpt2::Matrix<float>::Ones(100, 8).eval());
  std::printf("%g\n", static_cast<double>(logits(99, 299)));
  return (logits.array() == 4).all() ? 0 : 1;
}
