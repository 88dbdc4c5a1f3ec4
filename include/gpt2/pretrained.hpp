// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Embedding layers from and to Hugging Face checkpoints: a folder with config.json and model.safetensors, or
/// the latter in shards.
///
///     const auto embeddings = gpt2::from_pretrained<gpt2::GPT2Embeddings<float>>("path/to/gpt2");

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "gpt2/config_json.hpp"
#include "gpt2/detail/files/read_only_file.hpp"
#include "gpt2/detail/files/replace_file.hpp"
#include "gpt2/detail/files/strict_json.hpp"
#include "gpt2/detail/kernels/rounding.hpp"
#include "gpt2/embedding.hpp"
#include "gpt2/embeddings.hpp"
#include "gpt2/error.hpp"
#include "gpt2/position_embeddings.hpp"
#include "gpt2/safetensors.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

namespace detail {

template <class E>
struct PretrainedScalar {};
template <class T>
struct PretrainedScalar<GPT2Embeddings<T>> {
  using type = T;
};
template <class T>
struct PretrainedScalar<GPT2PositionEmbeddings<T>> {
  using type = T;
};

}  // namespace detail

/// What can be loaded from a checkpoint beside its config: GPT2Embeddings<T> and GPT2PositionEmbeddings<T>.
template <class E>
concept Pretrained = requires {
  typename detail::PretrainedScalar<E>::type;
};

/// Loads an embedding layer from a checkpoint's folder. Its tables are "wte.weight" and "wpe.weight",
/// with or without "transformer." before them, in model.safetensors or, where that is missing, in the
/// shards that model.safetensors.index.json names; other tensors do not matter. F64, F32, F16 and BF16
/// become any T, rounded once, to nearest even.
/// Shape: wte `[vocab_size, n_embd]`, wpe `[n_positions, n_embd]`, as config.json has them.
/// Throws: CheckpointError: ConfigInvalid, IndexInvalid, TensorNotFound, AmbiguousTensor,
/// UnexpectedDType, UnexpectedShape, IoError, or what SafeTensors::open throws.
/// Complexity: mapped, a table whose type is T and whose bytes are aligned for it is not read at all.
/// Otherwise the two tables are read, and nothing else.
/// Lifetime: a table that is mapped keeps the mapping, and is bound by what SafeTensors::open says of it.
/// Source: transformers.PreTrainedModel.from_pretrained.
template <Pretrained E>
[[nodiscard]] E from_pretrained(const std::filesystem::path& folder, LoadMode mode = LoadMode::mapped);

/// Writes a checkpoint that from_pretrained and transformers read: model.safetensors, then config.json.
/// The folder is made if it is missing; files that are there are replaced, each whole or not at all, and
/// may be the ones that the tables are mapped from. The new ones have the two tables and the fields of
/// GPT2Config, nothing else: of a whole model, the blocks would be lost.
/// Throws: ConfigError if config is not valid; ShapeError if the tables do not have its shapes;
/// CheckpointError (IoError). In the first two cases nothing is written.
/// Source: transformers.PreTrainedModel.save_pretrained.
template <Scalar T>
void save_pretrained(const std::filesystem::path& folder, const GPT2Config& config,
                     const GPT2Embeddings<T>& embeddings);

// Implementation.

namespace detail {

template <Scalar T>
inline constexpr DType dtype_of = DType::F32;
template <>
inline constexpr DType dtype_of<double> = DType::F64;
template <>
inline constexpr DType dtype_of<Eigen::half> = DType::F16;
template <>
inline constexpr DType dtype_of<Eigen::bfloat16> = DType::BF16;

/// Fills `out` from elements of type From, which may lie at any address.
template <Scalar From, Scalar To>
void convert_into(const std::byte* bytes, Matrix<To>& out) {
  for (Index i = 0; i < out.size(); ++i, bytes += sizeof(From)) {
    From element;
    std::memcpy(&element, bytes, sizeof(From));
    out.data()[i] = convert<To>(element);
  }
}

/// A file of a checkpoint, and of its tensors' bytes no more than was asked for.
class TensorFile {
 public:
  explicit TensorFile(const std::filesystem::path& path) : file_(path), header_(read_header(file_)) {}

  [[nodiscard]] const SafeTensorsHeader& header() const noexcept { return header_; }

  /// The tensor as a table. It must have one of the four floating-point types.
  template <Scalar T>
  [[nodiscard]] Embedding<T> table(const TensorEntry& entry, Index rows, Index cols, LoadMode mode) {
    const std::uint64_t begin = header_.data_begin + entry.begin;
    std::shared_ptr<const std::byte> bytes;
    if (mode == LoadMode::mapped && ReadOnlyFile::can_map) {
      if (!mapping_) mapping_ = file_.map();
      bytes = {mapping_, mapping_.get() + begin};
      const bool aligned = reinterpret_cast<std::uintptr_t>(bytes.get()) % alignof(T) == 0;
      if (entry.dtype == dtype_of<T> && aligned) {
        return Embedding<T>::view({reinterpret_cast<const T*>(bytes.get()), rows, cols}, bytes);
      }
    }
    Matrix<T> weight(rows, cols);
    if (entry.dtype == dtype_of<T>) {
      const std::span elements(weight.data(), static_cast<std::size_t>(weight.size()));
      file_.read(begin, std::as_writable_bytes(elements));
      return Embedding<T>(std::move(weight));
    }
    if (!bytes) bytes = file_.read_copy(begin, entry.end - entry.begin);
    switch (entry.dtype) {
      case DType::F64:
        convert_into<double>(bytes.get(), weight);
        break;
      case DType::F16:
        convert_into<Eigen::half>(bytes.get(), weight);
        break;
      case DType::BF16:
        convert_into<Eigen::bfloat16>(bytes.get(), weight);
        break;
      default:
        convert_into<float>(bytes.get(), weight);
    }
    return Embedding<T>(std::move(weight));
  }

 private:
  ReadOnlyFile file_;
  SafeTensorsHeader header_;
  std::shared_ptr<const std::byte> mapping_;
};

/// The names a table goes by: GPT2Model's, and that of the models that have one inside.
[[nodiscard]] inline std::array<std::string, 2> tensor_names(std::string_view table) {
  const std::string name = std::string(table) + ".weight";
  return {name, "transformer." + name};
}

/// Says what is wrong with the name of a shard, nothing if it may be opened. The name is all there is to
/// judge by: in the Hugging Face cache, shards are symbolic links that lead out of the folder.
[[nodiscard]] inline std::string_view shard_name_fault(std::string_view name) {
  if (name.empty()) return "is empty";
  for (const char character : name) {
    if (character == '\\') return "has a backslash";
    if (static_cast<unsigned char>(character) < 0x20 || character == 0x7F) return "has a control character";
  }
  if (name.front() == '/' || std::filesystem::path(name).has_root_path()) return "is absolute";
  for (std::size_t begin = 0; begin <= name.size();) {
    const std::size_t end = (std::min)(name.find('/', begin), name.size());
    const std::string_view component = name.substr(begin, end - begin);
    if (component.empty()) return "has an empty component";
    if (component == "." || component == "..") return "has a component of dots";
    begin = end + 1;
  }
  return "";
}

/// Reads model.safetensors.index.json: checks the weight_map, and keeps what it says of the embedding tables.
class IndexVisitor final : public JsonVisitor {
 public:
  explicit IndexVisitor(const std::string& path) : path_(path) {
    for (const std::string_view table : {"wte", "wpe"}) {
      for (std::string& name : tensor_names(table)) shards_.emplace(std::move(name), "");
    }
  }

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
    if (const auto known = shards_.find(key_); known != shards_.end()) known->second = std::move(*shard);
  }

  /// The shard of each of the tables' names, empty where the index does not have it.
  [[nodiscard]] std::map<std::string, std::string>& shards() noexcept { return shards_; }

 private:
  [[noreturn]] void fail(std::string_view tensor, const std::string& problem) const {
    throw CheckpointError(path_, printable(tensor), "IndexInvalid", problem);
  }

