// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Embedding layers on several machines, over MPI: tables whose rows are divided among ranks, and the head over them.
/// This header and communicator.hpp need MPI (3.1); no other one includes them.
///
/// An operation is collective unless it is called local: all ranks of the communicator call it, all in the same order.
/// It checks its arguments on every rank, all ranks agree in one small message, and only then is anything exchanged or
/// written. If any rank fails, every rank throws the error of the lowest such rank, as OnRank of the type that the
/// one-process function would have thrown, with `rank R: ` after the tag. This includes std::bad_alloc. Tables,
/// gradients and outputs are as they were (but a gradient may have been created, as zeros), and the communicator
/// remains usable. Arguments that must be the same on all ranks and are not cause an ArgumentError with the argument's
/// name; ranks in different operations cause an MpiError. Two things are not covered: memory that runs out inside MPI,
/// and inside Eigen's matrix product, which may leave a gradient with a part of the terms added.
///
/// Thrown only on the rank concerned, as plain MpiError: MPI is not initialised, or finalised; a call from another
/// thread than MPI's main one below MPI_THREAD_SERIALIZED; errors of MPI functions, after which the communicator may
/// only be destroyed. Devices with several threads need MPI_THREAD_FUNNELED. Results do not depend on the device, bit
/// for bit.
///
/// The head over shards is lm_head.hpp's, but a device comes after options. With Batch::same, states and labels are the
/// same on all ranks, and so are results; with Batch::own, results are those of the rank's own states. Options must be
/// the same on all ranks.

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "gpt2/communicator.hpp"
#include "gpt2/config.hpp"
#include "gpt2/embedding.hpp"
#include "gpt2/embeddings.hpp"
#include "gpt2/error.hpp"
#include "gpt2/lm_head.hpp"
#include "gpt2/pretrained.hpp"
#include "gpt2/sparse_gradient.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// The arguments of ranks: the same ids, states, labels and gradients on all, or each its own, of any size, also empty.
enum class Batch { same, own };

/// The order in which gradients of Batch::own are summed: that of one process which gets the ranks' batches in rank
/// order; or each rank's own sum first, and these in rank order, which sends fewer rows.
enum class GradientOrder { tokens, ranks };

/// The options of a sharded table.
struct ShardedOptions {
  std::optional<Index> padding_idx = std::nullopt;       ///< as in EmbeddingOptions: a row of the whole table
  GradientOrder gradient_order = GradientOrder::tokens;  ///< without effect for Batch::same

  /// Whether all options are equal.
  bool operator==(const ShardedOptions&) const = default;
};

/// The first row of a rank, if num_embeddings rows are divided evenly among size ranks: floor(num_embeddings * rank /
/// size), rounded down to a multiple of 256 if there are 2048 * size rows or more; num_embeddings for rank == size.
/// Local.
/// Throws: ArgumentError if num_embeddings is negative, size is not positive, or rank is outside [0, size].
[[nodiscard]] Index shard_begin(Index num_embeddings, int rank, int size);

/// A table whose rows are divided among the ranks of a communicator. Copies share the communicator and have their own
/// gradient.
///
/// Throws, in all collective functions: as Embedding's function, and ShapeError (`shard`) if shard() was assigned a
/// table of another size. Batch::same: ids and gradients must be the same on all ranks.
template <Scalar T>
class ShardedEmbedding {
 public:
  /// A fresh table with the bits of `Embedding<T>(num_embeddings, embedding_dim, {padding_idx}, seed)`, of which each
  /// rank draws its own rows. All arguments must be the same on all ranks.
  /// Throws: ArgumentError as Embedding's constructor, with padding_idx as a row of the whole table.
  ShardedEmbedding(const Communicator& comm, Batch batch, Index num_embeddings, Index embedding_dim,
                   const ShardedOptions& options = {}, std::uint64_t seed = default_seed);
  /// The table of all ranks' rows, in rank order. Rows must have no options of their own, which belong to the whole
  /// table. Batch, options, T and embedding_dim must be the same on all ranks.
  /// Throws: ArgumentError: `padding_idx` or `scale_grad_by_freq` if rows have these options, `padding_idx` if that of
  /// options is out of range, `num_embeddings` if there are more rows than an Index can count.
  ShardedEmbedding(const Communicator& comm, Batch batch, Embedding<T> rows,
                   const ShardedOptions& options = {});

