// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The safetensors format: an 8-byte length, a JSON header, and the tensors' bytes back to back.
///
///     const auto file = gpt2::SafeTensors::open("model.safetensors");
///     const gpt2::TensorView wte = file["wte.weight"];   // dtype, shape, and bytes that lie in the file
///
/// Everything about a file is checked when it is opened, before any of it is handed out.
/// Source: the Rust crate safetensors, whose names for errors are the kinds of CheckpointError.

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt2/detail/files/read_only_file.hpp"
#include "gpt2/detail/files/replace_file.hpp"
#include "gpt2/detail/files/strict_json.hpp"
#include "gpt2/error.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// What a tensor's elements are: the format's 22 types, in the order in which the reference implementation
/// sorts them, which puts those that need the largest alignment last.
enum class DType : std::uint8_t {
  BOOL,
  F4,
  F6_E2M3,
  F6_E3M2,
  U8,
  I8,
  F8_E5M2,
  F8_E4M3,
  F8_E8M0,
  F8_E4M3FNUZ,
  F8_E5M2FNUZ,
  I16,
  U16,
  F16,
  BF16,
  I32,
  U32,
  F32,
  C64,
  F64,
  I64,
  U64,
};

/// The type's name in a file: "F32".
[[nodiscard]] constexpr std::string_view to_string(DType dtype) noexcept;

/// The type of that name, or nothing.
[[nodiscard]] constexpr std::optional<DType> parse_dtype(std::string_view name) noexcept;

/// How many bits an element has; fewer than 8 for F4 and F6.
[[nodiscard]] constexpr unsigned bits(DType dtype) noexcept;

/// A tensor: what it is, and where its bytes are. Little-endian, row-major, aligned to nothing in particular.
/// Lifetime: does not own the bytes.
struct TensorView {
  DType dtype = DType::F32;          ///< of the elements
  std::vector<std::uint64_t> shape;  ///< empty for a scalar, which has one element
  std::span<const std::byte> bytes;  ///< of all elements
};

/// A tensor to write.
struct NamedTensor {
  std::string name;   ///< under which it is found again
  TensorView tensor;  ///< whose bytes are written
};

/// How a file's bytes come into memory.
enum class LoadMode {
  mapped,  ///< the file is mapped, and read where it is touched; replace it by a rename, do not modify it
  copied,  ///< the file is read into memory, and no longer needed
};

namespace detail {
struct SafeTensorsHeader;
}

/// A file of tensors. Copies are cheap, and share the bytes.
class SafeTensors {
 public:
  /// Opens and checks a file. Beyond what the reference implementation refuses, these are errors: names
  /// that come twice, a NUL in names or metadata, more than 1,024 dimensions, more than 100,000 metadata
  /// entries.
  /// Throws: CheckpointError. Its kind is the reference implementation's name for the error; IoError for
  /// what is not a regular file.
  /// Complexity: O(n log n) in the number of tensors, and memory a few times the header's size. In mapped
  /// mode no tensor's bytes are read.
  /// Lifetime: mapped, the bytes are the file's. If somebody changes the file in place, that shows
  /// through; if somebody truncates it, touching the bytes raises SIGBUS. Replacing the file by a rename
  /// does no harm.
  [[nodiscard]] static SafeTensors open(const std::filesystem::path& path, LoadMode mode = LoadMode::mapped);

  /// The names of the tensors, sorted bytewise.
  [[nodiscard]] std::vector<std::string> names() const;
  /// The number of tensors.
  [[nodiscard]] std::size_t size() const noexcept;
  /// Whether there is a tensor of that name.
  [[nodiscard]] bool contains(std::string_view name) const;

  /// The tensor of that name.
  /// Throws: CheckpointError (TensorNotFound).
  /// Complexity: O(log n).
  /// Lifetime: the bytes live as long as any copy of this object, or its owner().
  [[nodiscard]] TensorView operator[](std::string_view name) const;

  /// The text the file carries beside the tensors, e.g. "format": "pt".
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept;

  /// Keeps the bytes alive.
  [[nodiscard]] std::shared_ptr<const void> owner() const noexcept { return data_; }