  const std::string& path_;
  std::map<std::string, std::string> shards_;
  std::string key_;
  std::size_t depth_ = 0;
  bool in_weight_map_ = false;
  bool has_weight_map_ = false;
};

/// Throws: CheckpointError.
[[nodiscard]] inline std::map<std::string, std::string> read_index(const ReadOnlyFile& file) {
  if (file.size() > max_header_size) {
    throw CheckpointError(file.path(), "", "IndexInvalid",
                          "is larger than " + to_text(max_header_size) + " bytes");
  }
  IndexVisitor visitor(file.path());
  try {
    parse_strict_json(file.read_text(0, file.size()), visitor);
  } catch (const JsonFault& fault) {
    throw CheckpointError(file.path(), printable(fault.member()), "IndexInvalid",
                          fault.value() + (fault.value().empty() ? "" : " ") + fault.what());
  }
  return std::move(visitor.shards());
}

/// A folder with a model in one file or in shards.
class CheckpointFolder {
 public:
  explicit CheckpointFolder(const std::filesystem::path& folder) : folder_(folder) {
    const std::filesystem::path index = folder / "model.safetensors.index.json";
    if (exists(folder / single_file)) return;
    if (!exists(index)) {
      throw CheckpointError(folder.string(), "", "IoError",
                            "has neither model.safetensors nor model.safetensors.index.json");
    }
    const ReadOnlyFile file(index);
    index_path_ = file.path();
    shards_ = read_index(file);
  }

  /// The table of that name, "wte" or "wpe".
  /// Throws: CheckpointError.
  template <Scalar T>
  [[nodiscard]] Embedding<T> table(std::string_view name, std::string_view rows_name, Index rows, Index cols,
                                   LoadMode mode) {
    const std::string tensor = find(name);
    TensorFile& file = open(shards_ ? shards_->at(tensor) : single_file);
    const TensorEntry& entry = file.header().at(tensor);
    const auto fail = [&](std::string_view kind, const std::string& expected) {
      throw CheckpointError(file.header().path, tensor, kind,
                            "is " + tensor_text(entry.dtype, entry.shape) + ", expected " + expected);
    };
    if (entry.dtype != DType::F64 && entry.dtype != DType::F32 && entry.dtype != DType::F16 &&
        entry.dtype != DType::BF16) {
      fail("UnexpectedDType", "F64, F32, F16 or BF16");
    }
    const std::vector<std::uint64_t> shape{static_cast<std::uint64_t>(rows),
                                           static_cast<std::uint64_t>(cols)};
    if (entry.shape != shape) {
      fail("UnexpectedShape",
           "[" + std::string(rows_name) + ", n_embd] = [" + to_text(rows) + ", " + to_text(cols) + "]");
    }
    return file.table<T>(entry, rows, cols, mode);
  }

 private:
  static constexpr const char* single_file = "model.safetensors";

  /// A symbolic link that leads nowhere exists, too: it is an error, not a reason to look elsewhere.
  [[nodiscard]] static bool exists(const std::filesystem::path& path) {
    std::error_code error;
    return std::filesystem::symlink_status(path, error).type() != std::filesystem::file_type::not_found;
  }

  /// The name under which the checkpoint has the table.
  [[nodiscard]] std::string find(std::string_view table) {
    const auto [name, prefixed] = tensor_names(table);
    const auto has = [&](const std::string& tensor) {
      return shards_ ? !shards_->at(tensor).empty() : open(single_file).header().find(tensor) != nullptr;
    };
    const std::string& path = shards_ ? index_path_ : open(single_file).header().path;
    const bool has_name = has(name);
    const bool has_prefixed = has(prefixed);
    if (has_name && has_prefixed)
      throw CheckpointError(path, name, "AmbiguousTensor", "comes as " + prefixed + ", too");
    if (!has_name && !has_prefixed) {
      throw CheckpointError(path, name, "TensorNotFound", "is not there, nor is " + prefixed);
    }
    return has_name ? name : prefixed;
  }

  [[nodiscard]] TensorFile& open(const std::string& name) {
    std::unique_ptr<TensorFile>& file = files_[name];
    if (!file) file = std::make_unique<TensorFile>(folder_ / name);
    return *file;
  }

