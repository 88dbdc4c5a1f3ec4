// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Ids of every kind seen as strided memory, and the check that every lookup makes before it starts.

#include <cstdint>
#include <initializer_list>
#include <ranges>
#include <span>
#include <string>
#include <vector>

#include "gpt2/error.hpp"
#include "gpt2/types.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// Ids in memory, `[batch, seq_length]`; those of rank 1 are a batch of one. A batch_stride of 0 gives every
/// sequence of the batch the same ids. (Masks come as views, too: I may be bool.)
template <class I>
struct IdView {
  const I* data;
  Index batch;
  Index seq_length;
  Index batch_stride;  // in elements, as is seq_stride
  Index seq_stride;
  int rank;

  [[nodiscard]] I operator()(Index sequence, Index place) const {
    return data[sequence * batch_stride + place * seq_stride];
  }

  /// The place as errors report it.
  [[nodiscard]] std::vector<std::int64_t> coordinates(Index sequence, Index place) const {
    return rank == 1 ? std::vector<std::int64_t>{place} : std::vector<std::int64_t>{sequence, place};
  }
};

/// An Eigen expression that is strided memory. (Some have the flag for it, but not the members.)
template <class X>
concept DenseInMemory = Dense<X> &&(DenseOf<X>::Flags& Eigen::DirectAccessBit) != 0 &&
                        requires(const DenseOf<X>& ids) {
  ids.data();
  ids.innerStride();
  ids.outerStride();
};

/// The ids themselves where they are in memory, else an evaluated copy. An expression is computed once, so
/// that what is checked is what is looked up even if computing it again would give something else.
template <class X>
[[nodiscard]] decltype(auto) evaluated(const X& ids) {
  if constexpr (!Dense<X>) {
    return (ids);
  } else if constexpr (DenseInMemory<X>) {
    return (ids.derived());
  } else {
    return typename DenseOf<X>::PlainObject(ids.derived());
  }
}

/// A view of what evaluated() gave.
template <class X>
[[nodiscard]] auto id_view(const X& ids) {
  using View = IdView<std::remove_cv_t<id_scalar_t<X>>>;
  if constexpr (!Dense<X>) {
    return View{std::ranges::data(ids), 1, static_cast<Index>(std::ranges::size(ids)), 0, 1, 1};
  } else if constexpr (ids_rank<X> == 1) {
    return View{ids.data(), 1, ids.size(), 0, ids.innerStride(), 1};
  } else if constexpr (bool(X::IsRowMajor)) {
    return View{ids.data(), ids.rows(), ids.cols(), ids.outerStride(), ids.innerStride(), 2};
  } else {
    return View{ids.data(), ids.rows(), ids.cols(), ids.innerStride(), ids.outerStride(), 2};
  }
}

/// A braced list as a range.
template <Id I>
[[nodiscard]] std::span<const I> as_span(std::initializer_list<I> ids) {
  return {ids.begin(), ids.size()};
}

/// What an operation's errors call the table it asks and the argument that holds the ids.
struct IdArgument {
  const char* table;
  const char* name;
  const char* bound_name = nullptr;  // what the config calls the table's rows, where that helps
};

template <Id I>
[[noreturn]] void throw_index_error(const IdView<I>& ids, Index sequence, Index bound,
                                    const IdArgument& argument) {
  Index place = 0;
  while (static_cast<std::uint64_t>(ids(sequence, place)) < static_cast<std::uint64_t>(bound)) ++place;
  const std::string remark =
      argument.bound_name ? std::string(": ") + argument.bound_name + " is " + to_text(bound) : "";
  throw IndexError(argument.table, argument.name, ids.coordinates(sequence, place), ids(sequence, place),
                   bound, remark);
}

/// Throws: IndexError naming the first id outside [0, bound).
template <Id I>
void check_ids(const IdView<I>& ids, Index bound, const IdArgument& argument) {
  for (Index sequence = 0; sequence < ids.batch; ++sequence) {
    // A negative id becomes one far above any bound, so that one comparison does; the loop has no branch.
    bool all_inside = true;
    for (Index place = 0; place < ids.seq_length; ++place) {
      all_inside &= static_cast<std::uint64_t>(ids(sequence, place)) < static_cast<std::uint64_t>(bound);
    }
    if (!all_inside) throw_index_error(ids, sequence, bound, argument);
  }
}

}  // namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail
