// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The errors that the library throws on purpose. Each type has the details as members, and in what() after a stable
/// tag:
///
///     [gpt2.index_error] wte: input_ids[1, 3] = 50257 is outside [0, 50257)
///
/// An operation that throws has changed nothing: all inputs are checked before the first write. If memory runs out,
/// std::bad_alloc is thrown as usual.

#include <concepts>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "gpt2/detail/error.hpp"
#include "gpt2/version.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

// Otherwise a shared library with hidden symbols would throw a type of its own, which others cannot catch.
#if defined(__GNUC__) && !defined(_WIN32)
#define GPT2_EMBEDDINGS_VISIBLE __attribute__((visibility("default")))
#else
#define GPT2_EMBEDDINGS_VISIBLE
#endif

/// The base of every error the library throws.
class GPT2_EMBEDDINGS_VISIBLE Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// An id, position or label is out of range.
class GPT2_EMBEDDINGS_VISIBLE IndexError : public Error {
 public:
  /// \param table        the table used: see table()
  /// \param name         the argument that holds the value, e.g. "input_ids"
  /// \param coordinates  the place in the argument; empty if the value is not one of its elements
  /// \param value        the value found
  /// \param bound        the end of the legal range [0, bound)
  /// \param remark       more about the range, appended to the message
  template <std::integral I>
  IndexError(std::string_view table, std::string_view name, std::vector<std::int64_t> coordinates, I value,
             std::int64_t bound, std::string_view remark = "")
      : Error(message(table, name, coordinates, detail::to_text(value), bound, remark)),
        details_(Details{std::string(table), std::string(name), std::move(coordinates), saturated(value),
                         bound}) {}

  /// The table used: "wte" or "wpe", "embedding" for one on its own, "lm_head" for the head, "dense" for a matrix that
  /// a sparse gradient is added to; empty if there was no table, as in position_ids_like().
  [[nodiscard]] const std::string& table() const noexcept { return details_->table; }
  /// The argument that holds the value, e.g. "input_ids".
  [[nodiscard]] const std::string& name() const noexcept { return details_->name; }
  /// The place in the argument: `[i]` for rank 1, `[batch, i]` for rank 2, empty if not one of its elements.
  [[nodiscard]] const std::vector<std::int64_t>& coordinates() const noexcept {
    return details_->coordinates;
  }
  /// The value found. An unsigned value above 2^63 - 1 is 2^63 - 1 here; what() always has it exactly.
  [[nodiscard]] std::int64_t value() const noexcept { return details_->value; }
  /// The end of the legal range [0, bound).
  [[nodiscard]] std::int64_t bound() const noexcept { return details_->bound; }

 private:
  struct Details {
    std::string table;
    std::string name;
    std::vector<std::int64_t> coordinates;
    std::int64_t value;
    std::int64_t bound;
  };

  template <std::integral I>
  static constexpr std::int64_t saturated(I value) noexcept {
    constexpr std::int64_t largest = (std::numeric_limits<std::int64_t>::max)();
    if constexpr (std::is_unsigned_v<I> && sizeof(I) == sizeof(largest)) {
      if (value > static_cast<std::uint64_t>(largest)) return largest;
    }
    return static_cast<std::int64_t>(value);
  }

  static std::string message(std::string_view table, std::string_view name,
                             const std::vector<std::int64_t>& coordinates, const std::string& value,
                             std::int64_t bound, std::string_view remark) {
    return "[gpt2.index_error] " + detail::to_text(table, name, coordinates) + " = " + value +
           " is outside [0, " + detail::to_text(bound) + ")" + std::string(remark);
  }

  detail::SharedDetails<Details> details_;
};

/// Shapes do not fit each other.
class GPT2_EMBEDDINGS_VISIBLE ShapeError : public Error {
 public:
  /// \param table     the table used: see IndexError::table()
  /// \param name      the argument whose shape is wrong: "out"
  /// \param expected  the shape or shapes that fit, as text: "[4, 8]", "[4] or [1, 4]"
  /// \param found     the shape found, as text
  ShapeError(std::string_view table, std::string_view name, std::string_view expected, std::string_view found)
      : Error("[gpt2.shape_error] " + detail::to_text(table, name, {}) + " is " + std::string(found) +
              ", expected " + std::string(expected)),
        details_(Details{std::string(table), std::string(name), std::string(expected), std::string(found)}) {}