 private:
  SafeTensors(std::shared_ptr<const detail::SafeTensorsHeader> header, std::shared_ptr<const std::byte> data)
      : header_(std::move(header)), data_(std::move(data)) {}

  std::shared_ptr<const detail::SafeTensorsHeader> header_;
  std::shared_ptr<const std::byte> data_;  // where the header ends
};

/// Writes a file, byte for byte as the reference implementation does: tensors sorted by descending dtype,
/// then by name. Metadata gets "format": "pt", which transformers asks for, unless it has a format. The
/// file is written beside `path` and then renamed, so an old file is replaced whole or not at all, and
/// `tensors` may lie in it.
/// Throws: CheckpointError: InvalidTensorName for "__metadata__", a NUL, and names that come twice;
/// InvalidHeader for what is not UTF-8; InvalidMetadata for a NUL in it; InvalidTensorView,
/// MisalignedSlice and ValidationOverflow for shapes that do not fit their bytes; HeaderTooLarge;
/// IoError.
inline void save_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                             std::map<std::string, std::string> metadata = {});

// Implementation.

static_assert(std::endian::native == std::endian::little,
              "safetensors files are little-endian, and so must be the machine that reads them in place");

namespace detail {

struct DTypeInfo {
  std::string_view name;
  unsigned bits;
};

inline constexpr std::array<DTypeInfo, 22> dtype_infos{{
    {"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6},     {"U8", 8},          {"I8", 8},
    {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}, {"I16", 16},
    {"U16", 16},    {"F16", 16},    {"BF16", 16},   {"I32", 32},        {"U32", 32},        {"F32", 32},
    {"C64", 64},    {"F64", 64},    {"I64", 64},    {"U64", 64},
}};

}  // namespace detail

constexpr std::string_view to_string(DType dtype) noexcept {
  return detail::dtype_infos[static_cast<std::size_t>(dtype)].name;
}

constexpr unsigned bits(DType dtype) noexcept {
  return detail::dtype_infos[static_cast<std::size_t>(dtype)].bits;
}

constexpr std::optional<DType> parse_dtype(std::string_view name) noexcept {
  for (std::size_t i = 0; i < detail::dtype_infos.size(); ++i) {
    if (detail::dtype_infos[i].name == name) return static_cast<DType>(i);
  }
  return std::nullopt;
}

static_assert(to_string(DType::BOOL) == "BOOL" && to_string(DType::U64) == "U64");

namespace detail {

inline constexpr std::uint64_t max_header_size = 100'000'000;
inline constexpr std::string_view metadata_key = "__metadata__";

// A header of a hundred megabytes may hold two million short tensors or fifty million dimensions. With this
// bound the second costs no more than the first: no single shape is copied from vector to vector as it grows.
inline constexpr std::size_t max_rank = 1024;

// An entry of a map costs more than ten times its shortest text.
inline constexpr std::size_t max_metadata = 100'000;

/// What the header says of one tensor.
struct TensorEntry {
  std::string name;
  DType dtype = DType::F32;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0;  ///< of the bytes, counted from where the header ends
  std::uint64_t end = 0;
};

struct SafeTensorsHeader {
  std::string path;
  std::uint64_t data_begin = 0;  ///< where the header ends
  std::map<std::string, std::string> metadata;
  /// Sorted by name. A deque, because a vector that grows needs three times the room for a moment.
  std::deque<TensorEntry> entries;

  [[nodiscard]] const TensorEntry* find(std::string_view name) const {
    const auto entry =
        std::lower_bound(entries.begin(), entries.end(), name,
                         [](const TensorEntry& left, std::string_view right) { return left.name < right; });
    return entry != entries.end() && entry->name == name ? &*entry : nullptr;
  }

