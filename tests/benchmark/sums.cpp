// SPDX-License-Identifier: MIT
//
// wte[ids] + wpe[positions], alone and with a layer norm after it.

#include <algorithm>
#include <gpt2/embeddings.hpp>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "groups.hpp"
#include "inputs.hpp"
#include "libtorch.hpp"
#include "plain.hpp"

namespace {

using gpt2::Embedding;
using gpt2::GPT2Embeddings;

/// The data that the contestants of a group share. All groups share the tables.
struct Sum {
  explicit Sum(const Setting& its_setting)
      : setting(its_setting),
        embeddings(Embedding<float>::view(token_table(its_setting.n_embd).table(), nullptr),
                   Embedding<float>::view(position_table(its_setting.n_embd).table(), nullptr)),
        ids(its_setting),
        out(its_setting.tokens(), its_setting.n_embd),
        source(its_setting.tokens(), its_setting.n_embd) {}

  Setting setting;
  GPT2Embeddings<float> embeddings;
  IdBatches ids;
  Buffer<float> out;
  Buffer<float> source;
  // Made where they are used.
  Buffer<float> normed{0, 0};
  Buffer<float> weight{0, 0};
  Buffer<float> bias{0, 0};

  [[nodiscard]] libtorch::Table wte() const {
    return {token_table(setting.n_embd).data(), vocab_size, setting.n_embd};
  }
  [[nodiscard]] libtorch::Table wpe() const {
    return {position_table(setting.n_embd).data(), n_positions, setting.n_embd};
  }
  void loop(std::size_t turn) const {
    plain::encoder_forward(out.data(), ids.narrow[turn].data(), token_table(setting.n_embd).data(),
                           position_table(setting.n_embd).data(), static_cast<int>(setting.batch),
                           static_cast<int>(setting.seq_length), static_cast<int>(setting.n_embd));
  }
  /// The same order as ours, and nothing around it. Tables as they are, or on huge pages.
  void bare(std::size_t turn, const GPT2Embeddings<float>& tables) const {
    plain::bare_forward(out.data(), ids.narrow[turn].data(), tables.wte.weight().data(),
                        tables.wpe.weight().data(), static_cast<int>(setting.batch),
                        static_cast<int>(setting.seq_length), static_cast<int>(setting.n_embd));
  }
  void eigen(std::size_t turn) const {
    const auto wte = embeddings.wte.weight();
    const auto wpe = embeddings.wpe.weight();
    auto rows = out.matrix();
    const std::int64_t* id = ids.ids[turn].data();
    for (Index i = 0; i < rows.rows(); ++i) rows.row(i) = wte.row(id[i]) + wpe.row(i % setting.seq_length);
  }
  void norm() const {
    plain::layer_norm(normed.data(), out.data(), weight.data(), bias.data(),
                      static_cast<std::size_t>(setting.tokens()), static_cast<int>(setting.n_embd));
  }
};

std::vector<Contestant> sum_contestants(const Setting& setting) {
  const auto sum = std::make_shared<Sum>(setting);
  Turn turn(sum->ids.ids.size());
  const auto bytes = static_cast<double>(setting.bytes());
  std::vector<Contestant> result{
      {"limit", in_parts(setting.threads, setting.bytes(),
                         [sum](std::size_t first, std::size_t last) {
                           plain::copy(sum->out.data() + first / sizeof(float),
                                       sum->source.data() + first / sizeof(float), last - first);
                         })},
      {"ours", on_threads(setting.threads,
                          [sum, turn](const auto& device) mutable {
                            sum->embeddings.forward_into(sum->ids.ids[turn()], gpt2::PastLength{},
                                                         sum->out.matrix(), device);
                          })},
      {"loop", [sum, turn]() mutable { sum->loop(turn()); }},
      {"eigen", [sum, turn]() mutable { sum->eigen(turn()); }},
      {"torch, reused", libtorch::sum_into(sum->wte(), sum->wpe(), torch_ids(sum->ids), sum->out.data())},
  };
  if (setting.threads == 1) {
    result.push_back({"bare", [sum, turn]() mutable { sum->bare(turn(), sum->embeddings); }});
  }
  // Owned tables, which are on huge pages if the system has them; and results that are not aligned to cache lines.
  if (setting.threads == 1 && setting.n_embd == 768 && setting.tokens() >= 8192) {
    const auto owned = std::make_shared<GPT2Embeddings<float>>(sum->embeddings);
    (void)owned->wte.mutable_weight();
    (void)owned->wpe.mutable_weight();
    result.push_back({"ours, owned", [sum, owned, turn]() mutable {
                        owned->forward_into(sum->ids.ids[turn()], gpt2::PastLength{}, sum->out.matrix());
                      }});
    result.push_back({"bare, owned", [sum, owned, turn]() mutable { sum->bare(turn(), *owned); }});
    const auto shifted = std::make_shared<Buffer<float>>(setting.tokens() + 1, setting.n_embd);
    for (const Index floats : {4, 1}) {
      Eigen::Map<gpt2::Matrix<float>> out(shifted->data() + floats, setting.tokens(), setting.n_embd);
      result.push_back(
          {"ours, " + std::to_string(floats * 4) + " bytes on", [sum, shifted, out, turn]() mutable {
             sum->embeddings.forward_into(sum->ids.ids[turn()], gpt2::PastLength{}, out);
           }});
    }
  }
  // With a fresh result each time. That of a large batch measures the system's pages and little else.
  if (bytes < 64e6) {
    result.push_back({"ours, fresh",
                      on_threads(setting.threads,
                                 [sum, turn](const auto& device) mutable {
                                   (void)sum->embeddings(sum->ids.ids[turn()], device);
                                 }),
                      -bytes});
    result.push_back({"torch", libtorch::sum(sum->wte(), sum->wpe(), torch_ids(sum->ids)), -bytes});
  }
  return result;
}

std::vector<Contestant> layer_norm_contestants(const Setting& setting) {
  const auto sum = std::make_shared<Sum>(setting);
  sum->normed = Buffer<float>(setting.tokens(), setting.n_embd);
  sum->weight = random_matrix(1, setting.n_embd, 1);
  sum->bias = random_matrix(1, setting.n_embd, 2);
  Turn turn(sum->ids.ids.size());
  return {
      {"ours",
       [sum, turn]() mutable {
         sum->embeddings.forward_into(sum->ids.ids[turn()], gpt2::PastLength{}, sum->out.matrix());
         sum->norm();
       }},
      {"loop",
       [sum, turn]() mutable {
         sum->loop(turn());
         sum->norm();
       }},
      {"torch",
       libtorch::sum_and_layer_norm_into(sum->wte(), sum->wpe(), torch_ids(sum->ids), sum->out.data(),
                                         sum->weight.data(), sum->bias.data(), sum->normed.data())},
  };
}

}  // namespace

