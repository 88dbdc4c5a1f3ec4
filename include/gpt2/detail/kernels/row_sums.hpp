// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The forward kernel: every lookup and every sum of lookups writes its rows here. Callers have checked all
/// arguments.
///
/// It is bound by memory, so its speed depends on the order of accesses. Rows are written in groups of eight, a few
/// cache lines of each in turn, while the next group's are prefetched; that many streams hide the latency of caches
/// and page tables. The sequence is the fastest running index over a batch, so that a group shares its rows of wpe. No
/// more than eight, because the sequences of a batch often lie a power of two apart, in the same sets of the caches.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>

#include "gpt2/detail/kernels/avx2.hpp"
#include "gpt2/detail/kernels/packets.hpp"
#include "gpt2/detail/kernels/parallel.hpp"
#include "gpt2/detail/kernels/rounding.hpp"
#include "gpt2/detail/rows.hpp"
#include "gpt2/device.hpp"
#include "gpt2/scalar.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {
inline namespace GPT2_EMBEDDINGS_PACKETS {

inline constexpr Index rows_per_group = 8;
inline constexpr Index lines_per_block = 4;

/// Results from this size on do not stay in the caches anyway, so the caches are better left to other data.
inline constexpr Index fewest_bytes_to_stream = Index{8} << 20;

/// Smaller results need few rows. The rows of larger ones, from a large table, are in no cache: prefetching saves a
/// quarter of the time of 4 x 64 rows of 768, and costs an eighth if the same rows are looked up repeatedly.
inline constexpr Index fewest_bytes_to_prefetch = Index{1} << 18;

/// Copies fewer than `width` elements, a power of two. A call of memcpy would take longer than all other work on them.
template <Index width, class T>
void copy_some(Index size, T* to, const T* from) {
  if constexpr (width > 1) {
    constexpr Index half = width / 2;
    if ((size & half) != 0) {
      std::memcpy(static_cast<void*>(to), from, static_cast<std::size_t>(half) * sizeof(T));
      to += half;
      from += half;
    }
    copy_some<half>(size, to, from);
  }
}

/// A row from a column on; a packet of it, at any address; and a packet of which only `size` elements exist.
template <class T>
[[nodiscard]] const T* from_column(const T* row, Index column) {
  return row + column;
}
template <class A, class T>
[[nodiscard]] Packet<A> load_packet(const T* row, Index column) {
  return load_widened<Packet<A>>(row + column);
}
template <class A, class T>
[[nodiscard]] Packet<A> load_packet(const T* row, Index column, Index size) {
  T elements[packet_size<A>] = {};
  copy_some<packet_size<A>>(size, elements, row + column);
  return load_widened<Packet<A>>(elements);
}

/// The elements written: the sum of one element of each row, formed in A from left to right and rounded once.
template <class A>
struct Sum {
  using Value = Packet<A>;
  static constexpr Index width = packet_size<A>;
  /// Rounded results are not stored a packet at a time.
  template <class To>
  static constexpr bool streams = std::is_same_v<To, A>;

  template <class Row, class... Rows>
  [[nodiscard]] static Value load(Index column, const Row& row, const Rows&... rows) {
    Value sum = load_packet<A>(row, column);
    ((sum = Eigen::internal::padd(sum, load_packet<A>(rows, column))), ...);
    return sum;
  }
  template <class Row, class... Rows>
  [[nodiscard]] static Value load_some(Index size, const Row& row, const Rows&... rows) {
    Value sum = load_packet<A>(row, 0, size);
    ((sum = Eigen::internal::padd(sum, load_packet<A>(rows, 0, size))), ...);
    return sum;
  }

  template <bool streaming, class To>
  static void store(To* out, const Value& value) {
    if constexpr (!std::is_same_v<To, A>) {
      store_some(width, out, value);
    } else if constexpr (streaming) {
      stream(out, value);
    } else {
      Eigen::internal::pstoreu(out, value);
    }
  }
  template <class To>
  static void store_some(Index size, To* out, const Value& value) {
    A elements[packet_size<A>];
    Eigen::internal::pstoreu(elements, value);
    if constexpr (std::is_same_v<To, A>) {
      copy_some<packet_size<A>>(size, out, elements);
    } else {
      for (Index i = 0; i < size; ++i) out[i] = convert<To>(elements[i]);
    }
  }
};

/// The same for a single row of the type of the result, bit for bit: no NaN is turned into another.
template <class T>
struct Copy {
  struct Value {
    alignas(T) std::byte bytes[16];
  };
  static constexpr Index width = 16 / Index{sizeof(T)};
  template <class To>
  static constexpr bool streams = true;

  [[nodiscard]] static Value load(Index column, const T* row) {
    Value value;
    std::memcpy(&value, row + column, sizeof(value));
    return value;
  }
  [[nodiscard]] static Value load_some(Index size, const T* row) {
    Value value{};
    copy_some<width>(size, reinterpret_cast<T*>(value.bytes), row);
    return value;
  }
  template <bool streaming>
  static void store(T* out, const Value& value) {
#ifdef EIGEN_VECTORIZE_SSE2
    if constexpr (streaming) {
      __m128i bits;
      std::memcpy(&bits, &value, sizeof(bits));
      _mm_stream_si128(reinterpret_cast<__m128i*>(out), bits);
      return;
    }
#endif
    std::memcpy(static_cast<void*>(out), &value, sizeof(value));
  }
  static void store_some(Index size, T* out, const Value& value) {
    copy_some<width>(size, out, reinterpret_cast<const T*>(value.bytes));
  }
};

/// The number of elements of a result that are written together: a cache line, or a packet if that is larger.
template <class Op, class To>
inline constexpr Index elements_per_line = (std::max)(bytes_per_line / Index{sizeof(To)}, Op::width);

/// Whole lines of a row.
template <class Op>
struct Lines {
  template <bool streaming, class To, class... Rows>
  static void write(Index size, To* out, Rows... rows) {
    constexpr Index line = elements_per_line<Op, To>;
    // Unrolled by hand, as GCC does not at -O2.
    constexpr auto packets = std::make_index_sequence<static_cast<std::size_t>(line / Op::width)>();
    for (; size > 0; size -= line) {
      [&]<std::size_t... i>(std::index_sequence<i...>) {
        const typename Op::Value values[] = {Op::load(static_cast<Index>(i) * Op::width, rows...)...};
        (Op::template store<streaming>(out + static_cast<Index>(i) * Op::width, values[i]), ...);
      }
      (packets);
      out += line;
      ((rows = from_column(rows, line)), ...);
    }
  }
};

#ifdef GPT2_EMBEDDINGS_DISPATCH
/// The sum of eight elements of each row, from left to right. Without FMA, so that it has the same bits as the
/// sums of the elements beside it.
template <class Row, class... Rows>
[[nodiscard]] GPT2_EMBEDDINGS_AVX2 inline EightFloats sum_of_eight(const Row& row, const Rows&... rows) {
  EightFloats sum = load_eight(row);
  ((sum += load_eight(rows)), ...);
  return sum;
}

/// Sum<float> on a processor with AVX2.
struct Avx2Sum : Sum<float> {};
template <>
struct Lines<Avx2Sum> {
  template <bool streaming, class... Rows>
  GPT2_EMBEDDINGS_AVX2 static void write(Index size, float* out, Rows... rows) {
    for (; size > 0; size -= 16) {
      const EightFloats first = sum_of_eight(rows...);
      const EightFloats second = sum_of_eight(from_column(rows, 8)...);
      store_eight<streaming>(out, first);
      store_eight<streaming>(out + 8, second);
      out += 16;
      ((rows = from_column(rows, 16)), ...);
    }
  }
};
#endif

/// Some columns of a row. If streaming, `out` is aligned to a cache line.
template <class Op, bool streaming, class To, class... Rows>
void write_columns(Index size, To* out, Rows... rows) {
  const Index in_lines = size - size % elements_per_line<Op, To>;
  Lines<Op>::template write<streaming>(in_lines, out, rows...);
  for (Index column = in_lines; column < size; column += Op::width) {
    if (size - column >= Op::width) {
      Op::template store<false>(out + column, Op::load(column, rows...));
    } else {
      Op::store_some(size - column, out + column, Op::load_some(size - column, from_column(rows, column)...));
    }
  }
}

/// The number of columns of a row that are written before those of the next row.
template <class Op, class To>
inline constexpr Index elements_per_block = elements_per_line<Op, To>* lines_per_block;

/// A row of the result, and the rows that are summed for it.
template <class To, class... Rows>
struct RowTask {
  To* out = nullptr;
  std::tuple<Rows...> rows;

  template <class Op, bool streaming>
  void write(Index first, Index size) const {
    [&]<std::size_t... i>(std::index_sequence<i...>) {
      write_columns<Op, streaming>(size, out + first, from_column(std::get<i>(rows), first)...);
    }
    (std::index_sequence_for<Rows...>());
  }
  /// The same for a block, whose size is a constant because most of the time is spent here.
  template <class Op, bool streaming>
  void write_block(Index first) const {
    [&]<std::size_t... i>(std::index_sequence<i...>) {
      Lines<Op>::template write<streaming>(elements_per_block<Op, To>, out + first,
                                           from_column(std::get<i>(rows), first)...);
    }
    (std::index_sequence_for<Rows...>());
  }
  /// The first of the rows: they are a large table's, the others stay in the caches.
  void prefetch(Index first, Index size) const { prefetch_columns(std::get<0>(rows), first, size); }
};

/// Up to rows_per_group tasks. (A std::span of each kind would take longer to compile than what is done with it.)
template <class Task>
struct TaskGroup {
  const Task* tasks;
  Index size;
};

/// Whole rows, a block of each in turn. No more rows are `ahead` than in the group.
template <class Op, bool streaming, class To, class... Rows>
void write_group(Index cols, TaskGroup<RowTask<To, Rows...>> group, TaskGroup<RowTask<To, Rows...>> ahead) {
  constexpr Index block = elements_per_block<Op, To>;
  // The column at which the first cache line of each row begins, and the least number of columns from there on.
  Index begins[rows_per_group] = {};
  Index in_blocks = cols;
  if constexpr (streaming) {
    for (Index r = 0; r < group.size; ++r) {
      const auto past_line =
          reinterpret_cast<std::uintptr_t>(group.tasks[r].out) % std::uintptr_t{bytes_per_line};
      const Index before = past_line == 0 ? 0 : bytes_per_line - static_cast<Index>(past_line);
      // The last line is also the next row's, so it is not streamed.
      if (before != 0) prefetch(group.tasks[r].out + cols);
      begins[r] = (std::min)(before / Index{sizeof(To)}, cols);
      group.tasks[r].template write<Op, false>(0, begins[r]);
      in_blocks = (std::min)(in_blocks, cols - begins[r]);
    }
  }
  Index column = 0;
  for (; column + block <= in_blocks; column += block) {
    for (Index r = 0; r < group.size; ++r) {
      if (r < ahead.size) ahead.tasks[r].prefetch(column, block);
      group.tasks[r].template write_block<Op, streaming>(begins[r] + column);
    }
  }
  for (Index r = 0; r < group.size; ++r) {
    if (r < ahead.size) ahead.tasks[r].prefetch(column, cols - column);
    const Index first = begins[r] + column;
    if (first < cols) group.tasks[r].template write<Op, streaming>(first, cols - first);
  }
}

template <class D>
[[nodiscard]] StorePolicy store_policy(const D& /*device*/) {
  return StorePolicy::automatic;
}
template <class D>
[[nodiscard]] StorePolicy store_policy(const OnDevice<D>& device) {
  return device.store_policy;
}

/// Whether results of a size are streamed to memory, past the caches.
template <class D>
[[nodiscard]] bool is_streamed(const D& device, Index bytes) {
  switch (store_policy(device)) {
    case StorePolicy::regular:
      return false;
    case StorePolicy::streaming:
      return true;
    case StorePolicy::automatic:
      break;
  }
  return bytes >= fewest_bytes_to_stream;
}

/// See sum_rows().
template <class Op, class Task, class To, class D, class... Sources>
void write_rows(const SequenceShape& shape, const RowView<To>& out, const D& device,
                const Sources&... sources) {
  constexpr bool can_stream = Op::template streams<To>;
  const Index bytes = shape.size() * out.cols * Index{sizeof(To)};
  const bool streaming = can_stream && is_streamed(device, bytes);
  const Index bytes_per_row = out.cols * static_cast<Index>((1 + sizeof...(Sources)) * sizeof(To));
  for_rows(device, shape.size(), bytes_per_row, [&](Index first, Index last) {
    Index place = first < last ? first / shape.batch : 0;
    Index sequence = first - place * shape.batch;
    const auto task_here = [&]() -> Task {
      return {out.row(sequence * shape.seq_length + place), {sources(sequence, place)...}};
    };
    // A row alone, as in decoding, needs no group, and there is nothing to prefetch.
    if (!streaming && last - first == 1) return task_here().template write<Op, false>(0, out.cols);
    Index i = first;
    const auto next_group = [&](Task* tasks) -> TaskGroup<Task> {
      const Index size = (std::min)(rows_per_group, last - i);
      for (Index r = 0; r < size; ++r) {
        tasks[r] = task_here();
        if (++sequence == shape.batch) {
          sequence = 0;
          ++place;
        }
      }
      i += size;
      return {tasks, size};
    };
    Task tasks[2][rows_per_group];
    TaskGroup<Task> group = next_group(tasks[0]);
    for (int other = 1; group.size > 0; other = 1 - other) {
      const TaskGroup<Task> next = next_group(tasks[other]);
      const TaskGroup<Task> ahead{next.tasks, bytes < fewest_bytes_to_prefetch ? 0 : next.size};
      if constexpr (can_stream) {
        if (streaming) write_group<Op, true>(out.cols, group, ahead);
      }
      if (!streaming) write_group<Op, false>(out.cols, group, ahead);
      group = next;
    }
    if (streaming) finish_streaming();
  });
}

/// out(sequence * seq_length + place) = source(sequence, place) + source(sequence, place) + … for all places
/// of a shape. A source returns a pointer to a row, or whatever load_packet() takes for one.
template <class A, class To, class D, class... Sources>
void sum_rows(const SequenceShape& shape, const RowView<To>& out, const D& device,
              const Sources&... sources) {
  using Task = RowTask<To, std::decay_t<decltype(sources(Index{}, Index{}))>...>;
  using Op = std::conditional_t<std::is_same_v<Task, RowTask<To, const To*>>, Copy<To>, Sum<A>>;
#ifdef GPT2_EMBEDDINGS_DISPATCH
  constexpr bool is_copy = std::is_same_v<Op, Copy<To>>;  // which waits for memory, whatever the registers
  if constexpr (std::is_same_v<To, float> && std::is_same_v<A, float> && !is_copy) {
    if (runs_avx2()) return write_rows<Avx2Sum, Task>(shape, out, device, sources...);
  }
#endif
  write_rows<Op, Task>(shape, out, device, sources...);
}

}  // namespace GPT2_EMBEDDINGS_PACKETS
}  // namespace gpt2::detail