  /// Throws: CheckpointError (TensorNotFound).
  [[nodiscard]] const TensorEntry& at(std::string_view name) const {
    const TensorEntry* const entry = find(name);
    if (entry != nullptr) return *entry;
    throw CheckpointError(path, printable(name), "TensorNotFound", "is not in the file");
  }
};

/// `F32 of shape [2, 3]`.
[[nodiscard]] inline std::string tensor_text(DType dtype, std::span<const std::uint64_t> shape) {
  constexpr std::size_t limit = 16;
  std::string text = std::string(to_string(dtype)) + " of shape [";
  for (std::size_t i = 0; i < (std::min)(shape.size(), limit); ++i) {
    text += (i > 0 ? ", " : "") + to_text(shape[i]);
  }
  return text + (shape.size() > limit ? ", ...]" : "]");
}

/// The product, or nothing if it overflows.
[[nodiscard]] constexpr std::optional<std::uint64_t> checked_product(std::uint64_t left,
                                                                     std::uint64_t right) {
  if (right != 0 && left > (std::numeric_limits<std::uint64_t>::max)() / right) return std::nullopt;
  return left * right;
}

/// How many bytes a tensor has.
/// Throws: CheckpointError: ValidationOverflow if the count, multiplied from left to right, overflows in
/// between, MisalignedSlice if it is not a whole number of bytes.
[[nodiscard]] inline std::uint64_t tensor_size(const std::string& path, const std::string& name, DType dtype,
                                               std::span<const std::uint64_t> shape) {
  std::optional<std::uint64_t> product = 1;
  for (const std::uint64_t extent : shape) {
    if (product) product = checked_product(*product, extent);
  }
  if (product) product = checked_product(*product, bits(dtype));
  const auto fail = [&](std::string_view kind, std::string_view problem) {
    throw CheckpointError(path, printable(name), kind, tensor_text(dtype, shape) + std::string(problem));
  };
  if (!product) fail("ValidationOverflow", " has more bits than 64 bits can count");
  if (*product % 8 != 0) fail("MisalignedSlice", " does not fill whole bytes");
  return *product / 8;
}

/// Turns a header's JSON into entries, without a document in between. A tensor's other fields are ignored.
class HeaderVisitor final : public JsonVisitor {
 public:
  explicit HeaderVisitor(SafeTensorsHeader& header) : header_(header) {}

  void begin_object() override { begin(true); }
  void begin_array() override { begin(false); }

  void end() override {
    switch (place_) {
      case Place::outside:  // where nothing can end
      case Place::header:
        place_ = Place::outside;
        break;
      case Place::metadata:
        place_ = Place::header;
        break;
      case Place::tensor:
        if (!has_dtype_) fail("has no dtype");
        if (!has_shape_) fail("has no shape");
        if (!has_offsets_) fail("has no data_offsets");
        place_ = Place::header;
        break;
      case Place::shape:
        entry().shape.shrink_to_fit();
        place_ = Place::tensor;
        break;
      case Place::offsets:
        if (offsets_ != 2) fail("data_offsets has " + to_text(offsets_) + " numbers instead of 2");
        place_ = Place::tensor;
        break;
      case Place::ignored:
        if (--ignored_depth_ == 0) place_ = Place::tensor;
        break;
    }
  }

  void key(std::string&& name) override {
    if (place_ != Place::ignored) key_ = std::move(name);
  }

  void value(nlohmann::json&& scalar) override {
    switch (place_) {
      case Place::outside:
        fail("header is not an object");
      case Place::header:
        if (key_ != metadata_key) fail_type(key_, "an object", printable_json(scalar));
        if (!scalar.is_null()) fail_type("", "an object or null", printable_json(scalar));
        break;
      case Place::metadata:
        if (!scalar.is_string()) fail_type(key_, "a string", printable_json(scalar));
        if (header_.metadata.size() == max_metadata) fail("__metadata__ has more than 100,000 entries");
        header_.metadata.emplace(std::move(key_), std::move(scalar.get_ref<std::string&>()));
        break;
      case Place::tensor:
        if (key_ == "dtype") {
          read_dtype(scalar);
        } else if (key_ == "shape" || key_ == "data_offsets") {
          fail_type(key_, "an array", printable_json(scalar));
        }
        break;
      case Place::shape:
        if (entry().shape.size() == max_rank) {
          fail("shape has more than " + to_text(max_rank) + " dimensions");
        }
        entry().shape.push_back(read_unsigned("shape", entry().shape.size(), scalar));
        break;
      case Place::offsets:
        if (offsets_ < 2) {
          (offsets_ == 0 ? entry().begin : entry().end) = read_unsigned("data_offsets", offsets_, scalar);
        }
        ++offsets_;
        break;
      case Place::ignored:
        break;
    }
  }