  /// The number of rows of the whole table. Local, as are the functions up to shard().
  [[nodiscard]] Index num_embeddings() const noexcept { return offsets_.back(); }
  /// The number of columns.
  [[nodiscard]] Index embedding_dim() const noexcept { return embedding_dim_; }
  /// The options, with padding_idx normalised to [0, num_embeddings).
  [[nodiscard]] const ShardedOptions& options() const noexcept { return options_; }
  /// Whether ranks pass the same batch.
  [[nodiscard]] Batch batch() const noexcept { return batch_; }
  /// The ranks of the table.
  [[nodiscard]] const Communicator& communicator() const noexcept { return comm_; }
  /// size + 1 first rows: rank r has rows [offsets()[r], offsets()[r + 1]).
  [[nodiscard]] std::span<const Index> offsets() const noexcept { return offsets_; }
  /// The first row of this rank.
  [[nodiscard]] Index first_row() const noexcept { return offsets_[static_cast<std::size_t>(comm_.rank())]; }
  /// This rank's rows and their gradient; its row i is row first_row() + i of the table.
  [[nodiscard]] Embedding<T>& shard() noexcept { return shard_; }
  [[nodiscard]] const Embedding<T>& shard() const noexcept { return shard_; }

  /// The rows of the ids, bit for bit; shapes as Embedding's. A row is sent at most once to each rank that needs it.
  template <Ids X, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Hidden<T, ids_rank<X>> operator()(const X& ids, const D& device = {}) const;
  template <Id I, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Matrix<T> operator()(std::initializer_list<I> ids, const D& device = {}) const {
    return (*this)(detail::as_span(ids), device);
  }
  /// The same, written to `out`.
  template <Ids X, HiddenOutput<T, ids_rank<X>> Out, Device D = Eigen::DefaultDevice>
  void forward_into(const X& ids, Out&& out, const D& device = {}) const;

  /// Adds the gradient of a lookup to shard().grad(), in the table's GradientOrder.
  /// Shape: as Embedding::backward.
  template <Ids X, HiddenInput<T, ids_rank<X>> G, Device D = Eigen::DefaultDevice>
  void backward(const X& ids, const G& grad_output, const D& device = {});

  /// The gradient that backward() would add to zeros, only the rows that occur, by their numbers in shard().
  /// Shape: as Embedding::sparse_backward.
  template <Ids X, HiddenInput<T, ids_rank<X>> G, Device D = Eigen::DefaultDevice>
  [[nodiscard]] SparseGradient<Accumulator<T>> sparse_backward(const X& ids, const G& grad_output,
                                                               const D& device = {}) const;

 private:
  Communicator comm_;
  Batch batch_;
  ShardedOptions options_;
  std::vector<Index> offsets_;
  Index embedding_dim_ = 0;
  Embedding<T> shard_;
};

/// GPT2Embeddings with a sharded wte and a wpe that is whole on every rank: the same bits, without token types and soft
/// prompts. Shapes and errors are those of GPT2Embeddings.
template <Scalar T>
class ShardedGPT2Embeddings {
  using BracedIds = std::initializer_list<std::int64_t>;

 public:
  /// Combines a sharded token table and a position table, which every rank has.
  /// Throws: ShapeError if their embedding_dim differ; ArgumentError (`wpe`) if bits of position_table differ from rank
  /// 0's, (`scale_grad_by_freq`) if it has that option.
  ShardedGPT2Embeddings(ShardedEmbedding<T> token_table, Embedding<T> position_table);
  /// Fresh tables, as GPT2Embeddings draws them. All arguments must be the same on all ranks.
  /// Throws: ConfigError as GPT2Config::validate; ArgumentError if a table is too large or padding_idx out of range.
  ShardedGPT2Embeddings(const Communicator& comm, Batch batch, const GPT2Config& config,
                        std::uint64_t seed = default_seed, const ShardedOptions& options = {});

