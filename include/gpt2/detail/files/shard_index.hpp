// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// model.safetensors.index.json: which file of a sharded model holds which tensor.

#include <algorithm>
#include <cstddef>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt2/detail/files/foreign_file.hpp"
#include "gpt2/detail/files/read_only_file.hpp"
#include "gpt2/detail/files/safetensors_header.hpp"
#include "gpt2/detail/files/strict_json.hpp"
#include "gpt2/error.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

inline constexpr std::size_t max_shards = 100'000;

/// The fault of a shard's name, as the end of a sentence; empty if it may be opened. Only the name can be judged: in
/// the Hugging Face cache, shards are symbolic links that lead out of the folder.
[[nodiscard]] inline std::string_view shard_name_fault(std::string_view name) {
  if (name.empty()) return "is empty";
  for (const char character : name) {
    if (character == '\\') return "has a backslash";
    if (static_cast<unsigned char>(character) < 0x20 || character == 0x7F) return "has a control character";
  }
  if (name.front() == '/' || path_of(name).has_root_path()) return "is absolute";
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = (std::min)(name.find('/', begin), name.size());
    const std::string_view component = name.substr(begin, end - begin);
    if (component.empty()) return "has an empty component";
    if (component == "." || component == "..") return "has a component of dots";
    begin = end + 1;
  }
  return "";
}

/// A tensor of a sharded model.
struct ShardedTensor {
  std::string name;
  std::size_t shard = 0;  ///< its place in ShardIndex::shards
};

/// The contents of a model.safetensors.index.json.
struct ShardIndex {
  std::string path;                   ///< of the index itself, as UTF-8
  std::vector<std::string> shards;    ///< their names, as UTF-8
  std::deque<ShardedTensor> tensors;  ///< sorted by name

  [[nodiscard]] const ShardedTensor* find(std::string_view name) const {
    const auto tensor =
        std::lower_bound(tensors.begin(), tensors.end(), name,
                         [](const ShardedTensor& left, std::string_view right) { return left.name < right; });
    return tensor != tensors.end() && tensor->name == name ? &*tensor : nullptr;
  }
};

/// Reads an index: checks the weight_map and keeps it. Other members are ignored.
class IndexVisitor final : public JsonVisitor {
 public:
  explicit IndexVisitor(ShardIndex& index) : index_(index) {}

  void begin_object() override {
    if (depth_ == 1 && key_ == "weight_map") {
      in_weight_map_ = has_weight_map_ = true;
    } else if (in_weight_map_) {
      fail(key_, "the shard is not a string: an object");
    }
    ++depth_;
  }

  void begin_array() override {
    if (depth_ == 0) fail("", "is not an object");
    if (depth_ == 1 && key_ == "weight_map") fail("", "weight_map is not an object: an array");
    if (in_weight_map_) fail(key_, "the shard is not a string: an array");
    ++depth_;
  }

  void end() override {
    --depth_;
    in_weight_map_ = false;  // nothing nests in it
    if (depth_ == 0 && !has_weight_map_) fail("", "has no weight_map");
  }

  void key(std::string&& name) override { key_ = std::move(name); }

  void value(nlohmann::json&& scalar) override {
    if (depth_ == 0) fail("", "is not an object");
    if (depth_ == 1 && key_ == "weight_map") {
      fail("", "weight_map is not an object: " + printable_json(scalar));
    }
    if (!in_weight_map_) return;
    auto* const shard = scalar.get_ptr<std::string*>();
    if (shard == nullptr) fail(key_, "the shard is not a string: " + printable_json(scalar));
    if (const std::string_view fault = shard_name_fault(*shard); !fault.empty()) {
      fail(key_, "the shard's name " + printable_json(scalar) + " " + std::string(fault));
    }
    const auto [place, is_new] = places_.try_emplace(*shard, index_.shards.size());
    if (is_new) {
      if (index_.shards.size() == max_shards) fail("", "names more than " + to_text(max_shards) + " shards");
      index_.shards.push_back(std::move(*shard));
    }
    index_.tensors.push_back({std::move(key_), place->second});
  }

 private:
  [[noreturn]] void fail(std::string_view tensor, const std::string& problem) const {
    throw CheckpointError(index_.path, printable(tensor), kinds::index_invalid, problem);
  }

  ShardIndex& index_;
  std::map<std::string, std::size_t> places_;  // of the shards in the index
  std::string key_;
  std::size_t depth_ = 0;
  bool in_weight_map_ = false;
  bool has_weight_map_ = false;
};

/// Throws: CheckpointError.
[[nodiscard]] inline ShardIndex read_shard_index(const ReadOnlyFile& file) {
  const auto fail = [&](std::string_view member, const std::string& problem) {
    throw CheckpointError(file.path(), printable(member), kinds::index_invalid, problem);
  };
  if (file.size() > max_header_size) fail("", "is larger than " + to_text(max_header_size) + " bytes");
  ShardIndex index;
  index.path = file.path();
  const std::string text = file.read_text(0, file.size());
  try {
    IndexVisitor visitor(index);
    parse_strict_json(text, visitor);
  } catch (const JsonFault& fault) {
    if (const std::string_view foreign = foreign_file_text(text); !foreign.empty()) {
      fail("", std::string(foreign));
    }
    fail(fault.member(), fault.value() + (fault.value().empty() ? "" : " ") + fault.what());
  }
  std::sort(index.tensors.begin(), index.tensors.end(),
            [](const ShardedTensor& left, const ShardedTensor& right) { return left.name < right.name; });
  return index;
}

}  // namespace gpt2::detail
