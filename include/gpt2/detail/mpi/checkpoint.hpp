// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Shards from and to checkpoints: each rank reads its own rows, and writes them to a file that rank 0 has created.

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "gpt2/checkpoint.hpp"
#include "gpt2/detail/checkpoint.hpp"
#include "gpt2/detail/files/file_system.hpp"
#include "gpt2/detail/files/replace_file.hpp"
#include "gpt2/detail/mpi/communicator.hpp"
#include "gpt2/detail/mpi/sharded_embedding.hpp"
#include "gpt2/detail/mpi/sharded_embeddings.hpp"
#include "gpt2/mpi.hpp"
#include "gpt2/pretrained.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

namespace detail {

/// Rows [first, last) of a tensor of a shape: the file's own memory if they can be read there, or a copy.
/// Throws: CheckpointError.
template <Scalar T>
[[nodiscard]] Embedding<T> load_rows(CheckpointFiles& files, std::string_view name, Index rows, Index cols,
                                     Index first, Index last, LoadMode mode) {
  const SafeTensors file = files.file_of(name);
  const SafeTensorsHeader& header = CheckpointFiles::header_of(file);
  const TensorEntry& entry = header.at(name);
  check_table_tensor(header.path, entry, {rows, cols}, "[vocab_size, n_embd]");
  const std::shared_ptr<const std::byte> bytes = file.load(name);
  const std::size_t row_bytes = static_cast<std::size_t>(cols) * (bits(entry.dtype) / 8);
  const std::byte* const begin = bytes.get() + static_cast<std::size_t>(first) * row_bytes;
  const bool aligned = reinterpret_cast<std::uintptr_t>(begin) % alignof(T) == 0;
  if (mode == LoadMode::mapped && entry.dtype == dtype_of<T> && aligned) {
    return Embedding<T>::view({reinterpret_cast<const T*>(begin), last - first, cols}, bytes);
  }
  auto weight = OwnedTable<T>::uninitialised(last - first, cols);
  if (entry.dtype == DType::F64) {
    convert_into<double>(begin, weight);
  } else if (entry.dtype == DType::F16) {
    convert_into<Eigen::half>(begin, weight);
  } else if (entry.dtype == DType::BF16) {
    convert_into<Eigen::bfloat16>(begin, weight);
  } else {
    convert_into<float>(begin, weight);
  }
  return Embedding<T>(std::move(weight));
}

/// Writes bytes into an existing file, and waits until they are on the disk.
/// Throws: CheckpointError (IoError).
inline void write_into(const std::filesystem::path& path, std::uint64_t offset,
                       std::span<const std::byte> bytes) {
  const auto fail = [&](std::string_view problem, const std::error_code& error) {
    throw CheckpointError(path_text(path), "", kinds::io_error,
                          std::string(problem) + ": " + error.message());
  };
  errno = 0;
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  if (!file) fail("cannot be opened to be written to", {errno == 0 ? EIO : errno, std::generic_category()});
  file.seekp(static_cast<std::streamoff>(offset));
  file.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) fail("cannot be written", {errno == 0 ? EIO : errno, std::generic_category()});
  std::error_code error;
  OpenFile written = OpenFile::to_read(path, error);
  if (!error) written.synchronise(error);
  if (error) fail("cannot be written", error);
}

/// The bytes of a model.safetensors with a whole wpe before those of wte, which come last.
template <Scalar T>
[[nodiscard]] std::string sharded_header(const ShardedGPT2Embeddings<T>& embeddings) {
  const ShardedEmbedding<T>& wte = embeddings.wte;
  const auto size = [](Index extent) { return static_cast<std::uint64_t>(extent); };
  // The header needs only the number of bytes.
  const NamedTensor token{
      "wte.weight",
      {dtype_of<T>,
       {size(wte.num_embeddings()), size(wte.embedding_dim())},
       {static_cast<const std::byte*>(nullptr), bytes_of<T>(wte.num_embeddings(), wte.embedding_dim())}}};
  const NamedTensor position = named_tensor("wpe.weight", embeddings.wpe);
  const std::array tensors{&position, &token};
  return header_text(tensors, {{"format", "pt"}});
}

}  // namespace detail

