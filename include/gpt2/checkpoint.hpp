// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// A checkpoint as a whole: config.json, and the tensors of model.safetensors or of its shards, by name.
///
///     const auto checkpoint = gpt2::Checkpoint::open("path/to/gpt2");
///     const auto ln_f = checkpoint.vector<float>(checkpoint.prefix() + "ln_f.weight", checkpoint.config().n_embd);
///     const auto embeddings = gpt2::from_pretrained<gpt2::GPT2Embeddings<float>>(checkpoint);   // pretrained.hpp

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt2/config.hpp"
#include "gpt2/embedding.hpp"
#include "gpt2/error.hpp"
#include "gpt2/safetensors.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

namespace detail {
class CheckpointFiles;
}

/// A checkpoint. Its files are opened when they are first needed, and each is checked as a whole. Copies are cheap,
/// and share the files. Const member functions may be called from several threads at once.
///
/// The embedding tables are found under any prefix: the one tensor named "wte.weight", or anything that ends in
/// ".wte.weight", is the token table, and the position table is "wpe.weight" after the same prefix. If there is no
/// such tensor, but one "lm_head.weight", and the config does not untie the two, that is the token table: some writers
/// keep only one name of a tied tensor. The position table is then "transformer.wpe.weight" or "wpe.weight" after the
/// head's prefix. A head beside wte.weight is a tensor like any other.
class Checkpoint {
 public:
  /// Finds a checkpoint by the path to its folder, to a model.safetensors (or another file with tensors, or an index
  /// of shards) in one, or to an entry of the Hugging Face cache, whose refs/main names the snapshot.
  /// model.safetensors is preferred to model.safetensors.index.json.
  /// Throws: CheckpointError (IoError) if there is no model; the message names a file in another format, if any.
  [[nodiscard]] static Checkpoint open(const std::filesystem::path& path, LoadMode mode = LoadMode::mapped);

  /// The config.json, read at the first call.
  /// Throws: CheckpointError: ConfigInvalid, IoError.
  /// Lifetime: as long as any copy of this object; so not of a temporary.
  [[nodiscard]] const GPT2Config& config() const&;
  const GPT2Config& config() const&& = delete;

  /// The names of all tensors, sorted bytewise; of a sharded model, as its index has them.
  /// Throws, as all functions below: CheckpointError: IndexInvalid, IoError, or any kind that SafeTensors::open throws.
  [[nodiscard]] std::vector<std::string> names() const;
  /// Whether there is a tensor of that name.
  [[nodiscard]] bool contains(std::string_view name) const;

  /// The tensor of that name, as SafeTensors has it.
  /// Throws: CheckpointError (TensorNotFound).
  /// Lifetime: the bytes live as long as any copy of this object; so not of a temporary.
  [[nodiscard]] TensorView operator[](std::string_view name) const&;
  TensorView operator[](std::string_view name) const&& = delete;

  /// The file that holds the tensor, as UTF-8, for messages.
  /// Throws: CheckpointError (TensorNotFound).
  [[nodiscard]] std::string file_of(std::string_view name) const;

  /// The prefix of "wte.weight": "", "transformer.", "model.", "_orig_mod.transformer.", …
  /// Throws: CheckpointError: TensorNotFound, AmbiguousTensor.
  [[nodiscard]] std::string prefix() const;
  /// The name of the token table.
  /// Throws: CheckpointError: TensorNotFound, AmbiguousTensor.
  [[nodiscard]] std::string wte_name() const;
  /// The name of the position table.
  /// Throws: CheckpointError: TensorNotFound, AmbiguousTensor.
  [[nodiscard]] std::string wpe_name() const;

  /// The tensor of that name as a table. F64, F32, F16 and BF16 become any T, rounded once, to nearest even.
  /// Shape: `[rows, cols]`.
  /// \param extents  the meaning of rows and cols, for the message: "[vocab_size, n_embd]"
  /// Throws: CheckpointError: TensorNotFound, UnexpectedDType, UnexpectedShape.
  /// Complexity: mapped, a table whose type is T and whose bytes are aligned for it is not read at all. Otherwise
  /// its bytes are read, and no others.
  /// Lifetime: a table that is mapped keeps its own pages, and nothing else of the checkpoint; see
  /// SafeTensors::open.
  template <Scalar T>
  [[nodiscard]] Embedding<T> table(std::string_view name, Index rows, Index cols,
                                   std::string_view extents = "") const;

  /// The same of a tensor of rank 1, as a table of one row.
  /// Shape: the tensor `[size]`, the table `[1, size]`.
  template <Scalar T>
  [[nodiscard]] Embedding<T> vector(std::string_view name, Index size) const;

  /// The token table and the position table, in the shapes that config.json has. Of its fields, only vocab_size,
  /// n_positions, n_embd and model_type are read, and tie_word_embeddings if there is no wte.weight.
  /// Shape: wte `[vocab_size, n_embd]`, wpe `[n_positions, n_embd]`.
  /// Throws: CheckpointError, as wte_name(), wpe_name() and table(), and ConfigInvalid.
  template <Scalar T>
  [[nodiscard]] Embedding<T> wte() const;
  /// The position table, likewise.
  template <Scalar T>
  [[nodiscard]] Embedding<T> wpe() const;

 private:
  explicit Checkpoint(std::shared_ptr<detail::CheckpointFiles> files) : files_(std::move(files)) {}

  std::shared_ptr<detail::CheckpointFiles> files_;
};

/// A table as a tensor to write, of the type F64, F32, F16 or BF16.
/// Lifetime: its bytes are the table's; so not of a temporary.
template <Scalar T>
[[nodiscard]] NamedTensor named_tensor(std::string name, const Embedding<T>& table);
template <Scalar T>
NamedTensor named_tensor(std::string name, const Embedding<T>&& table) = delete;

}  // namespace gpt2

#include "gpt2/detail/checkpoint.hpp"  // IWYU pragma: export