  std::filesystem::path folder_;
  std::string index_path_;
  std::optional<std::map<std::string, std::string>> shards_;  // nothing if the model is one file
  std::map<std::string, std::unique_ptr<TensorFile>> files_;
};

/// Throws: ShapeError unless a table has the shape that the config says.
template <Scalar T>
void check_table(std::string_view name, const Embedding<T>& table, std::string_view rows_name, Index rows,
                 Index cols) {
  if (table.num_embeddings() == rows && table.embedding_dim() == cols) return;
  throw ShapeError("", name, "[" + std::string(rows_name) + ", n_embd] = " + to_text({rows, cols}),
                   to_text({table.num_embeddings(), table.embedding_dim()}));
}

/// Throws: ConfigError if a text of the config cannot be written as JSON.
inline void check_utf8(const GPT2Config& config) {
  for_each_field(config, [](const char* name, const auto& value, FieldRange /*range*/) {
    const auto check = [name](std::string_view text) {
      if (find_invalid_utf8(text) != text.npos) throw ConfigError(name, printable(text), "is not UTF-8");
    };
    if constexpr (std::convertible_to<decltype(value), std::string_view>) {
      check(value);
    } else if constexpr (std::same_as<decltype(value), const std::optional<std::string>&>) {
      if (value) check(*value);
    }
  });
}

template <Scalar T>
[[nodiscard]] NamedTensor named_tensor(std::string name, const Embedding<T>& table) {
  const Eigen::Map<const Matrix<T>> weight = table.weight();
  return {std::move(name),
          {dtype_of<T>,
           {static_cast<std::uint64_t>(weight.rows()), static_cast<std::uint64_t>(weight.cols())},
           std::as_bytes(std::span(weight.data(), static_cast<std::size_t>(weight.size())))}};
}

}  // namespace detail

template <Pretrained E>
E from_pretrained(const std::filesystem::path& folder, LoadMode mode) {
  using T = typename detail::PretrainedScalar<E>::type;
  const auto config = from_pretrained<GPT2Config>(folder / "config.json");
  detail::CheckpointFolder checkpoint(folder);
  const auto wpe = [&] {
    return checkpoint.table<T>("wpe", "n_positions", config.n_positions, config.n_embd, mode);
  };
  if constexpr (std::same_as<E, GPT2PositionEmbeddings<T>>) {
    return E(wpe());
  } else {
    Embedding<T> wte = checkpoint.table<T>("wte", "vocab_size", config.vocab_size, config.n_embd, mode);
    return E(std::move(wte), wpe());
  }
}

template <Scalar T>
void save_pretrained(const std::filesystem::path& folder, const GPT2Config& config,
                     const GPT2Embeddings<T>& embeddings) {
  config.validate();
  detail::check_table("wte", embeddings.wte, "vocab_size", config.vocab_size, config.n_embd);
  detail::check_table("wpe", embeddings.wpe, "n_positions", config.n_positions, config.n_embd);

  constexpr std::string_view dtype = std::same_as<T, double>        ? "float64"
                                     : std::same_as<T, float>       ? "float32"
                                     : std::same_as<T, Eigen::half> ? "float16"
                                                                    : "bfloat16";
  detail::check_utf8(config);
  nlohmann::json json;
  to_json(json, config);  // not by a constructor, which would leak what it has where memory runs out
  json["dtype"] = dtype;  // transformers loads the model in this type
  const std::string text = detail::JsonDocument(std::move(json))->dump(2) + "\n";

  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) throw CheckpointError(folder.string(), "", "IoError", "cannot be created: " + error.message());

  // GPT2Model's names; GPT2LMHeadModel and the others find them by the prefix they know themselves.
  const std::array tensors{detail::named_tensor("wte.weight", embeddings.wte),
                           detail::named_tensor("wpe.weight", embeddings.wpe)};
  save_safetensors(folder / "model.safetensors", tensors);
  const std::array parts{std::as_bytes(std::span(text))};
  detail::replace_file(folder / "config.json", parts);
}

}  // namespace gpt2::inline GPT2_EMBEDDINGS_ABI
