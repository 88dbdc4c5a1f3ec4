// SPDX-License-Identifier: MIT
//
// Times of the layers over the ranks that it is started with, beside those of the usual alternatives: rows of zeros
// summed by MPI_Allreduce, the head in one process, MPI_Allreduce of a gradient. Medians of 9; nothing is asserted.
//
//     mpirun -np 2 mpi_times

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <gpt2/mpi.hpp>
#include <random>
#include <thread>
#include <vector>

namespace {

/// Milliseconds of a call that all ranks make: of the slowest.
double median_time(const gpt2::Communicator& comm, const std::function<void()>& action) {
  std::vector<double> times;
  for (int i = 0; i < 10; ++i) {
    MPI_Barrier(comm.get());
    const auto begin = std::chrono::steady_clock::now();
    action();
    double time = std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
    MPI_Allreduce(MPI_IN_PLACE, &time, 1, MPI_DOUBLE, MPI_MAX, comm.get());
    if (i > 0) times.push_back(time);  // the first one makes buffers
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

void report(const gpt2::Communicator& comm, const char* name, double time, const char* other_name,
            double other) {
  if (comm.rank() != 0) return;
  std::printf("%-28s %9.3f ms   %-32s %9.3f ms   %5.2f\n", name, time, other_name, other, time / other);
}

/// Ids as frequent as words: id has a share of 1 / (id + 1).
gpt2::IdMatrix<int> words(gpt2::Index tokens, int vocabulary, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> even(0, std::log(vocabulary + 1.0));
  gpt2::IdMatrix<int> ids(1, tokens);
  for (gpt2::Index i = 0; i < tokens; ++i) {
    ids(0, i) = std::min(static_cast<int>(std::exp(even(random))) - 1, vocabulary - 1);
  }
  return ids;
}

void measure(const gpt2::Communicator& comm) {
  constexpr gpt2::Index width = 768;
  constexpr int vocabulary = 50257;
  constexpr gpt2::Index tokens = 4096;
  gpt2::ShardedEmbedding<float> table(comm, gpt2::Batch::same, vocabulary, width);
  const gpt2::IdMatrix<int> ids = words(tokens, vocabulary, 1);
  gpt2::Matrix<float> out(tokens, width);
  const double lookup = median_time(comm, [&] { table.forward_into(ids, out); });
  const gpt2::Index first = table.first_row();
  const double padded = median_time(comm, [&] {
    for (gpt2::Index i = 0; i < tokens; ++i) {
      const gpt2::Index row = ids(0, i) - first;
      if (row < 0 || row >= table.shard().num_embeddings()) {
        out.row(i).setZero();
      } else {
        out.row(i) = table.shard().weight().row(row);
      }
    }
    MPI_Allreduce(MPI_IN_PLACE, out.data(), static_cast<int>(out.size()), MPI_FLOAT, MPI_SUM, comm.get());
  });
  report(comm, "lookup of words, same", lookup, "MPI_Allreduce of padded rows", padded);

  for (const gpt2::Index rows : {gpt2::Index{12566}, gpt2::Index{1024}}) {
    gpt2::Matrix<float> gradient = gpt2::Matrix<float>::Zero(rows, width);
    const double ordered = median_time(comm, [&] { gpt2::all_reduce(comm, gradient); });
    const double any = median_time(comm, [&] {
      MPI_Allreduce(MPI_IN_PLACE, gradient.data(), static_cast<int>(gradient.size()), MPI_FLOAT, MPI_SUM,
                    comm.get());
    });
    report(comm, rows > 2000 ? "all_reduce of 38.6 MB" : "all_reduce of 3.1 MB", ordered, "MPI_Allreduce",
           any);
  }

  const gpt2::Matrix<float> hidden = out.topRows(16);
  const gpt2::IdMatrix<int> labels = ids.leftCols(16);
  gpt2::Matrix<float> grad_hidden(16, width);
  const double loss =
      median_time(comm, [&] { (void)gpt2::cross_entropy_into(table, hidden, labels, grad_hidden); });
  double alone = 0;
  if (comm.rank() == 0) {
    const gpt2::Communicator self(MPI_COMM_SELF);
    gpt2::Embedding<float> whole(vocabulary, width);
    alone = median_time(self, [&] { (void)gpt2::cross_entropy_into(whole, hidden, labels, grad_hidden); });
  }
  // The others wait without taking a processor's time.
  MPI_Request request = MPI_REQUEST_NULL;
  MPI_Ibarrier(comm.get(), &request);
  for (int done = 0; done == 0;) {
    MPI_Test(&request, &done, MPI_STATUS_IGNORE);
    if (done == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  report(comm, "cross_entropy of 16, same", loss, "one process", alone);
}

}  // namespace

int main(int argc, char** argv) {
  int level = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
  measure(gpt2::Communicator(MPI_COMM_WORLD));
  MPI_Finalize();
}
