// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The agreement of ranks before anything is exchanged: all of them are in the same operation, none has an error, and
/// the arguments that must be the same are.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <optional>
#include <string>

#include "gpt2/communicator.hpp"
#include "gpt2/detail/mpi/errors.hpp"
#include "gpt2/detail/mpi/hash.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// The collective operations. The steps of an operation have its name.
enum class Operation : std::uint64_t {
  communicator,
  sharded_embedding,
  sharded_gpt2_embeddings,
  lookup,
  backward,
  sparse_backward,
  sum,
  sum_backward,
  all_reduce_dense,
  all_reduce_sparse,
  top_k,
  cross_entropy,
  cross_entropy_loss,
  from_pretrained,
  save_pretrained,
};
inline constexpr std::array<const char*, 15> operation_names{"Communicator",
                                                             "ShardedEmbedding",
                                                             "ShardedGPT2Embeddings",
                                                             "lookup",
                                                             "backward",
                                                             "sparse_backward",
                                                             "sum",
                                                             "backward of the sum",
                                                             "all_reduce(dense)",
                                                             "all_reduce(sparse)",
                                                             "top_k",
                                                             "cross_entropy",
                                                             "cross_entropy_loss",
                                                             "from_pretrained",
                                                             "save_pretrained"};
[[nodiscard]] inline std::string name_of(std::uint64_t operation) {
  return operation < operation_names.size() ? operation_names[static_cast<std::size_t>(operation)] : "?";
}

/// The arguments of an operation that must be the same on all ranks, in the operation's own order.
class SharedArguments {
 public:
  static constexpr std::size_t most = 26;

  void add(const char* name, Index value) { add(name, Kind::integer, static_cast<std::uint64_t>(value)); }
  void add(const char* name, double value) { add(name, Kind::real, std::bit_cast<std::uint64_t>(value)); }
  void add_seed(const char* name, std::uint64_t value) { add(name, Kind::natural, value); }
  void add_hash(const char* name, std::uint64_t hash) { add(name, Kind::hash, hash); }
  void add(const char* name, const std::optional<Index>& row) {
    add(name, Kind::row, row ? static_cast<std::uint64_t>(*row) : no_row);
  }
  /// A choice of words, by their place in a list that ends with null.
  void add(const char* name, const char* const* words, std::size_t choice) {
    add(name, Kind::word, choice);
    arguments_[size_ - 1].words = words;
  }

  /// The bits that are compared.
  [[nodiscard]] std::array<std::uint64_t, most> bits() const {
    std::array<std::uint64_t, most> all{};
    for (std::size_t i = 0; i < size_; ++i) all[i] = arguments_[i].bits;
    return all;
  }

  /// Throws: ArgumentError for the first argument that is not the one of rank 0.
  void throw_difference(const std::array<std::uint64_t, most>& of_rank_0) const {
    for (std::size_t i = 0; i < size_; ++i) {
      const Argument& own = arguments_[i];
      const std::uint64_t other = of_rank_0[i];
      if (own.bits == other) continue;
      switch (own.kind) {
        case Kind::integer:
          throw ArgumentError(own.name, static_cast<std::int64_t>(own.bits),
                              "is not rank 0's, " + to_text(static_cast<std::int64_t>(other)));
        case Kind::natural:
          throw ArgumentError(own.name, own.bits, "is not rank 0's, " + to_text(other));
        case Kind::real:
          throw ArgumentError(own.name, std::bit_cast<double>(own.bits),
                              "is not rank 0's, " + to_text(std::bit_cast<double>(other)));
        case Kind::hash:
          throw ArgumentError(own.name, own.bits, "is a hash of other values than rank 0's");
        case Kind::row:
          throw ArgumentError(own.name, std::string(own.name) + " = " + row_text(own.bits) +
                                            " is not rank 0's, " + row_text(other));
        case Kind::word:
          throw ArgumentError(own.name, std::string(own.name) + " = " + own.words[own.bits] +
                                            " is not rank 0's, " + own.words[other]);
      }
    }
    throw ArgumentError("arguments", "arguments are not those of rank 0");
  }

 private:
  enum class Kind { integer, natural, real, hash, row, word };
  struct Argument {
    const char* name = nullptr;
    Kind kind = Kind::integer;
    std::uint64_t bits = 0;
    const char* const* words = nullptr;
  };
  static constexpr std::uint64_t no_row = (std::numeric_limits<std::uint64_t>::max)();

  void add(const char* name, Kind kind, std::uint64_t bits) { arguments_[size_++] = {name, kind, bits}; }
  [[nodiscard]] static std::string row_text(std::uint64_t bits) {
    return bits == no_row ? "none" : to_text(static_cast<std::int64_t>(bits));
  }

  std::array<Argument, most> arguments_;
  std::size_t size_ = 0;
};

/// The state of consecutive ranks: the only message if they agree.
struct Ballot {
  static constexpr std::int64_t nobody = (std::numeric_limits<std::int64_t>::max)();

  std::uint64_t operation = 0;      // of the first of them
  std::int64_t rank = 0;            // the first of them
  std::int64_t failed = nobody;     // the lowest that has an error
  std::int64_t stranger = nobody;   // the lowest that is in another operation
  std::uint64_t strange = 0;        // that operation
  std::int64_t different = nobody;  // the lowest with other arguments
  std::int64_t spare = 0;
  std::array<std::uint64_t, SharedArguments::most> arguments{};  // of the first of them