  /// Embeds tokens at the positions given, or at 0, 1, …; shapes as GPT2Embeddings'.
  template <Ids X, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Hidden<T, ids_rank<X>> operator()(const X& input_ids, const D& device = {}) const {
    return sum(input_ids, PastLength(), device);
  }
  template <Id I, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Matrix<T> operator()(std::initializer_list<I> input_ids, const D& device = {}) const {
    return sum(detail::as_span(input_ids), PastLength(), device);
  }
  template <Ids X, PositionIds P = BracedIds, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Hidden<T, ids_rank<X>> operator()(const X& input_ids, const P& position_ids,
                                                  const D& device = {}) const {
    return sum(input_ids, position_ids, device);
  }
  template <Id I, PositionIds P = BracedIds, Device D = Eigen::DefaultDevice>
  [[nodiscard]] Matrix<T> operator()(std::initializer_list<I> input_ids, const P& position_ids,
                                     const D& device = {}) const {
    return sum(detail::as_span(input_ids), position_ids, device);
  }
  /// The same, written to `out`.
  template <Ids X, HiddenOutput<T, ids_rank<X>> Out, Device D = Eigen::DefaultDevice>
  void forward_into(const X& input_ids, Out&& out, const D& device = {}) const {
    sum_into(input_ids, PastLength(), out, device);
  }
  template <Ids X, PositionIds P, HiddenOutput<T, ids_rank<X>> Out, Device D = Eigen::DefaultDevice>
  void forward_into(const X& input_ids, const P& position_ids, Out&& out, const D& device = {}) const {
    sum_into(input_ids, position_ids, out, device);
  }

  /// Adds to wte.shard().grad() and, on every rank alike, to wpe.grad(): the gradient of all ranks' batches, which
  /// needs no further reduction. wpe.grad() must be the same on all ranks before; this is not checked.
  template <Ids X, HiddenInput<T, ids_rank<X>> G, Device D = Eigen::DefaultDevice>
  void backward(const X& input_ids, const G& grad_output, const D& device = {}) {
    sum_backward(input_ids, PastLength(), grad_output, device);
  }
  template <Ids X, PositionIds P, HiddenInput<T, ids_rank<X>> G, Device D = Eigen::DefaultDevice>
  void backward(const X& input_ids, const P& position_ids, const G& grad_output, const D& device = {}) {
    sum_backward(input_ids, position_ids, grad_output, device);
  }

  /// "wte.weight" and this rank's rows, "wpe.weight" and wpe. Local.
  [[nodiscard]] std::array<NamedParameter<Embedding<T>>, 2> parameters() & {
    return {{{"wte.weight", &wte.shard()}, {"wpe.weight", &wpe}}};
  }
  [[nodiscard]] std::array<NamedParameter<const Embedding<T>>, 2> parameters() const& {
    return {{{"wte.weight", &wte.shard()}, {"wpe.weight", &wpe}}};
  }
  [[nodiscard]] std::array<NamedParameter<const Embedding<T>>, 2> parameters() const&& = delete;

  ShardedEmbedding<T> wte;  ///< the token table, `[vocab_size, n_embd]`
  Embedding<T> wpe;         ///< the position table, `[n_positions, n_embd]`, the same on all ranks

 private:
  template <class X, class P, class D>
  [[nodiscard]] Hidden<T, ids_rank<X>> sum(const X& input_ids, const P& position_ids, const D& device) const;
  template <class X, class P, class Out, class D>
  void sum_into(const X& input_ids, const P& position_ids, Out& out, const D& device) const;
  template <class X, class P, class G, class D>
  void sum_backward(const X& input_ids, const P& position_ids, const G& grad_output, const D& device);
};

namespace detail {

/// A row-major matrix of float or double that can be written to.
template <class M>
concept Reducible =
    MatrixHidden<M> &&
    !std::is_const_v<std::remove_pointer_t<decltype(std::declval<std::remove_reference_t<M>&>().data())>> &&
    std::floating_point<typename DenseOf<M>::Scalar>;

}  // namespace detail

/// The sum of all ranks' matrices in rank order, ((g0 + g1) + g2) + …, in place: the same bits on every rank and in
/// every run. A rank sends 2 (size - 1) / size of the matrix.
/// Shape: matrix: a row-major Matrix, Map or Block of float or double, the same on all ranks.
/// Throws: ArgumentError (`rows`, `cols`) if shapes differ.
template <detail::Reducible M>
void all_reduce(const Communicator& comm, M&& matrix);

/// All ranks' gradients merged in rank order, bit for bit.
/// Shape: values of as many columns on all ranks, also on ranks without rows.
/// Throws: as SparseGradient::merge; ArgumentError (`values`) if columns differ.
/// Complexity: a rank sends its own rows once, and its share of the union to all.
template <class A>
[[nodiscard]] SparseGradient<A> all_reduce(const Communicator& comm, const SparseGradient<A>& sparse);