std::vector<Group> sum_groups() {
  constexpr auto uniform = Draw::uniform;
  constexpr auto zipf = Draw::zipf;
  const std::vector<Setting> settings{
      {8, 1024, 768, uniform, 1, true}, {4, 64, 768, uniform, 1, true}, {1, 1024, 768, uniform, 1, true},
      {1, 1, 768, uniform, 1},          {1, 8, 768, uniform, 1},        {1, 64, 768, uniform, 1},
      {4, 64, 768, uniform, 1},         {4, 64, 768, zipf, 1},          {1, 1024, 768, uniform, 1},
      {1, 1024, 768, zipf, 1},          {1, 1024, 1600, uniform, 1},    {8, 1024, 768, uniform, 1},
      {8, 1024, 768, zipf, 1},          {8, 1024, 1600, uniform, 1},    {8, 1024, 768, uniform, 2},
      {8, 1024, 1600, uniform, 2},      {32, 1024, 768, uniform, 1},    {32, 1024, 768, zipf, 1},
      {32, 1024, 768, uniform, 2},      {32, 1024, 1600, uniform, 1},
  };
  std::vector<Group> groups;
  for (const Setting& setting : settings) {
    Group group{group_name(setting.same_ids ? "sum of the same" : "sum", setting),
                [setting] { return sum_contestants(setting); }};
    group.threads = setting.threads;
    group.calls = static_cast<int>(std::clamp<Index>(1024 / setting.tokens(), 1, 1024));
    groups.push_back(std::move(group));
  }
  for (const Index batch : {8, 32}) {
    const Setting setting{batch};
    groups.push_back(
        {group_name("sum and layer norm", setting), [setting] { return layer_norm_contestants(setting); }});
  }
  return groups;
}
