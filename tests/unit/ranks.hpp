// SPDX-License-Identifier: MIT
//
// Tests that run on the ranks of MPI, without Catch2, which knows one process: each rank says which checks were wrong.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <functional>
#include <gpt2/communicator.hpp>
#include <string>
#include <typeinfo>

inline int failures = 0;
inline int world_rank = 0;
inline std::string test_name;

inline void check(bool is_true, const char* what, int line) {
  if (is_true) return;
  ++failures;
  std::fprintf(stderr, "rank %d: line %d: %s: not true: %s\n", world_rank, line, test_name.c_str(), what);
}
#define CHECK(...) check((__VA_ARGS__), #__VA_ARGS__, __LINE__)

/// The error that an action throws on this rank; fails if it throws none or one of another type.
template <class E>
std::string expect_error(const std::function<void()>& action, int rank, int line) {
  try {
    action();
  } catch (const gpt2::OnRank<E>& error) {
    check(typeid(error) == typeid(gpt2::OnRank<E>), "the error's type", line);
    check(error.rank() == rank, "the error's rank", line);
    return error.what();
  } catch (const std::exception& error) {
    check(false, error.what(), line);
    return "";
  }
  check(false, "an error was thrown", line);
  return "";
}
#define TEXT_OF(E, rank, ...) expect_error<gpt2::E>([&] { (void)(__VA_ARGS__); }, rank, __LINE__)

template <class Body>
void run(const char* name, const Body& body) {
  test_name = name;
  if (std::getenv("GPT2_MPI_VERBOSE") != nullptr && world_rank == 0) std::fprintf(stderr, "%s\n", name);
  try {
    body();
  } catch (const std::exception& error) {
    check(false, error.what(), __LINE__);
    int is_initialized = 0;
    int is_finalized = 0;
    MPI_Initialized(&is_initialized);
    MPI_Finalized(&is_finalized);
    if (is_initialized != 0 && is_finalized == 0) MPI_Abort(MPI_COMM_WORLD, 1);  // the other ranks would wait
  }
}

/// The failures of all ranks so far, which the first one prints. Collective.
inline int failures_of_all_ranks() {
  int ranks = 0;
  int all = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  MPI_Allreduce(&failures, &all, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  if (world_rank == 0) std::printf("%d ranks, %d failures\n", ranks, all);
  return all;
}