  /// The table used, as IndexError::table(); empty if there was no table, or several.
  [[nodiscard]] const std::string& table() const noexcept { return details_->table; }
  /// The argument whose shape is wrong: "out".
  [[nodiscard]] const std::string& name() const noexcept { return details_->name; }
  /// The shape or shapes that fit: "[4, 8]", "[4] or [1, 4]".
  [[nodiscard]] const std::string& expected() const noexcept { return details_->expected; }
  /// The shape found.
  [[nodiscard]] const std::string& found() const noexcept { return details_->found; }

 private:
  struct Details {
    std::string table;
    std::string name;
    std::string expected;
    std::string found;
  };
  detail::SharedDetails<Details> details_;
};

/// An option, or an element of an argument, is outside its range.
class GPT2_EMBEDDINGS_VISIBLE ArgumentError : public Error {
 public:
  /// \param name         the option, e.g. "padding_idx"
  /// \param value        the value found
  /// \param requirement  the fault, as the end of the sentence "name = value …"
  template <class Number>
  requires std::is_arithmetic_v<Number> ArgumentError(std::string_view name, Number value,
                                                      std::string_view requirement)
      : ArgumentError(name, {}, value, requirement) {}

  /// \param name         the argument, e.g. "attention_mask"
  /// \param coordinates  the place of the value in it
  /// \param value        the value found
  /// \param requirement  the fault, as the end of the sentence "name[coordinates] = value …"
  template <class Number>
  requires std::is_arithmetic_v<Number> ArgumentError(std::string_view name,
                                                      std::vector<std::int64_t> coordinates, Number value,
                                                      std::string_view requirement)
      : Error("[gpt2.argument_error] " + detail::to_text("", name, coordinates) + " = " +
              detail::to_text(value) + " " + std::string(requirement)),
        details_(Details{std::string(name), std::move(coordinates), static_cast<double>(value)}) {}

  /// Something is missing.
  /// \param name      its name, e.g. "grad"
  /// \param sentence  says that it is missing, and the remedy
  ArgumentError(std::string_view name, std::string_view sentence)
      : Error("[gpt2.argument_error] " + std::string(sentence)),
        details_(Details{std::string(name), {}, 0}) {}

  /// The option or argument, e.g. "padding_idx".
  [[nodiscard]] const std::string& name() const noexcept { return details_->name; }
  /// The place in the argument: `[i]` for rank 1, `[batch, i]` for rank 2; empty for an option.
  [[nodiscard]] const std::vector<std::int64_t>& coordinates() const noexcept {
    return details_->coordinates;
  }
  /// The value found, to a double's precision; what() has it exactly. 0 for something that is missing.
  [[nodiscard]] double value() const noexcept { return details_->value; }

 private:
  struct Details {
    std::string name;
    std::vector<std::int64_t> coordinates;
    double value;
  };
  detail::SharedDetails<Details> details_;
};

/// A GPT2Config, or the JSON it is read from, is invalid.
class GPT2_EMBEDDINGS_VISIBLE ConfigError : public Error {
 public:
  /// \param field    the field, as the file spells it; empty if the text is not JSON
  /// \param value    the value found, as JSON; in words if it nests too deep for that
  /// \param problem  the fault, as the end of the sentence "field = value …"
  ConfigError(std::string_view field, std::string_view value, std::string_view problem)
      : Error("[gpt2.config_error] " + std::string(field) + (field.empty() ? "" : " = ") +
              std::string(value) + (value.empty() && field.empty() ? "" : " ") + std::string(problem)),
        details_(Details{std::string(field), std::string(value)}) {}

  /// The field, as the file spells it: "hidden_size" if n_embd was read from that. Empty if the text is not JSON.
  [[nodiscard]] const std::string& field() const noexcept { return details_->field; }
  /// The value found, as JSON; in words if it nests too deep for that.
  [[nodiscard]] const std::string& value() const noexcept { return details_->value; }

