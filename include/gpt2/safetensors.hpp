// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The safetensors format: an 8-byte length, a JSON header, and the tensors' bytes back to back.
///
///     const auto file = gpt2::SafeTensors::open("model.safetensors");
///     const gpt2::TensorView wte = file["wte.weight"];   // dtype, shape, and bytes that lie in the file
///
/// Everything about a file is checked when it is opened, before anything of it is returned.
/// Source: the Rust crate safetensors, whose names for errors are the kinds of CheckpointError.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt2/dtype.hpp"
#include "gpt2/error.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// A tensor: its type and shape, and its bytes. Little-endian, row-major, without any alignment.
/// Lifetime: does not own the bytes.
struct TensorView {
  DType dtype = DType::F32;          ///< of the elements
  std::vector<std::uint64_t> shape;  ///< empty for a scalar, which has one element
  std::span<const std::byte> bytes;  ///< of all elements
};

/// A tensor to write.
struct NamedTensor {
  std::string name;   ///< its name in the file
  TensorView tensor;  ///< whose bytes are written
};

/// How a file's bytes come into memory.
enum class LoadMode {
  mapped,  ///< the file is mapped, and each page read when touched; replace it by a rename, do not modify it
  copied,  ///< the file is read into memory, and no longer needed
};

namespace detail {
class SafeTensorsFile;
class CheckpointFiles;
}  // namespace detail

/// A file of tensors. Copies are cheap, and share the bytes. Const member functions may be called from several
/// threads at once.
class SafeTensors {
 public:
  /// Opens and checks a file. Beyond what the reference implementation refuses, these are errors: duplicated
  /// names, a NUL in a name, more than 1,024 dimensions, more than 100,000 metadata entries.
  /// Throws: CheckpointError. Its kind is the reference implementation's name for the error; IoError if this is
  /// not a regular file. For a file that is often found in place of one (a git-lfs pointer, an HTML page, a pickle,
  /// a zip archive, GGUF) the message names the kind of file and the remedy.
  /// Complexity: O(n log n) in the number of tensors, and memory a few times the header's size. In mapped mode
  /// no tensor's bytes are read.
  /// Lifetime: mapped, the file stays open, the pages of a tensor are mapped when it is first accessed, and its
  /// bytes are the file's: changes in place show through, and after a truncation touching them raises SIGBUS.
  /// Replacing the file by a rename does no harm. A file system that cannot map is read instead.
  [[nodiscard]] static SafeTensors open(const std::filesystem::path& path, LoadMode mode = LoadMode::mapped);

  /// The names of the tensors, sorted bytewise.
  [[nodiscard]] std::vector<std::string> names() const;
  /// The number of tensors.
  [[nodiscard]] std::size_t size() const noexcept;
  /// Whether there is a tensor of that name.
  [[nodiscard]] bool contains(std::string_view name) const;

  /// The tensor of that name.
  /// Throws: CheckpointError: TensorNotFound, whose message names some existing tensors; IoError if it cannot be
  /// mapped.
  /// Complexity: O(log n).
  /// Lifetime: the bytes live as long as any copy of this object, or its owner(); so not of a temporary.
  [[nodiscard]] TensorView operator[](std::string_view name) const&;
  TensorView operator[](std::string_view name) const&& = delete;

  /// Reads one tensor.
  /// Shape: out has the tensor's size in bytes.
  /// Throws: CheckpointError: TensorNotFound, IoError, and InvalidTensorView if out has another size.
  void read(std::string_view name, std::span<std::byte> out) const;

  /// The bytes of one tensor by themselves: mapped, or read into memory that is aligned for every scalar, as the
  /// file was opened.
  /// Throws: CheckpointError: TensorNotFound, IoError.
  /// Lifetime: they live as long as the returned pointer, and keep nothing else of the file.
  [[nodiscard]] std::shared_ptr<const std::byte> load(std::string_view name) const;

  /// The text the file carries beside the tensors, e.g. "format": "pt".
  /// Lifetime: as long as this object; so not of a temporary.
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const& noexcept;
  const std::map<std::string, std::string>& metadata() const&& = delete;

  /// Keeps the bytes alive.
  [[nodiscard]] std::shared_ptr<const void> owner() const noexcept { return file_; }

 private:
  friend class detail::CheckpointFiles;

  explicit SafeTensors(std::shared_ptr<const detail::SafeTensorsFile> file) : file_(std::move(file)) {}

  /// The same, except that copied tensors are read when they are first accessed.
  [[nodiscard]] static SafeTensors open_lazily(const std::filesystem::path& path, LoadMode mode);

  std::shared_ptr<const detail::SafeTensorsFile> file_;
};

/// Writes a file, byte for byte as the reference implementation does: tensors sorted by descending dtype,
/// then by name. Metadata gets "format": "pt", which transformers requires, unless it has a format. The
/// file is written beside `path` and then renamed, so an old file is replaced whole or not at all, and
/// `tensors` may lie in it. It keeps the old file's permission bits; a new one follows the umask.
/// Throws: CheckpointError: InvalidTensorName for "__metadata__", a NUL, and duplicated names; InvalidHeader for
/// a text that is not UTF-8; InvalidTensorView, MisalignedSlice and ValidationOverflow for shapes that do not fit
/// their bytes; HeaderTooLarge; IoError.
inline void save_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                             std::map<std::string, std::string> metadata = {});

}  // namespace gpt2

#include "gpt2/detail/safetensors.hpp"  // IWYU pragma: export
