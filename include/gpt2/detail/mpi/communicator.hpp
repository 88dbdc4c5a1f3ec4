// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The definitions of Communicator, and the channel that its copies share: a communicator of MPI's, agreement among
/// ranks, exchanges in pieces, and buffers that are kept.

#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <utility>
#include <vector>

#include "gpt2/communicator.hpp"
#include "gpt2/detail/mpi/agreement.hpp"
#include "gpt2/device.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

namespace detail {

/// Throws: MpiError if MPI cannot be called at all, or not by this thread.
inline void check_mpi_is_usable() {
  int flag = 0;
  check_mpi("MPI_Initialized", MPI_Initialized(&flag));
  if (flag == 0) throw MpiError("", MPI_ERR_OTHER, "MPI is not initialised: call MPI_Init_thread first");
  check_mpi("MPI_Finalized", MPI_Finalized(&flag));
  if (flag != 0) throw MpiError("", MPI_ERR_OTHER, "MPI has been finalised");
  check_mpi("MPI_Is_thread_main", MPI_Is_thread_main(&flag));
  if (flag != 0) return;
  int level = MPI_THREAD_SINGLE;
  check_mpi("MPI_Query_thread", MPI_Query_thread(&level));
  if (level < MPI_THREAD_SERIALIZED) {
    throw MpiError("", MPI_ERR_OTHER,
                   "another thread than MPI's main one calls below MPI_THREAD_SERIALIZED, which it takes");
  }
}

/// Throws: MpiError if a device has several threads, but MPI is not initialised for threads.
template <Device D>
void check_threads(const D& device) {
  if constexpr (!std::same_as<D, Eigen::DefaultDevice>) {
    int level = MPI_THREAD_SINGLE;
    check_mpi("MPI_Query_thread", MPI_Query_thread(&level));
    if (device.numThreads() > 1 && level < MPI_THREAD_FUNNELED) {
      throw MpiError("", MPI_ERR_OTHER,
                     "a device with several threads needs MPI_THREAD_FUNNELED: call MPI_Init_thread with it");
    }
  }
}

/// The number of bytes of rows * cols elements.
/// Throws: std::bad_alloc if no memory could be as large.
template <class E>
[[nodiscard]] std::size_t bytes_of(Index rows, Index cols = 1) {
  constexpr Index limit = (std::numeric_limits<Index>::max)() / Index{sizeof(E)};
  if (rows > 0 && cols > limit / rows) throw std::bad_alloc();
  return static_cast<std::size_t>(rows * cols) * sizeof(E);
}

/// Memory that is kept from one operation to the next.
class Buffer {
 public:
  /// At least rows * cols uninitialised elements. The buffer's former contents are lost.
  /// Throws: std::bad_alloc.
  template <class E>
  [[nodiscard]] E* get(Index rows, Index cols = 1) {
    const std::size_t size = bytes_of<E>(rows, cols);
    if (size > size_) {
      const std::size_t larger = (std::max)(size, size_ + size_ / 2);
      memory_.reset();
      size_ = 0;
      memory_.reset(new std::byte[larger]);
      size_ = larger;
    }
    return reinterpret_cast<E*>(memory_.get());
  }

 private:
  std::unique_ptr<std::byte[]> memory_;
  std::size_t size_ = 0;
};

/// The buffers of a channel. Each is used by one operation at a time.
enum class BufferName {
  slots,
  table,
  distinct,
  owners,
  pointers,
  ids_out,
  ids_in,
  rows_out,
  rows_in,
  position_ids_out,
  position_ids_in,
  position_rows_out,
  position_rows_in,
  sums,
  sum_ids,
  reduction_in,
  reduction_sum,
  places,
  count
};

/// The message that one rank sends to another, and the one that it receives.
struct Message {
  const void* out = nullptr;
  std::size_t out_bytes = 0;
  void* in = nullptr;
  std::size_t in_bytes = 0;
};

class Channel {
 public:
  /// Allocates all memory; open() makes the communicator.
  Channel(int rank, int size, std::size_t max_message_bytes)
      : rank_(rank), size_(size), max_message_bytes_(max_message_bytes) {
    const auto ranks = static_cast<std::size_t>(size);
    requests_.resize(2 * ranks, MPI_REQUEST_NULL);
    messages_.resize(ranks);
    counts_out_.resize(ranks);
    counts_in_.resize(ranks);
    more_counts_out_.resize(ranks);
    more_counts_in_.resize(ranks);
  }
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  ~Channel() {
    int finalized = 0;
    if (comm_ == MPI_COMM_NULL || MPI_Finalized(&finalized) != MPI_SUCCESS || finalized != 0) return;
    (void)MPI_Comm_free(&comm_);
  }

