// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The processes that share an operation, over MPI (3.1), and the errors that all of them throw.

#ifndef OMPI_SKIP_MPICXX
/// Leaves out Open MPI's C++ binding.
#define OMPI_SKIP_MPICXX 1
#endif
#ifndef MPICH_SKIP_MPICXX
/// Leaves out MPICH's C++ binding.
#define MPICH_SKIP_MPICXX 1
#endif
#include <mpi.h>

#include <array>
#include <cstddef>
#include <memory>
#include <new>
#include <string>
#include <string_view>

#include "gpt2/error.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// MPI cannot be used, an MPI function failed, or ranks are in different operations.
class GPT2_EMBEDDINGS_VISIBLE MpiError : public Error {
 public:
  /// \param function  the MPI function that failed; empty if none did
  /// \param code      the error class
  /// \param problem   the fault
  MpiError(std::string_view function, int code, std::string_view problem)
      : Error("[gpt2.mpi_error] " + std::string(function) + (function.empty() ? "" : ": ") +
              std::string(problem)),
        details_(Details{std::string(function), code}) {}

  /// The MPI function that failed; empty if none did.
  [[nodiscard]] const std::string& function() const noexcept { return details_->function; }
  /// The error class of MPI. If no function failed: MPI_ERR_COMM for a communicator that cannot be used, otherwise
  /// MPI_ERR_OTHER.
  [[nodiscard]] int code() const noexcept { return details_->code; }

 private:
  struct Details {
    std::string function;
    int code;
  };
  detail::SharedDetails<Details> details_;
};

/// An error that a collective operation throws on all ranks. E is IndexError, ShapeError, ArgumentError, ConfigError,
/// CheckpointError, MpiError, Error (for foreign exceptions: `[gpt2.error] rank 1: …`) or std::bad_alloc. The members
/// are those of the error on its rank.
template <class E>
class GPT2_EMBEDDINGS_VISIBLE OnRank : public E {
 public:
  /// The error of a rank.
  OnRank(const E& error, int rank);

  /// The rank on which it occurred; the lowest, if on several.
  [[nodiscard]] int rank() const noexcept { return rank_; }
  /// The error's text with `rank R: ` after its tag.
  [[nodiscard]] const char* what() const noexcept override { return text_->data(); }

 private:
  int rank_;
  detail::SharedDetails<std::string> text_;
};
/// Allocates nothing: `rank R: std::bad_alloc`.
template <>
class GPT2_EMBEDDINGS_VISIBLE OnRank<std::bad_alloc> : public std::bad_alloc {
 public:
  /// Memory ran out on that rank.
  explicit OnRank(int rank) noexcept;
  /// The rank on which it occurred; the lowest, if on several.
  [[nodiscard]] int rank() const noexcept { return rank_; }
  /// `rank R: std::bad_alloc`.
  [[nodiscard]] const char* what() const noexcept override { return text_.data(); }

 private:
  int rank_;
  std::array<char, 32> text_{};
};

/// The options of a communicator.
struct CommunicatorOptions {
  /// Rows, ids and gradients travel in messages of at most this size: in [1, 2^31 - 1], the same on all ranks.
  std::size_t max_message_bytes = std::size_t{1} << 30;
};

namespace detail {
class Channel;
}

/// A duplicate of the user's communicator, shared by its copies and by tables: the library's messages never mix with
/// the user's. The last copy frees it (all ranks should destroy in the same order), or does nothing after MPI_Finalize.
/// Only one thread at a time may use it; that thread makes all calls of MPI.
class Communicator {
 public:
  /// Collective over users.
  /// Throws: ArgumentError if max_message_bytes is outside its range, or not the same on all ranks; local MpiError if MPI
  /// is not initialised, has been finalised or may not be called by this thread, or if users is MPI_COMM_NULL or an
  /// intercommunicator.
  explicit Communicator(MPI_Comm users, const CommunicatorOptions& options = {});

  /// This process's number. Local, as are the functions below.
  [[nodiscard]] int rank() const noexcept;
  /// The number of ranks.
  [[nodiscard]] int size() const noexcept;
  /// The duplicate of the user's communicator.
  [[nodiscard]] MPI_Comm get() const noexcept;
  /// The option.
  [[nodiscard]] std::size_t max_message_bytes() const noexcept;

 private:
  friend detail::Channel& channel_of(const Communicator& comm) noexcept { return *comm.channel_; }

  std::shared_ptr<detail::Channel> channel_;
};

}  // namespace gpt2

#include "gpt2/detail/mpi/agreement.hpp"
#include "gpt2/detail/mpi/communicator.hpp"
#include "gpt2/detail/mpi/errors.hpp"