  /// Adds the state of the ranks that come next.
  void add(const Ballot& next) noexcept {
    if (failed == nobody) failed = next.failed;
    if (different == nobody) {
      different = operation == next.operation && arguments != next.arguments ? next.rank : next.different;
    }
    if (stranger != nobody) return;
    if (operation != next.operation) {
      stranger = next.rank;
      strange = next.operation;
    } else if (next.stranger != nobody) {
      stranger = next.stranger;
      strange = next.strange;
    }
  }
};
static_assert(sizeof(Ballot) == 264);

/// MPI's operation on ballots: `second` becomes the sum of both. Not commutative.
extern "C" inline void gpt2_embeddings_add_ballots(void* first, void* second, int* size,
                                                   MPI_Datatype* /*type*/) {
  for (int i = 0; i < *size; ++i) {
    Ballot sum;
    Ballot next;
    auto* const result = static_cast<std::byte*>(second) + static_cast<std::size_t>(i) * sizeof(Ballot);
    std::memcpy(&sum, static_cast<const std::byte*>(first) + static_cast<std::size_t>(i) * sizeof(Ballot),
                sizeof(Ballot));
    std::memcpy(&next, result, sizeof(Ballot));
    sum.add(next);
    std::memcpy(result, &sum, sizeof(Ballot));
  }
}

/// MPI's handles for agreements. They are not tied to a communicator.
class BallotBox {
 public:
  BallotBox() {
    check_mpi("MPI_Type_contiguous", MPI_Type_contiguous(int{sizeof(Ballot)}, MPI_BYTE, &type_));
    check_mpi("MPI_Type_commit", MPI_Type_commit(&type_));
    check_mpi("MPI_Op_create", MPI_Op_create(gpt2_embeddings_add_ballots, 0, &add_));
  }
  BallotBox(const BallotBox&) = delete;
  BallotBox& operator=(const BallotBox&) = delete;
  ~BallotBox() {
    int finalized = 0;
    if (MPI_Finalized(&finalized) != MPI_SUCCESS || finalized != 0) return;
    if (add_ != MPI_OP_NULL) (void)MPI_Op_free(&add_);
    if (type_ != MPI_DATATYPE_NULL) (void)MPI_Type_free(&type_);
  }

  /// Throws the error of one rank on all of them: see mpi.hpp.
  void settle(MPI_Comm comm, int rank, int size, Operation operation, const SharedArguments& arguments,
              const std::exception_ptr& error) const {
    Ballot own;
    own.operation = static_cast<std::uint64_t>(operation);
    own.rank = rank;
    own.failed = error ? rank : Ballot::nobody;
    own.arguments = arguments.bits();
    Ballot all = own;
    if (size > 1) check_mpi("MPI_Allreduce", MPI_Allreduce(&own, &all, 1, type_, add_, comm));
    if (all.stranger != Ballot::nobody) throw_stranger(all);
    if (all.failed != Ballot::nobody) throw_error(comm, rank, size, static_cast<int>(all.failed), error);
    if (all.different != Ballot::nobody) {
      std::exception_ptr difference;
      if (all.different == rank) {
        try {
          arguments.throw_difference(all.arguments);
        } catch (...) {
          difference = std::current_exception();
        }
      }
      throw_error(comm, rank, size, static_cast<int>(all.different), difference);
    }
  }

 private:
  [[noreturn]] static void throw_stranger(const Ballot& all) {
    const MpiError error("", MPI_ERR_OTHER,
                         "called " + name_of(all.strange) + " where rank 0 called " + name_of(all.operation));
    throw OnRank<MpiError>(error, static_cast<int>(all.stranger));
  }

  /// Throws the error of rank `root` on all.
  [[noreturn]] static void throw_error(MPI_Comm comm, int rank, int size, int root,
                                       const std::exception_ptr& error) {
    std::string bytes;
    if (rank == root) bytes = ErrorWriter::bytes_of(error);
    bool has_memory = true;
    if (size > 1) {
      std::uint64_t length = bytes.size();
      check_mpi("MPI_Bcast", MPI_Bcast(&length, int{sizeof(length)}, MPI_BYTE, root, comm));
      std::array<char, 4096> piece{};
      for (std::uint64_t begin = 0; begin < length; begin += piece.size()) {
        const auto part = static_cast<std::size_t>((std::min<std::uint64_t>)(piece.size(), length - begin));
        if (rank == root) bytes.copy(piece.data(), part, static_cast<std::size_t>(begin));
        check_mpi("MPI_Bcast", MPI_Bcast(piece.data(), static_cast<int>(part), MPI_BYTE, root, comm));
        if (rank == root) continue;
        try {
          bytes.append(piece.data(), part);
        } catch (const std::bad_alloc&) {
          has_memory = false;
        }
      }
    }
    if (!has_memory) throw OnRank<std::bad_alloc>(rank);
    ErrorReader(bytes).throw_on(root);
  }

  MPI_Datatype type_ = MPI_DATATYPE_NULL;
  MPI_Op add_ = MPI_OP_NULL;
};

}  // namespace gpt2::detail
