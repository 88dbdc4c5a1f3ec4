// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The entry point for ids of any type, which are stored if necessary, viewed, shaped, named and checked here.

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "gpt2/detail/arguments/names.hpp"
#include "gpt2/detail/rows.hpp"
#include "gpt2/error.hpp"
#include "gpt2/ids.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// An Eigen expression that is strided memory. (Some have the flag DirectAccessBit, but not the members.)
template <class X>
concept DenseInMemory = Dense<X> &&(DenseOf<X>::Flags& Eigen::DirectAccessBit) != 0 &&
                        requires(const DenseOf<X>& ids) {
  ids.data();
  ids.innerStride();
  ids.outerStride();
};

/// A range that is an array.
template <class X>
concept ArrayRange = !Dense<X> && tensor_rank<X> == 0 && std::ranges::contiguous_range<const X> &&
                     std::ranges::sized_range<const X>;

/// Ids that can be viewed as they are.
template <class X>
concept InMemory = DenseInMemory<X> || ArrayRange<X> || tensor_rank<X>
!= 0;

/// A view of ids that are in memory.
template <InMemory X>
[[nodiscard]] auto id_view(const X& ids) {
  using View = IdView<std::remove_cv_t<id_scalar_t<X>>>;
  if constexpr (Dense<X>) {
    const auto& dense = ids.derived();
    if constexpr (ids_rank<X> == 1) {
      return View{dense.data(), 1, dense.size(), 0, dense.innerStride(), 1};
    } else if constexpr (bool(DenseOf<X>::IsRowMajor)) {
      return View{dense.data(), dense.rows(), dense.cols(), dense.outerStride(), dense.innerStride(), 2};
    } else {
      return View{dense.data(), dense.rows(), dense.cols(), dense.innerStride(), dense.outerStride(), 2};
    }
  } else if constexpr (tensor_rank<X> == 1) {
    return View{ids.data(), 1, static_cast<Index>(ids.dimension(0)), 0, 1, 1};
  } else if constexpr (tensor_rank<X> == 2) {
    const auto batch = static_cast<Index>(ids.dimension(0));
    const auto seq_length = static_cast<Index>(ids.dimension(1));
    constexpr bool row_major = int(X::Layout) == int(Eigen::RowMajor);
    return View{ids.data(), batch, seq_length, row_major ? seq_length : 1, row_major ? 1 : batch, 2};
  } else {
    return View{std::ranges::data(ids), 1, static_cast<Index>(std::ranges::size(ids)), 0, 1, 1};
  }
}

/// A braced list as a range.
template <Id I>
[[nodiscard]] std::span<const I> as_span(std::initializer_list<I> ids) {
  return {ids.begin(), ids.size()};
}

/// Ids of any kind in memory: themselves, or a copy. An expression is evaluated once, so the ids checked are the ids
/// looked up, even if another evaluation would give others.
template <class X>
class StoredIds {
 public:
  using I = std::remove_cv_t<id_scalar_t<X>>;

  explicit StoredIds(const X& ids) : view_(id_view(ids)) {}

  [[nodiscard]] const IdView<I>& view() const { return view_; }
  [[nodiscard]] SequenceShape shape() const { return view_.shape(); }

 private:
  IdView<I> view_;
};

template <class X>
requires(!InMemory<X>) class StoredIds<X> {
 public:
  using I = std::remove_cv_t<id_scalar_t<X>>;

  explicit StoredIds(const X& ids) : copy_(copied(ids)), view_(id_view(copy_)) {}
  // The view is of the copy.
  StoredIds(const StoredIds&) = delete;
  StoredIds& operator=(const StoredIds&) = delete;
  ~StoredIds() = default;

  [[nodiscard]] const IdView<I>& view() const { return view_; }
  [[nodiscard]] SequenceShape shape() const { return view_.shape(); }

 private:
  [[nodiscard]] static auto copied(const X& ids) {
    if constexpr (Dense<X>) {
      return typename DenseOf<X>::PlainObject(ids.derived());
    } else {
      IdVector<I> copy(static_cast<Index>(std::ranges::size(ids)));
      Index i = 0;
      for (const auto& id : ids) copy[i++] = id;
      return copy;
    }
  }

  decltype(copied(std::declval<const X&>())) copy_;
  IdView<I> view_;
};

template <class I>
[[noreturn]] void throw_index_error(const IdView<I>& ids, Index sequence, Index bound,
                                    const ArgumentName& argument) {
  Index place = 0;
  while (static_cast<std::uint64_t>(ids(sequence, place)) < static_cast<std::uint64_t>(bound)) ++place;
  const std::string remark =
      argument.bound_name ? std::string(": ") + argument.bound_name + " is " + to_text(bound) : "";
  throw IndexError(argument.table, argument.name, ids.coordinates(sequence, place), ids(sequence, place),
                   bound, remark);
}

/// Throws: IndexError naming the first id outside [0, bound).
template <class I>
void check_ids(const IdView<I>& ids, Index bound, const ArgumentName& argument) {
  for (Index sequence = 0; sequence < ids.batch; ++sequence) {
    // A negative id becomes one far above any bound, so one comparison suffices; the loop has no branch.
    bool all_inside = true;
    for (Index place = 0; place < ids.seq_length; ++place) {
      all_inside &= static_cast<std::uint64_t>(ids(sequence, place)) < static_cast<std::uint64_t>(bound);
    }
    if (!all_inside) throw_index_error(ids, sequence, bound, argument);
  }
}

/// The view of ids that are all in [0, bound).
/// Throws: IndexError.
template <class X>
[[nodiscard]] auto checked_ids(const StoredIds<X>& ids, Index bound, const ArgumentName& argument) {
  check_ids(ids.view(), bound, argument);
  return ids.view();
}

/// The same for ids that belong to others of a shape: a single sequence is broadcast over the batch.
/// Throws: ShapeError, IndexError.
template <class X>
[[nodiscard]] auto checked_ids(const StoredIds<X>& ids, const SequenceShape& shape, Index bound,
                               const ArgumentName& argument) {
  auto view = ids.view();
  if (view.seq_length != shape.seq_length || (view.batch != shape.batch && view.batch != 1)) {
    const std::string one = to_text({shape.seq_length});
    const std::string row = to_text({1, shape.seq_length});
    const std::string all = to_text({shape.batch, shape.seq_length});
    throw ShapeError(argument.table, argument.name,
                     shape.rank == 1 ? one + " or " + row : one + ", " + row + " or " + all,
                     to_text(ids.shape().extents()));
  }
  check_ids(view, bound, argument);
  if (view.batch == 1) view.batch_stride = 0;
  return view;
}

}  // namespace gpt2::detail
