// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The definitions of checkpoint.hpp.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt2/checkpoint.hpp"
#include "gpt2/config.hpp"
#include "gpt2/config_json.hpp"
#include "gpt2/detail/files/model_folder.hpp"
#include "gpt2/detail/files/read_only_file.hpp"
#include "gpt2/detail/files/safetensors_header.hpp"
#include "gpt2/detail/files/shard_index.hpp"
#include "gpt2/detail/files/strict_json.hpp"
#include "gpt2/detail/kernels/rounding.hpp"
#include "gpt2/detail/owned_table.hpp"
#include "gpt2/embedding.hpp"
#include "gpt2/error.hpp"
#include "gpt2/safetensors.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

namespace detail {

template <Scalar T>
inline constexpr DType dtype_of = DType::F32;
template <>
inline constexpr DType dtype_of<double> = DType::F64;
template <>
inline constexpr DType dtype_of<Eigen::half> = DType::F16;
template <>
inline constexpr DType dtype_of<Eigen::bfloat16> = DType::BF16;

/// The files of a checkpoint, opened and read when they are first needed.
class CheckpointFiles {
 public:
  CheckpointFiles(const std::filesystem::path& path, LoadMode mode) : found_(find_model(path)), mode_(mode) {
    if (!found_.model.empty()) return;
    // If there is no config either, that is the error to report.
    if (found_.foreign().empty()) static_cast<void>(table_sizes());
    found_.fail_without_model();
  }

  [[nodiscard]] LoadMode mode() const noexcept { return mode_; }

  [[nodiscard]] const GPT2Config& config() {
    const std::lock_guard lock(mutex_);
    if (!config_) {
      const nlohmann::json& json = document();
      config_ = read_config(config_path(), [&] {
        GPT2Config config;
        from_json(json, config);
        return config;
      });
    }
    return *config_;
  }

  /// The config as far as it describes the tables.
  [[nodiscard]] GPT2Config table_sizes() {
    const std::lock_guard lock(mutex_);
    const nlohmann::json& json = document();
    return read_config(config_path(), [&] { return read_table_sizes(json); });
  }

  /// Calls visit(tensors) with the tensors in order, which have names.
  template <class Visit>
  auto with_tensors(const Visit& visit) {
    const std::lock_guard lock(mutex_);
    if (found_.is_sharded) return visit(index().tensors);
    return visit(header_of(open(found_.model)).entries);
  }

  [[nodiscard]] bool contains(std::string_view name) {
    const std::lock_guard lock(mutex_);
    return found_.is_sharded ? index().find(name) != nullptr : open(found_.model).contains(name);
  }

  /// The file that should have the tensor.
  /// Throws: CheckpointError (TensorNotFound) if the index does not have it.
  [[nodiscard]] SafeTensors file_of(std::string_view name) {
    const std::lock_guard lock(mutex_);
    if (!found_.is_sharded) return open(found_.model);
    const ShardedTensor* const tensor = index().find(name);
    if (tensor == nullptr) {
      fail(name, kinds::tensor_not_found, "is not in the index, which has " + some_names(index().tensors));
    }
    return open(found_.model.parent_path() / path_of(index().shards[tensor->shard]));
  }

  [[nodiscard]] static const SafeTensorsHeader& header_of(const SafeTensors& file) {
    return file.file_->header();
  }

  [[nodiscard]] std::string wte_name();
  [[nodiscard]] std::string wpe_name();
  [[nodiscard]] std::string prefix();

 private:
  [[nodiscard]] std::string config_path() const { return path_text(found_.config()); }

  [[nodiscard]] const nlohmann::json& document() {
    if (!document_) document_.emplace(read_config_document(found_.config()));
    return **document_;
  }

  [[nodiscard]] const ShardIndex& index() {
    if (!index_) index_.emplace(read_shard_index(ReadOnlyFile(found_.model)));
    return *index_;
  }

  [[nodiscard]] const SafeTensors& open(const std::filesystem::path& path) {
    const auto opened = files_.find(path);
    if (opened != files_.end()) return opened->second;
    return files_.emplace(path, SafeTensors::open_lazily(path, mode_)).first->second;
  }

