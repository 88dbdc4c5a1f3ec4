// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The definitions of safetensors.hpp.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt2/detail/files/read_only_file.hpp"
#include "gpt2/detail/files/replace_file.hpp"
#include "gpt2/detail/files/safetensors_header.hpp"
#include "gpt2/detail/files/strict_json.hpp"
#include "gpt2/dtype.hpp"
#include "gpt2/error.hpp"
#include "gpt2/safetensors.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

namespace detail {

/// A file of tensors, and those of their bytes that have been accessed.
class SafeTensorsFile {
 public:
  SafeTensorsFile(const std::filesystem::path& path, LoadMode mode)
      : file_(path), header_(read_header(file_)), mode_(mode) {}

  [[nodiscard]] const SafeTensorsHeader& header() const noexcept { return header_; }

  /// Reads the bytes of all tensors. Not to be called concurrently with other functions.
  void read_all() {
    all_ = file_.read_copy(header_.data_begin, file_.size() - header_.data_begin);
    file_.close();
  }

  /// The bytes of a tensor, kept here.
  [[nodiscard]] std::span<const std::byte> bytes(const TensorEntry& entry) const {
    const auto size = static_cast<std::size_t>(entry.end - entry.begin);
    if (size == 0) return {};
    if (all_) return {all_.get() + entry.begin, size};
    const std::lock_guard lock(mutex_);
    std::shared_ptr<const std::byte>& kept = kept_[&entry];
    if (!kept) kept = load(entry);
    return {kept.get(), size};
  }

  /// The bytes of a tensor by themselves.
  [[nodiscard]] std::shared_ptr<const std::byte> load(const TensorEntry& entry) const {
    if (all_) return {all_, all_.get() + entry.begin};
    const std::uint64_t begin = header_.data_begin + entry.begin;
    const std::uint64_t size = entry.end - entry.begin;
    return mode_ == LoadMode::mapped ? file_.map(begin, size) : file_.read_copy(begin, size);
  }

  void read(const TensorEntry& entry, std::span<std::byte> out) const {
    if (!all_) {
      file_.read(header_.data_begin + entry.begin, out);
    } else if (!out.empty()) {
      std::memcpy(out.data(), all_.get() + entry.begin, out.size());
    }
  }

 private:
  ReadOnlyFile file_;
  SafeTensorsHeader header_;
  LoadMode mode_;
  std::shared_ptr<const std::byte> all_;  // all bytes after the header; null if tensors are read one by one
  mutable std::mutex mutex_;
  mutable std::map<const TensorEntry*, std::shared_ptr<const std::byte>> kept_;
};

}  // namespace detail

inline SafeTensors SafeTensors::open(const std::filesystem::path& path, LoadMode mode) {
  auto file = std::make_shared<detail::SafeTensorsFile>(path, mode);
  if (mode == LoadMode::copied) file->read_all();
  return SafeTensors(std::move(file));
}

inline SafeTensors SafeTensors::open_lazily(const std::filesystem::path& path, LoadMode mode) {
  return SafeTensors(std::make_shared<detail::SafeTensorsFile>(path, mode));
}

inline std::vector<std::string> SafeTensors::names() const {
  std::vector<std::string> names;
  names.reserve(size());
  for (const detail::TensorEntry& entry : file_->header().entries) names.push_back(entry.name);
  return names;
}

inline std::size_t SafeTensors::size() const noexcept { return file_->header().entries.size(); }

inline bool SafeTensors::contains(std::string_view name) const {
  return file_->header().find(name) != nullptr;
}

inline TensorView SafeTensors::operator[](std::string_view name) const& {
  const detail::TensorEntry& entry = file_->header().at(name);
  return {entry.dtype, entry.shape, file_->bytes(entry)};
}

inline void SafeTensors::read(std::string_view name, std::span<std::byte> out) const {
  const detail::TensorEntry& entry = file_->header().at(name);
  if (out.size() != entry.end - entry.begin) {
    throw CheckpointError(
        file_->header().path, detail::printable(name), kinds::invalid_tensor_view,
        "has " + detail::to_text(entry.end - entry.begin) + " bytes, not " + detail::to_text(out.size()));
  }
  file_->read(entry, out);
}

inline std::shared_ptr<const std::byte> SafeTensors::load(std::string_view name) const {
  return file_->load(file_->header().at(name));
}

inline const std::map<std::string, std::string>& SafeTensors::metadata() const& noexcept {
  return file_->header().metadata;
}