  void open(MPI_Comm users) {
    check_mpi("MPI_Comm_dup", MPI_Comm_dup(users, &comm_));
    check_mpi("MPI_Comm_set_errhandler", MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN));
  }

  [[nodiscard]] MPI_Comm comm() const noexcept { return comm_; }
  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] int size() const noexcept { return size_; }
  [[nodiscard]] std::size_t max_message_bytes() const noexcept { return max_message_bytes_; }
  [[nodiscard]] Buffer& buffer(BufferName name) noexcept { return buffers_[static_cast<std::size_t>(name)]; }

  /// For each rank: the messages, counts of rows, and a second set of counts.
  [[nodiscard]] std::span<Message> messages() noexcept { return messages_; }
  [[nodiscard]] std::span<std::int64_t> counts_out() noexcept { return counts_out_; }
  [[nodiscard]] std::span<std::int64_t> counts_in() noexcept { return counts_in_; }
  [[nodiscard]] std::span<std::int64_t> more_counts_out() noexcept { return more_counts_out_; }
  [[nodiscard]] std::span<std::int64_t> more_counts_in() noexcept { return more_counts_in_; }

  /// Calls body(arguments) on every rank, which checks, allocates, and adds the arguments that must be the same on all
  /// ranks. If a body throws, or ranks are not in the same operation with the same arguments, throws that error on all.
  template <class Body>
  void agree(Operation operation, const Body& body) {
    check_mpi_is_usable();
    SharedArguments arguments;
    std::exception_ptr error;
    try {
      body(arguments);
    } catch (...) {
      error = std::current_exception();
    }
    box_.settle(comm_, rank_, size_, operation, arguments, error);
  }

  /// Sends a number to each rank.
  void exchange_counts(std::span<const std::int64_t> out, std::span<std::int64_t> in) {
    if (size_ == 1) {
      in[0] = out[0];
      return;
    }
    check_mpi("MPI_Alltoall", MPI_Alltoall(out.data(), 1, MPI_INT64_T, in.data(), 1, MPI_INT64_T, comm_));
  }

  /// Sends and receives messages() of all other ranks, in pieces. Calls arrived(rank) for each rank in their order,
  /// this one included, when its message has arrived; others may still be on their way.
  template <class Arrived>
  void exchange(const Arrived& arrived) {
    std::exception_ptr error;
    const auto call = [&](int rank) {
      try {
        if (!error) arrived(rank);
      } catch (...) {
        error = std::current_exception();  // thrown when no rank waits for this one any more
      }
    };
    std::size_t longest = 0;
    for (int r = 0; r < size_; ++r) {
      const Message& message = messages_[static_cast<std::size_t>(r)];
      if (r != rank_) longest = (std::max)({longest, message.out_bytes, message.in_bytes});
    }
    for (std::size_t begin = 0; begin == 0 || begin < longest; begin += max_message_bytes_) {
      post(begin);
      // A message in several pieces has arrived with its last one.
      if (longest <= max_message_bytes_) {
        for (int r = 0; r < size_; ++r) {
          MPI_Request& request = requests_[2 * static_cast<std::size_t>(r)];
          if (r != rank_) check_mpi("MPI_Wait", MPI_Wait(&request, MPI_STATUS_IGNORE));
          call(r);
        }
      }
      check_mpi("MPI_Waitall", MPI_Waitall(2 * size_, requests_.data(), MPI_STATUSES_IGNORE));
    }
    if (longest > max_message_bytes_) {
      for (int r = 0; r < size_; ++r) call(r);
    }
    if (error) std::rethrow_exception(error);
  }
  void exchange() {
    exchange([](int) {});
  }

 private:
  /// Begins to receive and send the pieces at `begin` of all messages.
  void post(std::size_t begin) {
    const auto piece = [&](std::size_t bytes) {
      return bytes > begin ? (std::min)(bytes - begin, max_message_bytes_) : 0;
    };
    // Each rank begins with the next one, so that they do not all send to the same.
    for (int step = 1; step < size_; ++step) {
      const int r = (rank_ + size_ - step) % size_;
      const Message& message = messages_[static_cast<std::size_t>(r)];
      if (const std::size_t bytes = piece(message.in_bytes); bytes > 0) {
        check_mpi("MPI_Irecv", MPI_Irecv(static_cast<std::byte*>(message.in) + begin, static_cast<int>(bytes),
                                         MPI_BYTE, r, 0, comm_, &requests_[2 * static_cast<std::size_t>(r)]));
      }
    }
    for (int step = 1; step < size_; ++step) {
      const int r = (rank_ + step) % size_;
      const Message& message = messages_[static_cast<std::size_t>(r)];
      if (const std::size_t bytes = piece(message.out_bytes); bytes > 0) {
        check_mpi("MPI_Isend",
                  MPI_Isend(static_cast<const std::byte*>(message.out) + begin, static_cast<int>(bytes),
                            MPI_BYTE, r, 0, comm_, &requests_[2 * static_cast<std::size_t>(r) + 1]));
      }
    }
  }

  BallotBox box_;
  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_;
  int size_;
  std::size_t max_message_bytes_;
  std::vector<MPI_Request> requests_;  // of each rank: receiving, sending
  std::vector<Message> messages_;
  std::vector<std::int64_t> counts_out_;
  std::vector<std::int64_t> counts_in_;
  std::vector<std::int64_t> more_counts_out_;
  std::vector<std::int64_t> more_counts_in_;
  std::array<Buffer, static_cast<std::size_t>(BufferName::count)> buffers_;
};

}  // namespace detail