  /// Throws: CheckpointError of the file that lists the tensors.
  [[noreturn]] void fail(std::string_view tensor, std::string_view kind, const std::string& problem) const {
    throw CheckpointError(path_text(found_.model), printable(tensor), kind, problem);
  }

  /// The tensors that are called `name`, with any prefix that ends in a dot.
  [[nodiscard]] std::vector<std::string> candidates(std::string_view name) {
    return with_tensors([&](const auto& tensors) {
      std::vector<std::string> found;
      for (const auto& tensor : tensors) {
        const std::string_view full = tensor.name;
        if (!full.ends_with(name)) continue;
        const std::string_view before = full.substr(0, full.size() - name.size());
        if (before.empty() || before.back() == '.') found.push_back(tensor.name);
      }
      return found;
    });
  }

  /// Throws: CheckpointError (AmbiguousTensor) if there are several.
  void check_unambiguous(std::string_view name, const std::vector<std::string>& found) const {
    if (found.size() < 2) return;
    std::string list;
    for (std::size_t i = 0; i < (std::min)(found.size(), std::size_t{6}); ++i) {
      list += (i > 0 ? ", " : "") + printable(found[i], 80);
    }
    fail(
        name, kinds::ambiguous_tensor,
        "could be any of " + to_text(found.size()) + " tensors: " + list + (found.size() > 6 ? ", ..." : ""));
  }

  /// wpe.weight after one of `prefixes`, of which the last `decoys` are not allowed: beside an allowed one they
  /// make it ambiguous.
  [[nodiscard]] std::string wpe_behind(const std::string& wte, const std::vector<std::string>& prefixes,
                                       std::size_t decoys);

