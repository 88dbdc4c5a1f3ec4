// SPDX-License-Identifier: MIT
//
// Rows of smaller tables as floats: bfloat16, half, and int8 with a scale and an offset for each row.

#include <gpt2/embedding.hpp>
#include <gpt2/quantized_embedding.hpp>
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
using gpt2::QuantizedEmbedding;

struct Lookup {
  explicit Lookup(const Setting& its_setting)
      : setting(its_setting),
        ids(its_setting),
        out(its_setting.tokens(), its_setting.n_embd),
        source(its_setting.tokens(), its_setting.n_embd) {}

  Setting setting;
  IdBatches ids;
  Buffer<float> out;
  Buffer<float> source;
};

/// The limit, and ours.
template <class Table>
std::vector<Contestant> contestants_of(const std::shared_ptr<Lookup>& lookup,
                                       const std::shared_ptr<const Table>& table) {
  Turn turn(lookup->ids.ids.size());
  return {
      {"limit", [lookup] { plain::copy(lookup->out.data(), lookup->source.data(), lookup->out.bytes()); }},
      {"ours", [lookup, table, turn]() mutable {
         table->forward_into(lookup->ids.ids[turn()], lookup->out.matrix());
       }}};
}

/// As Eigen writes it, one row at a time: row(id) is an expression, which holds its maps by value.
template <class Row>
Contestant eigen_contestant(const std::shared_ptr<Lookup>& lookup, Row row) {
  Turn turn(lookup->ids.ids.size());
  return {"eigen", [lookup, row, turn]() mutable {
            auto out = lookup->out.matrix();
            const std::int64_t* id = lookup->ids.ids[turn()].data();
            for (Index i = 0; i < out.rows(); ++i) out.row(i) = row(id[i]);
          }};
}

template <class T>
std::vector<Contestant> half_contestants(const Setting& setting, libtorch::Element element) {
  const auto lookup = std::make_shared<Lookup>(setting);
  const auto memory = std::make_shared<Buffer<T>>(converted<T>(token_table(setting.n_embd)));
  const auto table = std::make_shared<const Embedding<T>>(Embedding<T>::view(memory->table(), memory));
  auto result = contestants_of(lookup, table);
  result.push_back(eigen_contestant(
      lookup, [weight = table->weight(), table](Index id) { return weight.row(id).template cast<float>(); }));
  result.push_back({"torch", libtorch::lookup_into({memory->data(), vocab_size, setting.n_embd, element},
                                                   torch_ids(lookup->ids), lookup->out.data())});
  return result;
}

std::vector<Contestant> int8_contestants(const Setting& setting) {
  const auto lookup = std::make_shared<Lookup>(setting);
  const auto table = std::make_shared<const QuantizedEmbedding>(
      Embedding<float>::view(token_table(setting.n_embd).table(), nullptr));
  auto result = contestants_of(lookup, table);
  result.push_back(eigen_contestant(lookup, [values = table->values(), scales = table->scales(),
                                             offsets = table->offsets(), table](Index id) {
    return ((values.row(id).cast<float>() * scales[id]).array() + offsets[id]).matrix();
  }));
  return result;
}

}  // namespace

std::vector<Group> lookup_groups() {
  std::vector<Group> groups;
  for (const Draw draw : {Draw::uniform, Draw::zipf}) {
    const Setting setting{8, 1024, 768, draw};
    groups.push_back({group_name("bfloat16 rows", setting), [setting] {
                        return half_contestants<Eigen::bfloat16>(setting, libtorch::Element::bfloat16);
                      }});
    groups.push_back({group_name("half rows", setting), [setting] {
                        return half_contestants<Eigen::half>(setting, libtorch::Element::float16);
                      }});
    groups.push_back({group_name("int8 rows", setting), [setting] { return int8_contestants(setting); }});
  }
  return groups;
}