inline Communicator::Communicator(MPI_Comm users, const CommunicatorOptions& options) {
  detail::check_mpi_is_usable();
  if (users == MPI_COMM_NULL) throw MpiError("", MPI_ERR_COMM, "the communicator is MPI_COMM_NULL");
  int flag = 0;
  detail::check_mpi("MPI_Comm_test_inter", MPI_Comm_test_inter(users, &flag));
  if (flag != 0) throw MpiError("", MPI_ERR_COMM, "the communicator is an intercommunicator");
  int rank = 0;
  int size = 0;
  detail::check_mpi("MPI_Comm_rank", MPI_Comm_rank(users, &rank));
  detail::check_mpi("MPI_Comm_size", MPI_Comm_size(users, &size));

  const detail::BallotBox box;
  detail::SharedArguments arguments;
  std::exception_ptr error;
  try {
    constexpr auto most = static_cast<std::size_t>((std::numeric_limits<std::int32_t>::max)());
    if (options.max_message_bytes < 1 || options.max_message_bytes > most) {
      throw ArgumentError("max_message_bytes", options.max_message_bytes,
                          "is outside [1, " + detail::to_text(most) + "]");
    }
    arguments.add_seed("max_message_bytes", options.max_message_bytes);
    channel_ = std::make_shared<detail::Channel>(rank, size, options.max_message_bytes);
  } catch (...) {
    error = std::current_exception();
  }
  box.settle(users, rank, size, detail::Operation::communicator, arguments, error);
  channel_->open(users);
}

inline int Communicator::rank() const noexcept { return channel_->rank(); }
inline int Communicator::size() const noexcept { return channel_->size(); }
inline MPI_Comm Communicator::get() const noexcept { return channel_->comm(); }
inline std::size_t Communicator::max_message_bytes() const noexcept { return channel_->max_message_bytes(); }

}  // namespace gpt2
