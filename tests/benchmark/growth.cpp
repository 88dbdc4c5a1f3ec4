// SPDX-License-Identifier: MIT
//
// The cost of a token in tables of any size: from one that stays in the caches to a gigabyte.

#include <gpt2/embedding.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "groups.hpp"
#include "inputs.hpp"
#include "libtorch.hpp"

namespace {

constexpr Index n_embd = 256;
constexpr Index tokens = 8192;

std::vector<Contestant> contestants(Index rows) {
  struct Lookup {
    Buffer<float> borrowed;
    gpt2::Embedding<float> owned;
    std::vector<gpt2::IdVector<std::int64_t>> ids;
    Buffer<float> out{tokens, n_embd};
  };
  Buffer<float> weight = random_matrix(rows, n_embd, 7);
  auto owned = gpt2::Embedding<float>::view(weight.table(), nullptr);
  (void)owned.mutable_weight();
  const auto lookup = std::make_shared<Lookup>(Lookup{std::move(weight), std::move(owned), {}});
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    gpt2::IdVector<std::int64_t> ids(tokens);
    const auto drawn = draw_ids(tokens, Draw::uniform, seed);  // of the vocabulary
    for (Index i = 0; i < tokens; ++i) ids[i] = (drawn[static_cast<std::size_t>(i)] * 7919 + i) % rows;
    lookup->ids.push_back(std::move(ids));
  }
  Turn turn(lookup->ids.size());
  libtorch::Ids torch_ids{{}, 1, tokens};
  for (const auto& ids : lookup->ids) torch_ids.batches.push_back(ids.data());
  return {
      {"ours",
       [lookup, turn]() mutable { lookup->owned.forward_into(lookup->ids[turn()], lookup->out.matrix()); }},
      {"eigen",
       [lookup, turn]() mutable {
         const auto table = lookup->borrowed.table();
         auto out = lookup->out.matrix();
         const std::int64_t* id = lookup->ids[turn()].data();
         for (Index i = 0; i < tokens; ++i) out.row(i) = table.row(id[i]);
       }},
      {"torch",
       libtorch::lookup_into({lookup->borrowed.data(), rows, n_embd}, torch_ids, lookup->out.data())}};
}

}  // namespace

std::vector<Group> growth_groups() {
  std::vector<Group> groups;
  for (const Index rows : {1000, 10000, 100000, 1000000}) {
    groups.push_back({"lookup in " + std::to_string(rows) + " rows/1x8192/256/uniform/1",
                      [rows] { return contestants(rows); }});
  }
  return groups;
}