  ModelFolder found_;
  LoadMode mode_;
  std::recursive_mutex mutex_;  // for all below
  std::optional<JsonDocument> document_;
  std::optional<GPT2Config> config_;
  std::optional<ShardIndex> index_;
  std::map<std::filesystem::path, SafeTensors> files_;
};

inline constexpr std::string_view wte_weight = "wte.weight";
inline constexpr std::string_view wpe_weight = "wpe.weight";
inline constexpr std::string_view head_weight = "lm_head.weight";

[[nodiscard]] inline std::string prefix_of(const std::string& name, std::string_view table) {
  return name.substr(0, name.size() - table.size());
}

inline std::string CheckpointFiles::wte_name() {
  std::vector<std::string> found = candidates(wte_weight);
  check_unambiguous(wte_weight, found);
  if (found.size() == 1) return found.front();
  found = candidates(head_weight);
  if (found.empty()) {
    fail(wte_weight, kinds::tensor_not_found,
         "is not there under any prefix; there are " +
             with_tensors([](const auto& tensors) { return some_names(tensors); }));
  }
  const std::lock_guard lock(mutex_);
  const nlohmann::json* const tied =
      document().is_object() ? find_member(document(), "tie_word_embeddings") : nullptr;
  const bool* const is_tied = tied == nullptr ? nullptr : tied->get_ptr<const bool*>();
  if (is_tied != nullptr && !*is_tied) {
    fail(wte_weight, kinds::tensor_not_found,
         "is not there under any prefix, and " + printable(found.front()) +
             " is not taken for it, because config.json has tie_word_embeddings = false");
  }
  check_unambiguous(wte_weight, found);
  return found.front();
}

inline std::string CheckpointFiles::wpe_behind(const std::string& wte,
                                               const std::vector<std::string>& prefixes, std::size_t decoys) {
  std::vector<std::string> found;
  std::size_t allowed = 0;
  for (std::size_t i = 0; i < prefixes.size(); ++i) {
    std::string name = prefixes[i] + std::string(wpe_weight);
    if (!contains(name)) continue;
    found.push_back(std::move(name));
    if (i < prefixes.size() - decoys) ++allowed;
  }
  if (allowed > 0) {
    check_unambiguous(wpe_weight, found);
    return found.front();
  }
  found = candidates(wpe_weight);
  fail(prefixes.front() + std::string(wpe_weight), kinds::tensor_not_found,
       "is not there, beside " + printable(wte) +
           (found.empty()
                ? "; there are " + with_tensors([](const auto& tensors) { return some_names(tensors); })
                : "; " + printable(found.front()) + ", which is, has another prefix"));
}

inline std::string CheckpointFiles::wpe_name() {
  constexpr std::string_view transformer = "transformer.";
  std::vector<std::string> found = candidates(wte_weight);
  if (found.size() == 1) {
    const std::string prefix = prefix_of(found.front(), wte_weight);
    std::string other = prefix.ends_with(transformer) ? prefix.substr(0, prefix.size() - transformer.size())
                                                      : prefix + std::string(transformer);
    return wpe_behind(found.front(), {prefix, std::move(other)}, 1);
  }
  if (found.empty() && candidates(head_weight).size() == 1) {
    const std::string head = wte_name();
    const std::string prefix = prefix_of(head, head_weight);
    return wpe_behind(head, {prefix + std::string(transformer), prefix}, 0);
  }
  // Without a token table, or with several, it must be found by its own name.
  found = candidates(wpe_weight);
  check_unambiguous(wpe_weight, found);
  if (found.size() == 1) return found.front();
  fail(wpe_weight, kinds::tensor_not_found,
       "is not there under any prefix; there are " +
           with_tensors([](const auto& tensors) { return some_names(tensors); }));
}

inline std::string CheckpointFiles::prefix() {
  const std::string wte = wte_name();
  return wte.ends_with(wte_weight) ? prefix_of(wte, wte_weight) : prefix_of(wpe_name(), wpe_weight);
}

/// Fills `out` from elements of type From, which may lie at any address.
template <Scalar From, Scalar To>
void convert_into(const std::byte* bytes, OwnedTable<To>& out) {
  for (Index i = 0; i < out.size(); ++i, bytes += sizeof(From)) {
    From element;
    std::memcpy(&element, bytes, sizeof(From));
    out.data()[i] = convert<To>(element);
  }
}

/// Throws: CheckpointError unless the tensor has one of the four floating-point types and that shape, and no more
/// elements than can be counted.
inline void check_table_tensor(const std::string& path, const TensorEntry& entry,
                               const std::vector<Index>& shape, std::string_view extents) {
  const auto fail = [&](std::string_view kind, const std::string& expected) {
    throw CheckpointError(path, printable(entry.name), kind,
                          "is " + tensor_text(entry.dtype, entry.shape) + ", expected " + expected);
  };
  if (entry.dtype != DType::F64 && entry.dtype != DType::F32 && entry.dtype != DType::F16 &&
      entry.dtype != DType::BF16) {
    fail(kinds::unexpected_dtype, "F64, F32, F16 or BF16");
  }
  const bool fits = std::equal(entry.shape.begin(), entry.shape.end(), shape.begin(), shape.end(),
                               [](std::uint64_t found, Index expected) {
                                 return expected >= 0 && found == static_cast<std::uint64_t>(expected);
                               });
  if (!fits) {
    std::string text;
    for (const Index extent : shape) text += (text.empty() ? "[" : ", ") + to_text(extent);
    fail(kinds::unexpected_shape, std::string(extents) + (extents.empty() ? "" : " = ") + text + "]");
  }
  if ((entry.end - entry.begin) / (bits(entry.dtype) / 8) >
      static_cast<std::uint64_t>((std::numeric_limits<Index>::max)())) {
    fail(kinds::unexpected_shape, "no more elements than an Index can count");
  }
}

/// A tensor as a table of the elements in their order.
template <Scalar T>
[[nodiscard]] Embedding<T> load_table(CheckpointFiles& files, std::string_view name, Index rows, Index cols,
                                      const std::vector<Index>& shape, std::string_view extents) {
  const SafeTensors file = files.file_of(name);
  const SafeTensorsHeader& header = CheckpointFiles::header_of(file);
  const TensorEntry& entry = header.at(name);
  check_table_tensor(header.path, entry, shape, extents);
  std::shared_ptr<const std::byte> bytes;
  if (files.mode() == LoadMode::mapped) {
    bytes = file.load(name);
    const bool aligned = reinterpret_cast<std::uintptr_t>(bytes.get()) % alignof(T) == 0;
    if (entry.dtype == dtype_of<T> && aligned) {
      return Embedding<T>::view({reinterpret_cast<const T*>(bytes.get()), rows, cols}, bytes);
    }
  }
  auto weight = OwnedTable<T>::uninitialised(rows, cols);
  if (entry.dtype == dtype_of<T>) {
    const std::span elements(weight.data(), static_cast<std::size_t>(weight.size()));
    file.read(name, std::as_writable_bytes(elements));
    return Embedding<T>(std::move(weight));
  }
  if (!bytes) bytes = file.load(name);
  if (entry.dtype == DType::F64) {
    convert_into<double>(bytes.get(), weight);
  } else if (entry.dtype == DType::F16) {
    convert_into<Eigen::half>(bytes.get(), weight);
  } else if (entry.dtype == DType::BF16) {
    convert_into<Eigen::bfloat16>(bytes.get(), weight);
  } else {
    convert_into<float>(bytes.get(), weight);
  }
  return Embedding<T>(std::move(weight));
}

}  // namespace detail

