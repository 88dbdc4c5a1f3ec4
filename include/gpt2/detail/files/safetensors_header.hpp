// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The header of a safetensors file: read, and checked against the file.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt2/detail/files/foreign_file.hpp"
#include "gpt2/detail/files/read_only_file.hpp"
#include "gpt2/detail/files/strict_json.hpp"
#include "gpt2/dtype.hpp"
#include "gpt2/error.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

static_assert(std::endian::native == std::endian::little,
              "safetensors files are little-endian, and so must be the machine that reads them in place");

inline constexpr std::uint64_t max_header_size = 100'000'000;
inline constexpr std::string_view metadata_key = "__metadata__";

// A header of a hundred megabytes may hold two million short tensors or fifty million dimensions. With this
// bound the second costs no more than the first: no single shape is copied from vector to vector as it grows.
inline constexpr std::size_t max_rank = 1024;

// An entry of a map costs more than ten times its shortest text.
inline constexpr std::size_t max_metadata = 100'000;

/// Some of the names of tensors, for a message: "a, b and 3 more"; "no tensors" if `named` is empty. Its elements are
/// in order, and have a name.
template <class Named>
[[nodiscard]] std::string some_names(const Named& named) {
  constexpr std::size_t limit = 6;
  constexpr std::size_t longest = 80;
  if (named.empty()) return "no tensors";
  std::string text;
  std::size_t count = 0;
  for (const auto& element : named) {
    if (count == limit) return text + " and " + to_text(named.size() - limit) + " more";
    text += (count++ > 0 ? ", " : "") + printable(element.name, longest);
  }
  return text;
}

/// One tensor's entry in the header.
struct TensorEntry {
  std::string name;
  DType dtype = DType::F32;
  std::vector<std::uint64_t> shape;
  std::uint64_t begin = 0;  ///< of the bytes, counted from the end of the header
  std::uint64_t end = 0;
};

struct SafeTensorsHeader {
  std::string path;
  std::uint64_t data_begin = 0;  ///< the end of the header
  std::map<std::string, std::string> metadata;
  /// Sorted by name. A deque, because a growing vector needs three times the memory while it moves its elements.
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
    throw CheckpointError(path, printable(name), kinds::tensor_not_found,
                          "is not in the file, which has " + some_names(entries));
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

/// The number of bytes of a tensor.
/// Throws: CheckpointError: ValidationOverflow if the count, multiplied from left to right, overflows at any step,
/// MisalignedSlice if it is not a whole number of bytes.
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
  if (!product) fail(kinds::validation_overflow, " has more bits than 64 bits can count");
  if (*product % 8 != 0) fail(kinds::misaligned_slice, " does not fill whole bytes");
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
      case Place::outside:  // impossible: nothing is open
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
                          kinds::invalid_header_deserialization, problem);
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

/// Throws: CheckpointError (InvalidTensorName) if there is a NUL: to C, the name would end there, and two tools could
/// see two different files.
inline void check_for_nul(const std::string& path, std::string_view name) {
  if (name.find('\0') == name.npos) return;
  throw CheckpointError(path, printable(name), kinds::invalid_tensor_name, "the name has a NUL");
}

/// Checks that the tensors have the sizes they claim and are contiguous, from the end of the header to the end of the
/// file. Leaves them sorted by their place.
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
      fail(kinds::invalid_offset, offsets() +
                                      (entry.begin < place ? " overlap the tensor before" : " leave a hole") +
                                      ": expected to begin at " + to_text(place));
    }
    if (entry.end < entry.begin) fail(kinds::invalid_offset, offsets() + " end before they begin");
    const std::uint64_t size = tensor_size(header.path, entry.name, entry.dtype, entry.shape);
    if (entry.end - entry.begin != size) {
      fail(kinds::tensor_invalid_info, offsets() + " hold " + to_text(entry.end - entry.begin) +
                                           " bytes, but " + tensor_text(entry.dtype, entry.shape) + " has " +
                                           to_text(size));
    }
    place = entry.end;
  }
  if (place != data_size) {
    throw CheckpointError(header.path, "", kinds::metadata_incomplete_buffer,
                          "the tensors end at " + to_text(place) + ", but the data at " + to_text(data_size));
  }
}

/// Reads and checks everything about a file but the tensors' bytes.
/// Throws: CheckpointError.
[[nodiscard]] inline SafeTensorsHeader read_header(const ReadOnlyFile& file) {
  constexpr std::uint64_t prefix = sizeof(std::uint64_t);
  const auto fail = [&](std::string_view kind, const std::string& problem) {
    // For a file of another kind, the message that helps is the one that names the kind.
    const std::string begin = file.read_text(0, (std::min)(file.size(), std::uint64_t{foreign_file_bytes}));
    const std::string_view foreign = foreign_file_text(begin);
    throw CheckpointError(file.path(), "", kind, foreign.empty() ? problem : std::string(foreign));
  };

  if (file.size() < prefix) {
    fail(kinds::header_too_small,
         "is too small to be a safetensors file: " + to_text(file.size()) + " bytes");
  }
  std::uint64_t size = 0;
  file.read(0, std::as_writable_bytes(std::span(&size, 1)));
  if (size > max_header_size) {
    fail(kinds::header_too_large,
         "header of " + to_text(size) + " bytes is larger than " + to_text(max_header_size));
  }
  if (size > file.size() - prefix) {
    fail(kinds::invalid_header_length,
         "header of " + to_text(size) + " bytes is longer than the file, which has " + to_text(file.size()));
  }

  SafeTensorsHeader header;
  header.path = file.path();
  header.data_begin = prefix + size;
  {
    // A copy: it is checked and then used, and a mapping could change in between.
    const std::string text = file.read_text(prefix, size);
    if (const std::size_t at = find_invalid_utf8(text); at != text.npos) {
      fail(kinds::invalid_header, "header is not UTF-8 at byte " + to_text(prefix + at));
    }
    try {
      HeaderVisitor visitor(header);
      parse_strict_json(text, visitor);
    } catch (const JsonFault& fault) {
      fail(kinds::invalid_header_deserialization,
           "header " +
               (fault.member().empty() ? "" : printable(fault.member()) + ": " + fault.value() + " ") +
               std::string(fault.what()));
    }
  }
  for (const TensorEntry& entry : header.entries) check_for_nul(header.path, entry.name);
  check_layout(header, file.size() - header.data_begin);
  std::sort(header.entries.begin(), header.entries.end(),
            [](const TensorEntry& left, const TensorEntry& right) { return left.name < right.name; });
  return header;
}

}  // namespace gpt2::detail