namespace detail {

/// Throws: CheckpointError unless the reader would accept the tensor.
inline void check_writable(const std::string& path, const NamedTensor& tensor) {
  const auto fail = [&](std::string_view kind, const std::string& problem) {
    throw CheckpointError(path, printable(tensor.name), kind, problem);
  };
  if (tensor.name == metadata_key) fail(kinds::invalid_tensor_name, "the name is the format's own");
  if (find_invalid_utf8(tensor.name) != tensor.name.npos)
    fail(kinds::invalid_header, "the name is not UTF-8");
  check_for_nul(path, tensor.name);
  const auto& [dtype, shape, bytes] = tensor.tensor;
  if (static_cast<std::size_t>(dtype) >= dtype_infos.size()) {
    fail(kinds::invalid_tensor_view, "the dtype is not one of the format's");
  }
  if (shape.size() > max_rank) {
    fail(kinds::invalid_tensor_view, "the shape has more than " + to_text(max_rank) + " dimensions");
  }
  const std::uint64_t size = tensor_size(path, tensor.name, dtype, shape);
  if (bytes.size() != size) {
    fail(kinds::invalid_tensor_view,
         tensor_text(dtype, shape) + " has " + to_text(size) + " bytes, not " + to_text(bytes.size()));
  }
}

/// Throws: CheckpointError unless the reader would accept the metadata.
inline void check_writable(const std::string& path, const std::map<std::string, std::string>& metadata) {
  for (const auto& [key, value] : metadata) {
    if (find_invalid_utf8(key) == key.npos && find_invalid_utf8(value) == value.npos) continue;
    throw CheckpointError(path, "", kinds::invalid_header,
                          "the metadata of " + printable(key) + " is not UTF-8");
  }
}

/// A file's header, up to the tensors' bytes.
[[nodiscard]] inline std::string header_text(std::span<const NamedTensor* const> tensors,
                                             const std::map<std::string, std::string>& metadata) {
  const auto quoted = [](std::string_view text) { return nlohmann::json(text).dump(); };
  std::string text = "{" + quoted(metadata_key) + ":" + JsonDocument(metadata)->dump();
  std::uint64_t place = 0;
  for (const NamedTensor* const named : tensors) {
    const auto& [dtype, shape, bytes] = named->tensor;
    text.append(",").append(quoted(named->name)).append(":{\"dtype\":").append(quoted(to_string(dtype)));
    text.append(",\"shape\":").append(JsonDocument(shape)->dump());
    text.append(",\"data_offsets\":[").append(to_text(place)).append(",");
    place += bytes.size();
    text += to_text(place) + "]}";
  }
  text += "}";
  text.append((8 - text.size() % 8) % 8, ' ');
  return text;
}

}  // namespace detail

inline void save_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                             std::map<std::string, std::string> metadata) {
  const std::string file = detail::path_text(path);
  metadata.try_emplace("format", "pt");
  detail::check_writable(file, metadata);
  std::vector<const NamedTensor*> sorted;
  sorted.reserve(tensors.size());
  for (const NamedTensor& tensor : tensors) {
    detail::check_writable(file, tensor);
    sorted.push_back(&tensor);
  }

  const auto by_name = [](const NamedTensor* left, const NamedTensor* right) {
    return left->name < right->name;
  };
  std::sort(sorted.begin(), sorted.end(), by_name);
  const auto twice =
      std::adjacent_find(sorted.begin(), sorted.end(),
                         [](const auto* left, const auto* right) { return left->name == right->name; });
  if (twice != sorted.end()) {
    throw CheckpointError(file, detail::printable((*twice)->name), kinds::invalid_tensor_name,
                          "the name is duplicated");
  }
  std::stable_sort(sorted.begin(), sorted.end(), [](const NamedTensor* left, const NamedTensor* right) {
    return left->tensor.dtype > right->tensor.dtype;
  });

  const std::string header = detail::header_text(sorted, metadata);
  if (header.size() > detail::max_header_size) {
    throw CheckpointError(file, "", kinds::header_too_large,
                          "the header is larger than " + detail::to_text(detail::max_header_size) + " bytes");
  }
  const std::uint64_t header_size = header.size();
  std::vector<std::span<const std::byte>> parts{std::as_bytes(std::span(&header_size, 1)),
                                                std::as_bytes(std::span(header))};
  for (const NamedTensor* const tensor : sorted) parts.push_back(tensor->tensor.bytes);
  detail::replace_file(path, parts);
}

}  // namespace gpt2