template <detail::ShardedPretrained E>
E from_pretrained(const std::filesystem::path& folder, const Communicator& comm, Batch batch,
                  const ShardedOptions& options, LoadMode mode) {
  using T = typename detail::ShardedScalar<E>::type;
  std::optional<Embedding<T>> rows;
  std::optional<Embedding<T>> wpe;
  ShardedOptions normalised = options;
  channel_of(comm).agree(detail::Operation::from_pretrained, [&](detail::SharedArguments& arguments) {
    detail::CheckpointFiles files(folder, LoadMode::mapped);
    const GPT2Config sizes = files.table_sizes();
    const std::vector<Index> offsets = detail::default_offsets(sizes.vocab_size, comm.size());
    const auto rank = static_cast<std::size_t>(comm.rank());
    rows = detail::load_rows<T>(files, files.wte_name(), sizes.vocab_size, sizes.n_embd, offsets[rank],
                                offsets[rank + 1], mode);
    wpe = Checkpoint::open(folder, mode).wpe<T>();
    if (options.padding_idx) {
      normalised.padding_idx = detail::checked_padding_idx(*options.padding_idx, sizes.vocab_size);
    }
    detail::share_options<T>(arguments, batch, normalised);
    arguments.add("vocab_size", sizes.vocab_size);
    arguments.add("n_embd", sizes.n_embd);
    arguments.add("n_positions", sizes.n_positions);
    detail::share_wpe(arguments, *wpe);
  });
  return E(ShardedEmbedding<T>(comm, batch, std::move(*rows), normalised), std::move(*wpe));
}

template <Scalar T>
void save_pretrained(const std::filesystem::path& folder, const GPT2Config& config,
                     const ShardedGPT2Embeddings<T>& embeddings) {
  constexpr auto operation = detail::Operation::save_pretrained;
  const ShardedEmbedding<T>& wte = embeddings.wte;
  detail::Channel& channel = channel_of(wte.communicator());
  const bool is_first = channel.rank() == 0;
  std::string header;
  std::string text;
  channel.agree(operation, [&](detail::SharedArguments& arguments) {
    config.validate();
    detail::check_shard(wte);
    if (wte.num_embeddings() != config.vocab_size || wte.embedding_dim() != config.n_embd) {
      throw ShapeError("", "wte",
                       "[vocab_size, n_embd] = " + detail::to_text({config.vocab_size, config.n_embd}),
                       detail::to_text({wte.num_embeddings(), wte.embedding_dim()}));
    }
    detail::check_table("wpe", embeddings.wpe, "n_positions", config.n_positions, config.n_embd);
    text = detail::config_text<T>(config);
    header = detail::sharded_header(embeddings);
    detail::Hash hash;
    hash.add(text.data(), text.size());
    arguments.add_hash("config", hash.value());
  });

  // Rank 0 creates the file. A temporary file that is not renamed is removed again, whichever rank has failed.
  std::optional<detail::TemporaryFile> model;
  std::optional<detail::TemporaryFile> json;
  std::array<char, 128> name{};
  channel.agree(operation, [&](detail::SharedArguments&) {
    if (!is_first) return;
    detail::create_folder(folder);
    model.emplace(folder / "model.safetensors");
    json.emplace(folder / "config.json");
    json->write(std::as_bytes(std::span(text)));
    const std::uint64_t header_size = header.size();
    model->write(std::as_bytes(std::span(&header_size, 1)));
    model->write(std::as_bytes(std::span(header)));
    const auto weight = embeddings.wpe.weight();
    model->write(std::as_bytes(std::span(weight.data(), static_cast<std::size_t>(weight.size()))));
    const std::string file_name = model->path().filename().string();
    file_name.copy(name.data(), name.size() - 1);
  });
  if (channel.size() > 1) {
    detail::check_mpi("MPI_Bcast", MPI_Bcast(name.data(), int{sizeof(name)}, MPI_CHAR, 0, channel.comm()));
  }
  channel.agree(operation, [&](detail::SharedArguments&) {
    const std::filesystem::path path = folder / name.data();
    const auto weight = wte.shard().weight();
    const std::uint64_t begin = sizeof(std::uint64_t) + header.size() +
                                detail::bytes_of<T>(embeddings.wpe.num_embeddings(), wte.embedding_dim()) +
                                detail::bytes_of<T>(wte.first_row(), wte.embedding_dim());
    detail::write_into(path, begin,
                       std::as_bytes(std::span(weight.data(), static_cast<std::size_t>(weight.size()))));
  });
  channel.agree(operation, [&](detail::SharedArguments&) {
    if (!is_first) return;
    model->rename_to_target();
    json->rename_to_target();
    detail::synchronise_folder(folder);
  });
}

}  // namespace gpt2
