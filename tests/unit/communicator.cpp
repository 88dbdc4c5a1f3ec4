// SPDX-License-Identifier: MIT
//
// Communicators and the errors of ranks: before MPI_Init_thread, on ranks, and after MPI_Finalize.

#include <cstdint>
#include <gpt2/communicator.hpp>
#include <limits>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include "ranks.hpp"

namespace {

using gpt2::Communicator;
using gpt2::MpiError;
using gpt2::OnRank;

/// The text of the MpiError that an action throws on this rank, whatever the others do; empty if it throws nothing, an
/// OnRank, or an error with a function or of another code.
std::string local_error(const std::function<void()>& action, int code = MPI_ERR_OTHER) {
  try {
    action();
  } catch (const MpiError& error) {
    return typeid(error) == typeid(MpiError) && error.function().empty() && error.code() == code
               ? error.what()
               : "";
  }
  return "";
}

void test_errors() {
  const MpiError plain("", MPI_ERR_OTHER, "ranks disagree");
  CHECK(std::string(plain.what()) == "[gpt2.mpi_error] ranks disagree" && plain.function().empty());
  const MpiError failed("MPI_Comm_dup", MPI_ERR_COMM, "invalid communicator");
  CHECK(std::string(failed.what()) == "[gpt2.mpi_error] MPI_Comm_dup: invalid communicator");
  CHECK(failed.function() == "MPI_Comm_dup" && failed.code() == MPI_ERR_COMM);

  const OnRank<MpiError> on_rank(failed, 3);
  const gpt2::Error& as_error = on_rank;
  CHECK(std::string(as_error.what()) == "[gpt2.mpi_error] rank 3: MPI_Comm_dup: invalid communicator");
  CHECK(on_rank.rank() == 3 && on_rank.function() == "MPI_Comm_dup" && on_rank.code() == MPI_ERR_COMM);
  const OnRank<gpt2::IndexError> index(gpt2::IndexError("wte", "input_ids", {1, 3}, 50257, 50257), 12);
  CHECK(std::string(index.what()) ==
        "[gpt2.index_error] rank 12: wte: input_ids[1, 3] = 50257 is outside [0, 50257)");
  CHECK(index.coordinates() == std::vector<std::int64_t>{1, 3} && index.value() == 50257);
  // A text without a tag, and one that only seems to have one.
  CHECK(std::string(OnRank<gpt2::Error>(gpt2::Error("no tag] "), 0).what()) == "rank 0: no tag] ");
  CHECK(std::string(OnRank<gpt2::Error>(gpt2::Error("[open"), 0).what()) == "rank 0: [open");

  constexpr int largest = (std::numeric_limits<int>::max)();
  const OnRank<std::bad_alloc> memory(largest);
  const std::bad_alloc& as_bad_alloc = memory;
  CHECK(as_bad_alloc.what() == "rank " + std::to_string(largest) + ": std::bad_alloc");
  CHECK(memory.rank() == largest &&
        std::string(OnRank<std::bad_alloc>(0).what()) == "rank 0: std::bad_alloc");

  // Exceptions are copied while they are in flight.
  static_assert(std::is_nothrow_copy_constructible_v<MpiError>);
  static_assert(std::is_nothrow_copy_constructible_v<OnRank<gpt2::IndexError>>);
  static_assert(std::is_nothrow_copy_constructible_v<OnRank<std::bad_alloc>>);
}

void test_before_init() {
  CHECK(local_error([] { (void)Communicator(MPI_COMM_WORLD); }).find("MPI_Init_thread") != std::string::npos);
}

void test_local_errors() {
  CHECK(local_error([] { (void)Communicator(MPI_COMM_NULL); }, MPI_ERR_COMM).find("MPI_COMM_NULL") !=
        std::string::npos);
  int level = 0;
  MPI_Query_thread(&level);
  if (level < MPI_THREAD_SERIALIZED) {
    std::string text;
    std::thread([&] { text = local_error([] { (void)Communicator(MPI_COMM_SELF); }); }).join();
    CHECK(text.find("MPI_THREAD_SERIALIZED") != std::string::npos);
  }
}

void test_intercommunicators(const Communicator& comm) {
  if (comm.size() == 1) return;
  MPI_Comm half = MPI_COMM_NULL;
  MPI_Comm both = MPI_COMM_NULL;
  const bool is_first = comm.rank() == 0;
  MPI_Comm_split(MPI_COMM_WORLD, is_first ? 0 : 1, comm.rank(), &half);
  MPI_Intercomm_create(half, 0, MPI_COMM_WORLD, is_first ? 1 : 0, 7, &both);
  CHECK(local_error([&] { (void)Communicator(both); }, MPI_ERR_COMM).find("intercommunicator") !=
        std::string::npos);
  MPI_Comm_free(&both);
  // The ranks of a part count from 0.
  const Communicator part(half);
  CHECK(part.size() == (is_first ? 1 : comm.size() - 1) && part.rank() == (is_first ? 0 : comm.rank() - 1));
  MPI_Comm_free(&half);
  CHECK(part.rank() == (is_first ? 0 : comm.rank() - 1));  // a duplicate
}

void test_duplicates(const Communicator& comm) {
  int rank = -1;
  int size = -1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  CHECK(comm.rank() == rank && comm.size() == size);
  CHECK(comm.max_message_bytes() == std::size_t{1} << 30);
  int relation = MPI_UNEQUAL;
  MPI_Comm_compare(comm.get(), MPI_COMM_WORLD, &relation);
  CHECK(relation == MPI_CONGRUENT);  // the same ranks, but not the same messages

  const Communicator copy = comm;
  CHECK(copy.get() == comm.get());
  const Communicator other(comm.get());
  CHECK(other.get() != comm.get() && other.size() == comm.size());
}

void test_options(const Communicator& comm) {
  const std::size_t largest = 2147483647;
  for (const std::size_t legal : {std::size_t{1}, std::size_t{5}, largest}) {
    CHECK(Communicator(MPI_COMM_WORLD, {.max_message_bytes = legal}).max_message_bytes() == legal);
  }
  const int last = comm.size() - 1;
  const std::string who = "[gpt2.argument_error] rank " + std::to_string(last) + ": max_message_bytes = ";
  for (const std::size_t illegal : {std::size_t{0}, largest + 1}) {
    const std::size_t bytes = comm.rank() == last ? illegal : 5;
    CHECK(TEXT_OF(ArgumentError, last, Communicator(MPI_COMM_WORLD, {.max_message_bytes = bytes}))
              .starts_with(who + std::to_string(illegal) + " is outside [1, 2147483647]"));
  }
  if (last == 0) return;
  const std::size_t bytes = comm.rank() == last ? 6 : 5;
  CHECK(TEXT_OF(ArgumentError, last, Communicator(MPI_COMM_WORLD, {.max_message_bytes = bytes})) ==
        who + "6 is not rank 0's, 5");
}

}  // namespace

int main(int argc, char** argv) {
  run("errors", test_errors);
  run("before MPI_Init_thread", test_before_init);
  int level = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
  MPI_Comm_rank(MPI_COMM_WORLD, &world_rank);
  int all_failures = 0;
  std::optional<Communicator> left;
  {
    const Communicator comm(MPI_COMM_WORLD);
    run("errors that are thrown where they occur", test_local_errors);
    run("intercommunicators", [&] { test_intercommunicators(comm); });
    run("duplicates", [&] { test_duplicates(comm); });
    run("options", [&] { test_options(comm); });
    left = comm;
    all_failures = failures_of_all_ranks();
  }
  MPI_Finalize();
  left.reset();  // frees nothing any more
  run("after MPI_Finalize", [] {
    CHECK(local_error([] { (void)Communicator(MPI_COMM_WORLD); }).find("finalised") != std::string::npos);
  });
  return all_failures + failures == 0 ? 0 : 1;
}