 private:
  struct Details {
    std::string field;
    std::string value;
  };
  detail::SharedDetails<Details> details_;
};

/// The kinds of CheckpointError: all faults of the files of a checkpoint. The first have the names of errors in the
/// reference implementation of safetensors (the Rust crate).
namespace kinds {
inline constexpr std::string_view header_too_small = "HeaderTooSmall";  ///< the file ends before its header
inline constexpr std::string_view header_too_large = "HeaderTooLarge";  ///< a header of more than 100 MB
inline constexpr std::string_view invalid_header_length =
    "InvalidHeaderLength";                                           ///< a header longer than the file
inline constexpr std::string_view invalid_header = "InvalidHeader";  ///< a header that is not UTF-8
inline constexpr std::string_view invalid_header_deserialization =
    "InvalidHeaderDeserialization";  ///< a header that is not strict JSON, or not of the format
inline constexpr std::string_view invalid_offset = "InvalidOffset";  ///< tensors that are not contiguous
inline constexpr std::string_view metadata_incomplete_buffer =
    "MetadataIncompleteBuffer";  ///< tensors that do not end with the file
inline constexpr std::string_view validation_overflow = "ValidationOverflow";  ///< a shape too large to count
inline constexpr std::string_view misaligned_slice = "MisalignedSlice";  ///< a tensor that ends inside a byte
inline constexpr std::string_view tensor_invalid_info =
    "TensorInvalidInfo";  ///< a shape and offsets that contradict each other
inline constexpr std::string_view tensor_not_found = "TensorNotFound";  ///< no tensor of the name
inline constexpr std::string_view invalid_tensor_view =
    "InvalidTensorView";                                 ///< bytes to save that do not fit their shape
inline constexpr std::string_view io_error = "IoError";  ///< the system refused to read or write
// The library's own.
inline constexpr std::string_view invalid_tensor_name = "InvalidTensorName";  ///< a name that cannot be saved
inline constexpr std::string_view config_invalid =
    "ConfigInvalid";  ///< a config that does not describe the model
inline constexpr std::string_view index_invalid = "IndexInvalid";  ///< an index of shards that cannot be used
inline constexpr std::string_view ambiguous_tensor =
    "AmbiguousTensor";  ///< several tensors that could be meant
inline constexpr std::string_view unexpected_dtype = "UnexpectedDType";  ///< a tensor of another type
inline constexpr std::string_view unexpected_shape = "UnexpectedShape";  ///< a tensor of another shape
inline constexpr std::string_view unexpected_value = "UnexpectedValue";  ///< a value outside its range
}  // namespace kinds

/// A file of a checkpoint cannot be used: missing, damaged, or contrary to its config.
class GPT2_EMBEDDINGS_VISIBLE CheckpointError : public Error {
 public:
  /// \param path     the file, as UTF-8
  /// \param tensor   the tensor, or the config's field; empty if the fault is the file's
  /// \param kind     the fault, as one word: one of kinds
  /// \param problem  the fault, as a sentence
  CheckpointError(std::string_view path, std::string_view tensor, std::string_view kind,
                  std::string_view problem)
      : Error("[gpt2.checkpoint_error] " + std::string(path) + ": " + std::string(tensor) +
              (tensor.empty() ? "" : ": ") + std::string(problem) + " [" + std::string(kind) + "]"),
        details_(Details{std::string(path), std::string(tensor), std::string(kind)}) {}

  /// The file, as UTF-8.
  [[nodiscard]] const std::string& path() const noexcept { return details_->path; }
  /// The tensor, or the config's field; empty if the fault is the file's.
  [[nodiscard]] const std::string& tensor() const noexcept { return details_->tensor; }
  /// The fault, as one word: one of kinds.
  [[nodiscard]] const std::string& kind() const noexcept { return details_->kind; }

 private:
  struct Details {
    std::string path;
    std::string tensor;
    std::string kind;
  };
  detail::SharedDetails<Details> details_;
};

}  // namespace gpt2
