// SPDX-License-Identifier: MIT
//
// Gradients of the sum and of a lookup: added to a dense one, and sparse.

#include <gpt2/embedding.hpp>
#include <gpt2/embeddings.hpp>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "groups.hpp"
#include "inputs.hpp"
#include "libtorch.hpp"
#include "plain.hpp"

namespace {

using gpt2::Embedding;
using gpt2::GPT2Embeddings;
using gpt2::Matrix;

struct Gradient {
  explicit Gradient(const Setting& its_setting)
      : setting(its_setting),
        embeddings(Embedding<float>::view(token_table(its_setting.n_embd).table(), nullptr),
                   Embedding<float>::view(position_table(its_setting.n_embd).table(), nullptr)),
        ids(its_setting),
        dout(random_matrix(its_setting.tokens(), its_setting.n_embd, 3)),
        dwte(vocab_size, its_setting.n_embd),
        dwpe(n_positions, its_setting.n_embd) {
    // Allocates the gradients, which are outputs.
    embeddings.backward(std::vector<std::int64_t>(), gpt2::PastLength{},
                        Matrix<float>(0, its_setting.n_embd));
  }

  Setting setting;
  GPT2Embeddings<float> embeddings;
  IdBatches ids;
  Buffer<float> dout;
  Buffer<float> dwte;  // the peers'; ours are within embeddings
  Buffer<float> dwpe;

  void loop(std::size_t turn) const {
    plain::encoder_backward(dwte.data(), dwpe.data(), dout.data(), ids.narrow[turn].data(),
                            static_cast<int>(setting.batch), static_cast<int>(setting.seq_length),
                            static_cast<int>(setting.n_embd));
  }
  void eigen(std::size_t turn) const {
    auto token_rows = dwte.matrix();
    auto position_rows = dwpe.matrix();
    const std::int64_t* id = ids.ids[turn].data();
    for (Index i = 0; i < setting.tokens(); ++i) {
      token_rows.row(id[i]) += dout.matrix().row(i);
      position_rows.row(i % setting.seq_length) += dout.matrix().row(i);
    }
  }
};

/// Reads the gradient of the output once, and reads and writes as many contiguous rows.
Contestant limit(const std::shared_ptr<Gradient>& gradient) {
  return {"limit", in_parts(gradient->setting.threads, gradient->dout.bytes(),
                            [gradient](std::size_t first, std::size_t last) {
                              plain::add(gradient->dwte.data() + first / sizeof(float),
                                         gradient->dout.data() + first / sizeof(float),
                                         (last - first) / sizeof(float));
                            })};
}

std::vector<Contestant> backward_contestants(const Setting& setting) {
  const auto gradient = std::make_shared<Gradient>(setting);
  Turn turn(gradient->ids.ids.size());
  return {
      limit(gradient),
      {"ours", on_threads(setting.threads,
                          [gradient, turn](const auto& device) mutable {
                            gradient->embeddings.backward(gradient->ids.ids[turn()], gpt2::PastLength{},
                                                          gradient->dout.matrix(), device);
                          })},
      {"loop", [gradient, turn]() mutable { gradient->loop(turn()); }},
      {"eigen", [gradient, turn]() mutable { gradient->eigen(turn()); }},
      {"torch", libtorch::backward(gradient->dwte.data(), vocab_size, gradient->dwpe.data(),
                                   gradient->dout.data(), setting.n_embd, torch_ids(gradient->ids))},
  };
}

/// The bytes of a batch's sparse gradient: the middle one of them, as times are.
double sparse_bytes(const Gradient& gradient, std::size_t index_bytes) {
  std::multiset<double> sizes;
  for (const auto& ids : gradient.ids.narrow) {
    const auto rows = static_cast<double>(std::set<int>(ids.begin(), ids.end()).size());
    const double columns = static_cast<double>(gradient.setting.n_embd) * sizeof(float);
    sizes.insert(rows * (columns + static_cast<double>(index_bytes)));
  }
  return *std::next(sizes.begin(), static_cast<std::ptrdiff_t>(sizes.size() / 2));
}

std::vector<Contestant> sparse_contestants(const Setting& setting) {
  const auto gradient = std::make_shared<Gradient>(setting);
  Turn turn(gradient->ids.ids.size());
  const double bytes = sparse_bytes(*gradient, sizeof(Index));
  std::vector<Contestant> result{
      limit(gradient),
      {"ours",
       on_threads(setting.threads,
                  [gradient, turn](const auto& device) mutable {
                    (void)gradient->embeddings.wte.sparse_backward(gradient->ids.ids[turn()],
                                                                   gradient->dout.matrix(), device);
                  }),
       -bytes},
      {"ours, dense", on_threads(setting.threads,
                                 [gradient, turn](const auto& device) mutable {
                                   gradient->embeddings.wte.backward(gradient->ids.ids[turn()],
                                                                     gradient->dout.matrix(), device);
                                 })},
      {"torch",
       libtorch::sparse_gradient(vocab_size, gradient->dout.data(), setting.n_embd, torch_ids(gradient->ids)),
       -bytes},
  };
  // Many times slower: once is enough to know.
  if (setting.draw == Draw::uniform && setting.threads == 1) {
    const auto dense = static_cast<double>(gradient->dwte.bytes());
    result.push_back({"torch, dense",
                      libtorch::dense_gradient(vocab_size, gradient->dout.data(), setting.n_embd,
                                               torch_ids(gradient->ids)),
                      -dense});
  }
  return result;
}

}  // namespace

std::vector<Group> gradient_groups() {
  std::vector<Group> groups;
  for (const int threads : {1, 2}) {
    for (const Draw draw : {Draw::uniform, Draw::zipf}) {
      if (threads == 2 && draw == Draw::zipf) continue;
      for (const Index n_embd : {768, 1600}) {
        if (n_embd == 1600 && draw == Draw::zipf) continue;
        const Setting setting{8, 1024, n_embd, draw, threads};
        Group group{group_name("backward", setting), [setting] { return backward_contestants(setting); }};
        group.threads = threads;
        groups.push_back(std::move(group));
      }
      const Setting setting{8, 1024, 768, draw, threads};
      Group group{group_name("sparse gradient", setting), [setting] { return sparse_contestants(setting); }};
      group.threads = threads;
      groups.push_back(std::move(group));
    }
  }
  return groups;
}
