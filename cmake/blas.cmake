# SPDX-License-Identifier: MIT
#
# gpt2::embeddings_blas: the library, with the head's large products done by the BLAS that find_package(BLAS) finds.
# BLA_VENDOR chooses one. Installed packages define the target if find_package requests the component `blas`.

find_package(BLAS REQUIRED)
add_library(gpt2_embeddings_blas INTERFACE)
add_library(gpt2::embeddings_blas ALIAS gpt2_embeddings_blas)
target_link_libraries(gpt2_embeddings_blas INTERFACE gpt2_embeddings BLAS::BLAS)
target_compile_definitions(gpt2_embeddings_blas INTERFACE EIGEN_USE_BLAS)