 private:
  /// The container whose members come next.
  enum class Place { outside, header, metadata, tensor, shape, offsets, ignored };

  void begin(bool object) {
    const std::string_view found = object ? "an object" : "an array";
    switch (place_) {
      case Place::outside:
        if (!object) fail("header is not an object");
        place_ = Place::header;
        break;
      case Place::header:
        if (key_ == metadata_key) {
          if (!object) fail_type("", "an object or null", found);
          place_ = Place::metadata;
        } else {
          if (!object) fail_type(key_, "an object", found);
          header_.entries.emplace_back().name = std::move(key_);
          has_dtype_ = has_shape_ = has_offsets_ = false;
          offsets_ = 0;
          place_ = Place::tensor;
        }
        break;
      case Place::metadata:
        fail_type(key_, "a string", found);
      case Place::tensor:
        if (key_ == "dtype") fail_type(key_, "a string", found);
        if (key_ == "shape" || key_ == "data_offsets") {
          if (object) fail_type(key_, "an array", found);
          (key_ == "shape" ? has_shape_ : has_offsets_) = true;
          place_ = key_ == "shape" ? Place::shape : Place::offsets;
        } else {
          place_ = Place::ignored;
          ignored_depth_ = 1;
        }
        break;
      case Place::shape:
      case Place::offsets:
        fail_type(place_ == Place::shape ? "shape" : "data_offsets", "an array of integers", found);
      case Place::ignored:
        ++ignored_depth_;
        break;
    }
  }

  void read_dtype(const nlohmann::json& scalar) {
    const auto* const name = scalar.get_ptr<const std::string*>();
    if (name == nullptr) fail_type(key_, "a string", printable_json(scalar));
    const std::optional<DType> dtype = parse_dtype(*name);
    if (!dtype) fail("dtype = " + printable_json(scalar) + " is not one of the format's");
    entry().dtype = *dtype;
    has_dtype_ = true;
  }

  std::uint64_t read_unsigned(std::string_view field, std::size_t index, const nlohmann::json& scalar) const {
    if (!scalar.is_number_unsigned()) {
      fail(std::string(field) + "[" + to_text(index) + "] = " + printable_json(scalar) +
           " is not an unsigned 64-bit integer");
    }
    return scalar.get<std::uint64_t>();
  }

  TensorEntry& entry() { return header_.entries.back(); }

  [[noreturn]] void fail(const std::string& problem) const {
    const bool in_tensor = place_ != Place::outside && place_ != Place::header && place_ != Place::metadata;
    throw CheckpointError(header_.path, in_tensor ? printable(header_.entries.back().name) : "",
                          "InvalidHeaderDeserialization", problem);
  }
  [[noreturn]] void fail_type(std::string_view field, std::string_view expected,
                              std::string_view found) const {
    const std::string_view in_metadata = place_ == Place::metadata || field.empty() ? metadata_key : "";
    fail(std::string(in_metadata) + (in_metadata.empty() || field.empty() ? "" : ": ") + printable(field) +
         " is not " + std::string(expected) + ": " + std::string(found));
  }

