// SPDX-License-Identifier: MIT
//
// Runs the operations of mpi.hpp and counts the bytes given to MPI_Isend, through MPI's profiling interface; then
// compares them with the formulas of model.hpp. Ids are uniform, so that each rank owns about as many.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <gpt2/mpi.hpp>
#include <random>
#include <set>
#include <string>

#include "model.hpp"

namespace {
double bytes_sent = 0;
double messages_sent = 0;
}  // namespace

extern "C" int MPI_Isend(const void* data, int count, MPI_Datatype type, int to, int tag, MPI_Comm comm,
                         MPI_Request* request) {
  bytes_sent += count;  // of MPI_BYTE
  ++messages_sent;
  return PMPI_Isend(data, count, type, to, tag, comm, request);
}

namespace {

/// The mean over all ranks of what one call sends.
model::Cost counted(const gpt2::Communicator& comm, const std::function<void()>& action) {
  bytes_sent = messages_sent = 0;
  action();
  double sums[] = {bytes_sent, messages_sent};
  MPI_Allreduce(MPI_IN_PLACE, sums, 2, MPI_DOUBLE, MPI_SUM, comm.get());
  return {"", sums[0] / comm.size(), sums[1] / comm.size(), 0};
}

}  // namespace

int main(int argc, char** argv) {
  int level = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
  int failures = 0;
  {
    const gpt2::Communicator comm(MPI_COMM_WORLD);
    model::Setting setting;
    setting.ranks = comm.size();
    setting.tokens = 600;
    setting.width = 64;
    setting.vocabulary = 5000;
    setting.positions = 300;
    const auto ids_of = [&](int rank) {
      std::mt19937 random(static_cast<unsigned>(rank));
      gpt2::IdMatrix<int> ids(2, 300);
      for (gpt2::Index i = 0; i < ids.size(); ++i) ids.data()[i] = static_cast<int>(random() % 5000);
      return ids;
    };
    std::set<int> of_all;
    for (int r = 0; r < comm.size(); ++r) {
      const gpt2::IdMatrix<int> ids = ids_of(r);
      const std::set<int> own(ids.data(), ids.data() + ids.size());
      setting.different += static_cast<double>(own.size()) / comm.size();
      of_all.insert(own.begin(), own.end());
    }
    setting.different_of_all = static_cast<double>(of_all.size());
    const gpt2::IdMatrix<int> ids = ids_of(comm.rank());
    const gpt2::IdMatrix<int> first = ids_of(0);
    gpt2::Matrix<float> grad = gpt2::Matrix<float>::Constant(600, 64, 0.01F);

    using gpt2::Batch;
    using gpt2::GradientOrder;
    gpt2::ShardedEmbedding<float> same(comm, Batch::same, 5000, 64);
    gpt2::ShardedEmbedding<float> own(comm, Batch::own, 5000, 64);
    gpt2::ShardedEmbedding<float> by_ranks(comm, Batch::own, 5000, 64,
                                           {.gradient_order = GradientOrder::ranks});
    gpt2::ShardedGPT2Embeddings<float> layer(own, gpt2::Embedding<float>(300, 64));
    gpt2::Matrix<float> dense = gpt2::Matrix<float>::Ones(5000, 64);
    const auto sparse = gpt2::Embedding<float>(5000, 64).sparse_backward(ids, grad);
    const std::function<void()> actions[] = {
        [&] { (void)same(first); },
        [&] { (void)own(ids); },
        [&] { same.backward(first, grad); },
        [&] { own.backward(ids, grad); },
        [&] { by_ranks.backward(ids, grad); },
        [&] { layer.backward(ids, grad); },
        [&] { gpt2::all_reduce(comm, dense); },
        [&] { (void)gpt2::all_reduce(comm, sparse); },
        [&] { (void)gpt2::top_k(same, grad, 50); },
        [&] { (void)gpt2::top_k(own, grad, 50); },
        [&] { (void)gpt2::cross_entropy(same, grad, first); },
        [&] { (void)gpt2::cross_entropy(own, grad, ids); },
    };
    if (comm.rank() == 0) std::printf("%-24s %12s %12s\n", "operation", "counted", "formula");
    const std::vector<model::Cost> expected = model::costs(setting);
    const double backward = expected[3].bytes;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const model::Cost found = counted(comm, actions[i]);
      // The sum sends what the table's backward does as well.
      const double formula = expected[i].bytes + (expected[i].operation.starts_with("sum") ? backward : 0);
      const bool is_right = std::abs(found.bytes - formula) <= 0.06 * formula;
      if (comm.rank() != 0) continue;
      std::printf("%-24s %12.0f %12.0f%s\n", expected[i].operation.c_str(), found.bytes, formula,
                  is_right ? "" : "  not the same");
      failures += is_right ? 0 : 1;
    }
    MPI_Bcast(&failures, 1, MPI_INT, 0, comm.get());
  }
  MPI_Finalize();
  return failures == 0 ? 0 : 1;
}
