// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The messages of the operations of mpi.hpp, as formulas: bytes and messages sent per rank, on average, and the time
/// that they take with a latency and a bandwidth. Receiving is the same on average.

#include <cmath>
#include <string>
#include <vector>

namespace model {

struct Setting {
  double ranks = 2;
  double tokens = 4096;         // of each rank
  double different = 0;         // ids among the tokens of one rank
  double different_of_all = 0;  // among those of all
  double width = 768;
  double vocabulary = 50257;
  double scalar = 4;        // bytes of what a table stores
  double accumulator = 4;   // bytes of what is summed
  double positions = 1024;  // different ones
  double best = 50;         // of top_k
  double latency = 2e-6;    // seconds
  double bandwidth = 10e9;  // bytes a second
};

struct Cost {
  std::string operation;
  double bytes;
  double messages;    // point to point
  double agreements;  // and exchanges of counts: an allreduce of 264 bytes, or less
};

/// The number of distinct ids among some, drawn from a vocabulary in which id has a share of 1 / (id + 1).
inline double different_ids(double count, double vocabulary) {
  double all = 0;
  for (double id = 0; id < vocabulary; ++id) all += 1 / (id + 1);
  double different = 0;
  for (double id = 0; id < vocabulary; ++id)
    different += 1 - std::exp(count * std::log1p(-1 / ((id + 1) * all)));
  return different;
}

/// Of each operation.
inline std::vector<Cost> costs(const Setting& s) {
  const double others = s.ranks - 1;
  const double share = others / s.ranks;  // of everything, the part of other ranks
  const double row = s.width * s.accumulator + 8;
  const double all = s.ranks * s.tokens;
  const double slab = std::max(1048576.0, 65536 * s.ranks);
  const double matrix = s.vocabulary * s.width * s.accumulator;
  const double slabs = std::ceil(matrix / slab);
  return {
      {"lookup, same", share * s.different * s.width * s.scalar, others, 1},
      {"lookup, own", share * s.different * (s.width * s.scalar + 8), 2 * others, 3},
      {"backward, same", 0, 0, 1},
      {"backward, own, tokens", share * s.tokens * row, 2 * others, 3},
      {"backward, own, ranks", share * s.different * row, 2 * others, 3},
      {"sum's wpe, own, tokens", share * (s.tokens + s.positions) * row, 4 * others, 2},
      {"all_reduce, dense", 2 * share * matrix, 2 * others * slabs, 1},
      {"all_reduce, sparse", share * (s.different + s.different_of_all) * row, 4 * others, 6},
      {"top_k, same", 2 * share * s.tokens * s.best * (8 + s.accumulator), 4 * others, 2},
      {"top_k, own", share * all * (s.width * s.accumulator + s.best * (8 + s.accumulator)), 3 * others, 4},
      {"cross_entropy, same", 2 * share * s.tokens * (s.width * s.accumulator + 24),
       2 * others * (1 + std::ceil(s.tokens * s.width * s.accumulator / slab)), 3},
      {"cross_entropy, own", share * all * (2 * (s.width * s.accumulator + 24) + 8), 5 * others, 6},
  };
}

inline double seconds(const Cost& cost, const Setting& s) {
  const double control = cost.agreements * 2 * std::ceil(std::log2(std::max(s.ranks, 1.0)));
  return (cost.messages + control) * s.latency + cost.bytes / s.bandwidth;
}

}  // namespace model
