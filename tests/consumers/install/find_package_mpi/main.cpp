// SPDX-License-Identifier: MIT

#include <cstdio>
#include <gpt2/mpi.hpp>

#if !defined(OMPI_SKIP_MPICXX) || !defined(MPICH_SKIP_MPICXX)
#error "the target's definitions are missing"
#endif

int main(int argc, char** argv) {
  int level = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
  gpt2::Index rows = 0;
  {
    const gpt2::Communicator comm(MPI_COMM_WORLD);
    const gpt2::ShardedEmbedding<float> table(comm, gpt2::Batch::own, 50, 4);
    rows = table({1, 2}).rows();
  }
  MPI_Finalize();
  std::printf("%d rows\n", static_cast<int>(rows));
  return rows == 2 ? 0 : 1;
}