/// The logits of this rank's rows below options.vocab_size, which counts the whole table. Local.
/// Shape: `[n, this rank's rows below vocab_size]`.
template <Scalar T, HiddenInput<T, 2> H, Device D = Eigen::DefaultDevice>
[[nodiscard]] Matrix<Accumulator<T>> logits(const ShardedEmbedding<T>& wte, const H& hidden,
                                            const HeadOptions& options = {}, const D& device = {});

/// The k best tokens of the whole vocabulary. These and logits() have the bits of one process if shards begin at
/// multiples of 256, as the default ones of large tables do; otherwise they agree with it to rounding.
template <Scalar T, HiddenInput<T, 2> H, Device D = Eigen::DefaultDevice>
[[nodiscard]] TopK<Accumulator<T>> top_k(const ShardedEmbedding<T>& wte, const H& hidden, Index k,
                                         const HeadOptions& options = {}, const D& device = {});

/// The loss (with `own`, of all ranks' positions together: `mean` is over all that are not ignored), the gradient of
/// the states, and that of this rank's rows, which is added to wte.shard().grad(). The same bits in every run with as many ranks and
/// the same shards; with one rank those of one process, which others agree with to rounding.
/// Complexity: with `own`, memory for the states, and their gradients, of all ranks.
template <Scalar T, HiddenInput<T, 2> H, Ids L, Device D = Eigen::DefaultDevice>
[[nodiscard]] CrossEntropy<Accumulator<T>> cross_entropy(ShardedEmbedding<T>& wte, const H& hidden,
                                                         const L& labels,
                                                         const CrossEntropyOptions& options = {},
                                                         const D& device = {});
/// Writes the gradient of the hidden states to `grad_hidden` and returns the loss; else as cross_entropy().
template <Scalar T, HiddenInput<T, 2> H, Ids L, HeadOutput<Accumulator<T>> Out,
          Device D = Eigen::DefaultDevice>
Accumulator<T> cross_entropy_into(ShardedEmbedding<T>& wte, const H& hidden, const L& labels,
                                  Out&& grad_hidden, const CrossEntropyOptions& options = {},
                                  const D& device = {});
/// The loss of cross_entropy(), and no gradient.
template <Scalar T, HiddenInput<T, 2> H, Ids L, Device D = Eigen::DefaultDevice>
[[nodiscard]] Accumulator<T> cross_entropy_loss(const ShardedEmbedding<T>& wte, const H& hidden,
                                                const L& labels, const CrossEntropyOptions& options = {},
                                                const D& device = {});

namespace detail {

template <class E>
struct ShardedScalar {};
template <class T>
struct ShardedScalar<ShardedGPT2Embeddings<T>> {
  using type = T;
};
template <class E>
concept ShardedPretrained = requires {
  typename ShardedScalar<E>::type;
};

}  // namespace detail

/// Loads ShardedGPT2Embeddings<T> with the default shards from the files that one process reads. Each rank reads its
/// own path, and of wte only its rows; mapped and of type T, they are the file's own pages.
/// Throws: as from_pretrained() of one process; ArgumentError if shapes or wpe are not rank 0's.
template <detail::ShardedPretrained E>
[[nodiscard]] E from_pretrained(const std::filesystem::path& path, const Communicator& comm, Batch batch,
                                const ShardedOptions& options = {}, LoadMode mode = LoadMode::mapped);

/// Writes, byte for byte, the two files that save_pretrained() of one process would write, to a folder that all ranks
/// can access: each rank its own rows. After an error the old files are unchanged, and no temporary one is left.
/// Throws: as save_pretrained() of one process; ArgumentError (`config`) if configs are not rank 0's.
template <Scalar T>
void save_pretrained(const std::filesystem::path& folder, const GPT2Config& config,
                     const ShardedGPT2Embeddings<T>& embeddings);

}  // namespace gpt2

#include "gpt2/detail/mpi/all_reduce.hpp"
#include "gpt2/detail/mpi/checkpoint.hpp"
#include "gpt2/detail/mpi/gradients.hpp"
#include "gpt2/detail/mpi/hash.hpp"
#include "gpt2/detail/mpi/head.hpp"
#include "gpt2/detail/mpi/lookup.hpp"
#include "gpt2/detail/mpi/sharded_embedding.hpp"
#include "gpt2/detail/mpi/sharded_embeddings.hpp"