inline Checkpoint Checkpoint::open(const std::filesystem::path& path, LoadMode mode) {
  return Checkpoint(std::make_shared<detail::CheckpointFiles>(path, mode));
}

inline const GPT2Config& Checkpoint::config() const& { return files_->config(); }

inline std::vector<std::string> Checkpoint::names() const {
  return files_->with_tensors([](const auto& tensors) {
    std::vector<std::string> names;
    names.reserve(tensors.size());
    for (const auto& tensor : tensors) names.push_back(tensor.name);
    return names;
  });
}

inline bool Checkpoint::contains(std::string_view name) const { return files_->contains(name); }

inline TensorView Checkpoint::operator[](std::string_view name) const& {
  const SafeTensors file = files_->file_of(name);
  return file[name];
}

inline std::string Checkpoint::file_of(std::string_view name) const {
  const SafeTensors file = files_->file_of(name);
  const detail::SafeTensorsHeader& header = detail::CheckpointFiles::header_of(file);
  static_cast<void>(header.at(name));
  return header.path;
}

inline std::string Checkpoint::prefix() const { return files_->prefix(); }
inline std::string Checkpoint::wte_name() const { return files_->wte_name(); }
inline std::string Checkpoint::wpe_name() const { return files_->wpe_name(); }

template <Scalar T>
Embedding<T> Checkpoint::table(std::string_view name, Index rows, Index cols,
                               std::string_view extents) const {
  return detail::load_table<T>(*files_, name, rows, cols, {rows, cols}, extents);
}

template <Scalar T>
Embedding<T> Checkpoint::vector(std::string_view name, Index size) const {
  return detail::load_table<T>(*files_, name, 1, size, {size}, "");
}

template <Scalar T>
Embedding<T> Checkpoint::wte() const {
  const GPT2Config sizes = files_->table_sizes();
  return table<T>(wte_name(), sizes.vocab_size, sizes.n_embd, "[vocab_size, n_embd]");
}

template <Scalar T>
Embedding<T> Checkpoint::wpe() const {
  const GPT2Config sizes = files_->table_sizes();
  return table<T>(wpe_name(), sizes.n_positions, sizes.n_embd, "[n_positions, n_embd]");
}

template <Scalar T>
NamedTensor named_tensor(std::string name, const Embedding<T>& table) {
  const Eigen::Map<const Matrix<T>> weight = table.weight();
  return {std::move(name),
          {detail::dtype_of<T>,
           {static_cast<std::uint64_t>(weight.rows()), static_cast<std::uint64_t>(weight.cols())},
           std::as_bytes(std::span(weight.data(), static_cast<std::size_t>(weight.size())))}};
}

}  // namespace gpt2
