// SPDX-License-Identifier: MIT
//
// Training on any number of ranks: to write every other letter as a capital, "positions" as "PoSiTiOnS", as in
// train_positions.cpp. The token table is divided among the ranks, each rank has its part of every batch, and the
// losses are those of one process.
//
//     mpirun -np 3 ./train_sharded

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <gpt2/mpi.hpp>
#include <map>
#include <optional>
#include <random>
#include <string_view>

namespace {

using Ids = gpt2::IdMatrix<std::int64_t>;
using Table = gpt2::Embedding<float>;

constexpr int letters = 26;  // ids 0 to 25 are a to z, 26 to 51 are A to Z
constexpr int steps = 40;
constexpr gpt2::Index batch_size = 12;
const gpt2::GPT2Config config{.vocab_size = gpt2::Index{2} * letters,
                              .n_positions = 16,
                              .n_embd = 16,
                              .n_layer = 1,
                              .n_head = 1,
                              .initializer_range = 0.2,
                              .bos_token_id = std::nullopt,
                              .eos_token_id = std::nullopt};

/// Adam for the rows of a table that this rank has.
class Adam {
 public:
  void step(Table& table) {
    if (step_++ == 0) {
      mean_.setZero(table.num_embeddings(), table.embedding_dim());
      square_ = mean_;
    }
    mean_ = 0.9F * mean_ + 0.1F * table.grad();
    square_ = 0.99F * square_ + 0.01F * table.grad().cwiseAbs2();
    const auto mean = mean_.array() / (1 - std::pow(0.9F, step_));
    const auto square = square_.array() / (1 - std::pow(0.99F, step_));
    const float learning_rate = 0.05F * (1 - step_ / (steps + 1));
    table.mutable_weight().array() -= learning_rate * mean / (square.sqrt() + 1e-8F);
    table.zero_grad();
  }

 private:
  gpt2::Matrix<float> mean_;
  gpt2::Matrix<float> square_;
  float step_ = 0;
};

/// The text to learn: capitals in the places 0, 2, 4, ….
Ids with_capitals(Ids ids) {
  for (gpt2::Index place = 0; place < ids.cols(); place += 2) ids.col(place).array() += letters;
  return ids;
}

/// This rank's sequences of a batch, which all ranks draw alike.
Ids own_part(const Ids& batch, const gpt2::Communicator& comm) {
  const gpt2::Index begin = batch.rows() * comm.rank() / comm.size();
  const gpt2::Index end = batch.rows() * (comm.rank() + 1) / comm.size();
  return batch.middleRows(begin, end - begin);
}

void train(const gpt2::Communicator& comm) {
  gpt2::ShardedGPT2Embeddings<float> embeddings(comm, gpt2::Batch::own, config, 1);
  std::map<std::string_view, Adam> adam;
  std::mt19937 random(3);  // NOLINT(cert-msc32-c,cert-msc51-cpp): the same numbers on each rank
  for (int step = 0; step <= steps; ++step) {
    Ids batch(batch_size, config.n_positions);
    for (gpt2::Index i = 0; i < batch.size(); ++i) batch.data()[i] = static_cast<int>(random() % letters);
    const Ids ids = own_part(batch, comm);
    const auto hidden = embeddings(ids);  // rows come from the ranks that have them
    const auto [loss, grad] =
        gpt2::cross_entropy(embeddings.wte, hidden, with_capitals(ids));  // of all ranks
    if (step % 8 == 0 && comm.rank() == 0)
      std::printf("step %2d: loss %.3f\n", step, static_cast<double>(loss));
    embeddings.backward(ids, gpt2::PastLength{0}, grad);  // rows go to the ranks that own them
    for (auto& [name, table] : embeddings.parameters()) adam[name].step(*table);
  }
}

}  // namespace

int main(int argc, char** argv) {
  int level = MPI_THREAD_SINGLE;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
  try {
    train(gpt2::Communicator(MPI_COMM_WORLD));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    MPI_Abort(MPI_COMM_WORLD, 1);
  }
  MPI_Finalize();
}