  SafeTensorsHeader& header_;
  Place place_ = Place::outside;
  std::string key_;
  bool has_dtype_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
  std::size_t offsets_ = 0;
  std::size_t ignored_depth_ = 0;
};

/// Throws: CheckpointError (InvalidTensorName, InvalidMetadata) if there is a NUL: to C, the name would end
/// there, and two tools could see two different files.
inline void check_for_nul(const std::string& path, std::string_view name) {
  if (name.find('\0') == name.npos) return;
  throw CheckpointError(path, printable(name), "InvalidTensorName", "the name has a NUL");
}
inline void check_for_nul(const std::string& path, const std::map<std::string, std::string>& metadata) {
  for (const auto& [key, value] : metadata) {
    if (key.find('\0') == key.npos && value.find('\0') == value.npos) continue;
    throw CheckpointError(path, "", "InvalidMetadata", "the metadata of " + printable(key) + " has a NUL");
  }
}

/// Checks that the tensors have the sizes they claim and lie one behind the other, without a hole, from
/// where the header ends to where the file ends. Leaves them sorted by their place.
/// Throws: CheckpointError.
inline void check_layout(SafeTensorsHeader& header, std::uint64_t data_size) {
  std::sort(header.entries.begin(), header.entries.end(),
            [](const TensorEntry& left, const TensorEntry& right) {
              return std::pair(left.begin, left.end) < std::pair(right.begin, right.end);
            });
  std::uint64_t place = 0;
  for (const TensorEntry& entry : header.entries) {
    const auto fail = [&](std::string_view kind, const std::string& problem) {
      throw CheckpointError(header.path, printable(entry.name), kind, problem);
    };
    const auto offsets = [&] {
      return "data_offsets [" + to_text(entry.begin) + ", " + to_text(entry.end) + "]";
    };
    if (entry.begin != place) {
      fail("InvalidOffset", offsets() +
                                (entry.begin < place ? " overlap the tensor before" : " leave a hole") +
                                ": expected to begin at " + to_text(place));
    }
    if (entry.end < entry.begin) fail("InvalidOffset", offsets() + " end before they begin");
    const std::uint64_t size = tensor_size(header.path, entry.name, entry.dtype, entry.shape);
    if (entry.end - entry.begin != size) {
      fail("TensorInvalidInfo", offsets() + " hold " + to_text(entry.end - entry.begin) + " bytes, but " +
                                    tensor_text(entry.dtype, entry.shape) + " has " + to_text(size));
    }
    place = entry.end;
  }
  if (place != data_size) {
    throw CheckpointError(header.path, "", "MetadataIncompleteBuffer",
                          "the tensors end at " + to_text(place) + ", but the data at " + to_text(data_size));
  }
}

/// Reads and checks everything about a file but the tensors' bytes.
/// Throws: CheckpointError.
[[nodiscard]] inline SafeTensorsHeader read_header(const ReadOnlyFile& file) {
  constexpr std::uint64_t prefix = sizeof(std::uint64_t);
  const auto fail = [&](std::string_view kind, const std::string& problem) {
    throw CheckpointError(file.path(), "", kind, problem);
  };

  if (file.size() < prefix) {
    fail("HeaderTooSmall", "is too small to be a safetensors file: " + to_text(file.size()) + " bytes");
  }
  std::uint64_t size = 0;
  file.read(0, std::as_writable_bytes(std::span(&size, 1)));
  if (size > max_header_size) {
    fail("HeaderTooLarge",
         "header of " + to_text(size) + " bytes is larger than " + to_text(max_header_size));
  }
  if (size > file.size() - prefix) {
    fail("InvalidHeaderLength",
         "header of " + to_text(size) + " bytes is longer than the file, which has " + to_text(file.size()));
  }

  SafeTensorsHeader header;
  header.path = file.path();
  header.data_begin = prefix + size;
  {
    // A copy: it is checked and then used, and a mapping could change in between.
    const std::string text = file.read_text(prefix, size);
    if (const std::size_t at = find_invalid_utf8(text); at != text.npos) {
      fail("InvalidHeader", "header is not UTF-8 at byte " + to_text(prefix + at));
    }
    try {
      HeaderVisitor visitor(header);
      parse_strict_json(text, visitor);
    } catch (const JsonFault& fault) {
      fail("InvalidHeaderDeserialization",
           "header " +
               (fault.member().empty() ? "" : printable(fault.member()) + ": " + fault.value() + " ") +
               std::string(fault.what()));
    }
  }
  for (const TensorEntry& entry : header.entries) check_for_nul(header.path, entry.name);
  check_for_nul(header.path, header.metadata);
  check_layout(header, file.size() - header.data_begin);
  std::sort(header.entries.begin(), header.entries.end(),
            [](const TensorEntry& left, const TensorEntry& right) { return left.name < right.name; });
  return header;
}

}  // namespace detail

inline SafeTensors SafeTensors::open(const std::filesystem::path& path, LoadMode mode) {
  const detail::ReadOnlyFile file(path);
  auto header = std::make_shared<const detail::SafeTensorsHeader>(detail::read_header(file));
  if (mode == LoadMode::copied) {
    auto data = file.read_copy(header->data_begin, file.size() - header->data_begin);
    return {std::move(header), std::move(data)};
  }
  const std::shared_ptr<const std::byte> bytes = file.map();
  std::shared_ptr<const std::byte> data(bytes, bytes.get() + header->data_begin);
  return {std::move(header), std::move(data)};
}

inline std::vector<std::string> SafeTensors::names() const {
  std::vector<std::string> names;
  names.reserve(size());
  for (const detail::TensorEntry& entry : header_->entries) names.push_back(entry.name);
  return names;
}

inline std::size_t SafeTensors::size() const noexcept { return header_->entries.size(); }

inline bool SafeTensors::contains(std::string_view name) const { return header_->find(name) != nullptr; }

inline TensorView SafeTensors::operator[](std::string_view name) const {
  const detail::TensorEntry& entry = header_->at(name);
  return {entry.dtype,
          entry.shape,
          {data_.get() + entry.begin, static_cast<std::size_t>(entry.end - entry.begin)}};
}

inline const std::map<std::string, std::string>& SafeTensors::metadata() const noexcept {
  return header_->metadata;
}

namespace detail {

/// Throws: CheckpointError unless the reader would take the tensor.
inline void check_writable(const std::string& path, const NamedTensor& tensor) {
  const auto fail = [&](std::string_view kind, const std::string& problem) {
    throw CheckpointError(path, printable(tensor.name), kind, problem);
  };
  if (tensor.name == metadata_key) fail("InvalidTensorName", "the name is the format's own");
  if (find_invalid_utf8(tensor.name) != tensor.name.npos) fail("InvalidHeader", "the name is not UTF-8");
  check_for_nul(path, tensor.name);
  const auto& [dtype, shape, bytes] = tensor.tensor;
  if (static_cast<std::size_t>(dtype) >= dtype_infos.size()) {
    fail("InvalidTensorView", "the dtype is not one of the format's");
  }
  if (shape.size() > max_rank) {
    fail("InvalidTensorView", "the shape has more than " + to_text(max_rank) + " dimensions");
  }
  const std::uint64_t size = tensor_size(path, tensor.name, dtype, shape);
  if (bytes.size() != size) {
    fail("InvalidTensorView",
         tensor_text(dtype, shape) + " has " + to_text(size) + " bytes, not " + to_text(bytes.size()));
  }
}

/// Throws: CheckpointError unless the reader would take the metadata.
inline void check_writable(const std::string& path, const std::map<std::string, std::string>& metadata) {
  for (const auto& [key, value] : metadata) {
    if (find_invalid_utf8(key) == key.npos && find_invalid_utf8(value) == value.npos) continue;
    throw CheckpointError(path, "", "InvalidHeader", "the metadata of " + printable(key) + " is not UTF-8");
  }
  check_for_nul(path, metadata);
}

/// A file's header, up to where the tensors' bytes begin.
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
  const std::string file = path.string();
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
    throw CheckpointError(file, detail::printable((*twice)->name), "InvalidTensorName",
                          "the name comes twice");
  }
  std::stable_sort(sorted.begin(), sorted.end(), [](const NamedTensor* left, const NamedTensor* right) {
    return left->tensor.dtype > right->tensor.dtype;
  });

  const std::string header = detail::header_text(sorted, metadata);
  if (header.size() > detail::max_header_size) {
    throw CheckpointError(file, "", "HeaderTooLarge",
                          "the header is larger than " + detail::to_text(detail::max_header_size) + " bytes");
  }
  const std::uint64_t header_size = header.size();
  std::vector<std::span<const std::byte>> parts{std::as_bytes(std::span(&header_size, 1)),
                                                std::as_bytes(std::span(header))};
  for (const NamedTensor* const tensor : sorted) parts.push_back(tensor->tensor.bytes);
  detail::replace_file(path, parts);
}

}  // namespace gpt2::inline GPT2_EMBEDDINGS_ABI
