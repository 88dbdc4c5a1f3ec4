// SPDX-License-Identifier: MIT
//
// Lookups, sums and their gradients, of tables, ids, positions, types and results of any shape, stride and value,
// against plain loops: the same bits, or one of the errors that apply and nothing written.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

#include "fuzz.hpp"
#include "gpt2/embeddings.hpp"
#include "gpt2/error.hpp"

using namespace gpt2;
using fuzz::check;
using fuzz::Choices;

namespace {

/// Runs its work in slices, last one first, on the calling thread.
struct Slices {
  Index size;

  [[nodiscard]] int numThreads() const { return 3; }
  void parallelFor(Index n, const Eigen::TensorOpCost& /*cost*/,
                   const std::function<void(Index, Index)>& body) const {
    for (Index last = n; last > 0; last -= size) body(std::max(last - size, Index{0}), last);
  }
};

/// A number of a sequence of its own, so that tables need not be in the input. One in sixteen has any bits.
template <class T>
T next_number(std::uint64_t& state) {
  state = state * 6364136223846793005U + 1442695040888963407U;
  if ((state >> 60U) == 0) {
    T number;
    std::memcpy(static_cast<void*>(&number), &state, sizeof(number));
    return number;
  }
  return static_cast<T>(static_cast<float>(static_cast<std::int32_t>(state >> 32U)) * 0x1p-30F);
}

template <class T>
Matrix<T> numbers(Index rows, Index cols, std::uint64_t& state) {
  Matrix<T> matrix(rows, cols);
  for (Index i = 0; i < matrix.size(); ++i) matrix.data()[i] = next_number<T>(state);
  return matrix;
}

/// Ids of any strides. A few are out of range.
template <class I>
class SomeIds {
 public:
  using Strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  using Map = Eigen::Map<const IdMatrix<I>, Eigen::Unaligned, Strides>;

  SomeIds(Choices& choices, Index rows, Index cols, Index bound) : rows_(rows), cols_(cols), in_range_(true) {
    const Index gap = 1 + choices.below(3);
    strides_ = choices.yes() ? std::pair{cols * gap, gap} : std::pair{gap, rows * gap};
    ids_.assign(static_cast<std::size_t>(rows * cols * gap), static_cast<I>(-1));
    for (Index i = 0; i < rows; ++i) {
      for (Index j = 0; j < cols; ++j) {
        const int choice = choices.any<std::uint8_t>();
        const I id = choice == 255 || bound == 0 ? choices.any<I>() : static_cast<I>(choice % bound);
        ids_[place(i, j)] = id;
        in_range_ = in_range_ && std::cmp_greater_equal(id, 0) && std::cmp_less(id, bound);
      }
    }
  }

  [[nodiscard]] Map map() const {
    return {ids_.data(), rows_, cols_, Strides(strides_.first, strides_.second)};
  }
  [[nodiscard]] bool in_range() const { return in_range_; }
  [[nodiscard]] bool fits(Index batch, Index seq_length) const {
    return cols_ == seq_length && (rows_ == batch || rows_ == 1);
  }
  /// The id at a place of a batch, for all of which a single sequence may go.
  [[nodiscard]] Index at(Index sequence, Index i) const {
    return static_cast<Index>(ids_[place(rows_ == 1 ? 0 : sequence, i)]);
  }

 private:
  [[nodiscard]] std::size_t place(Index i, Index j) const {
    return static_cast<std::size_t>(i * strides_.first + j * strides_.second);
  }

  Index rows_;
  Index cols_;
  std::pair<Index, Index> strides_;
  std::vector<I> ids_;
  bool in_range_;
};

/// Which errors a call may end with; none: it must not.
struct Allowed {
  bool index = false;
  bool shape = false;
  bool argument = false;

  [[nodiscard]] bool none() const { return !index && !shape && !argument; }
};

/// Calls it. Returns whether it went well; ends the program if it should not have, or should.
template <class Action>
bool goes_well(const Allowed& allowed, const Action& action) {
  try {
    action();
    check(allowed.none(), "arguments that should be refused are");
    return true;
  } catch (const IndexError&) {
    check(allowed.index, "an IndexError has a reason");
  } catch (const ShapeError&) {
    check(allowed.shape, "a ShapeError has a reason");
  } catch (const ArgumentError&) {
    check(allowed.argument, "an ArgumentError has a reason");
  }
  return false;
}

/// Tables, a batch of ids for them, and the other arguments.
template <class T, class U, class I>
class Case {
  using A = Accumulator<T>;

 public:
  explicit Case(Choices& choices)
      : choices_(choices),
        vocab_size_(choices.below(10)),
        n_positions_(choices.below(10)),
        n_embd_(choices.below(4) == 0 ? choices.below(256) : choices.below(20)),
        batch_(choices.below(8) == 0 ? choices.below(40) : choices.below(4)),
        seq_length_(choices.below(8)),
        state_(choices.any<std::uint16_t>()),
        // In braces, because these are evaluated in order by every compiler.
        embeddings_{Embedding<T>{numbers<T>(vocab_size_, n_embd_, state_), options(vocab_size_)},
                    Embedding<T>{numbers<T>(n_positions_, n_embd_, state_), options(n_positions_)}},
        tokens_(choices, batch_, seq_length_, vocab_size_),
        positions_(beside(n_positions_)),
        types_(beside(vocab_size_)) {}

  void run() {
    if (choices_.yes()) {
      const PastLength past{choices_.below(8) == 0 ? choices_.any<Index>() : choices_.below(4)};
      Allowed allowed;
      allowed.argument = past.value < 0;
      allowed.index = past.value > n_positions_ - seq_length_;
      choose_types(past, allowed, [&](Index /*sequence*/, Index i) { return past.value + i; });
    } else {
      Allowed allowed;
      allowed.index = !positions_.in_range();
      allowed.shape = !positions_.fits(batch_, seq_length_);
      choose_types(positions_.map(), allowed,
                   [&](Index sequence, Index i) { return positions_.at(sequence, i); });
    }
  }

 private:
  EmbeddingOptions options(Index rows) {
    EmbeddingOptions options;
    if (rows > 0 && choices_.yes()) options.padding_idx = choices_.below(static_cast<int>(rows));
    options.scale_grad_by_freq = choices_.yes();
    return options;
  }

  /// Ids that go with the tokens, nearly always.
  SomeIds<I> beside(Index bound) {
    const Index rows = choices_.yes() ? 1 : batch_;
    const Index cols = choices_.below(16) == 0 ? choices_.below(8) : seq_length_;
    return SomeIds<I>(choices_, rows, cols, bound);
  }

  template <class P, class PositionAt>
  void choose_types(const P& positions, Allowed allowed, const PositionAt& position_at) {
    allowed.index = allowed.index || !tokens_.in_range();
    const bool typed = choices_.yes();
    const auto sum = [&](Index sequence, Index i, Index column) {
      const auto element = [&](const Embedding<T>& table, Index row) {
        return static_cast<A>(table.weight()(row, column));
      };
      A result = element(embeddings_.wte, tokens_.at(sequence, i));
      result += element(embeddings_.wpe, position_at(sequence, i));
      if (typed) result += element(embeddings_.wte, types_.at(sequence, i));
      return result;
    };
    if (typed) {
      allowed.index = allowed.index || !types_.in_range();
      allowed.shape = allowed.shape || !types_.fits(batch_, seq_length_);
      forward(positions, allowed, sum, types_.map());
    } else {
      forward(positions, allowed, sum);
      lookup_and_gradients();
    }
  }

  /// Into the middle of wider rows, whose ends must stay as they are.
  template <class P, class SumAt, class... Types>
  void forward(const P& positions, Allowed allowed, const SumAt& sum_at, const Types&... types) {
    const Index rows = batch_ * seq_length_ + (choices_.below(16) == 0 ? 1 : 0);
    allowed.shape = allowed.shape || rows != batch_ * seq_length_;
    const Index left = choices_.below(4);
    const Index width = left + n_embd_ + choices_.below(4);
    const Matrix<U> before = numbers<U>(rows + 1, width, state_);
    Matrix<U> out = before;
    Eigen::Map<Matrix<U>, Eigen::Unaligned, Eigen::OuterStride<>> middle(out.data() + left, rows, n_embd_,
                                                                         Eigen::OuterStride<>(width));
    const bool well = goes_well(
        allowed, [&] { embeddings_.forward_into(tokens_.map(), positions, middle, types..., device_); });
    for (Index row = 0; row < out.rows(); ++row) {
      for (Index column = 0; column < width; ++column) {
        const bool written = well && row < rows && column >= left && column < left + n_embd_;
        const U expected = written
                               ? static_cast<U>(sum_at(row / seq_length_, row % seq_length_, column - left))
                               : before(row, column);
        check(fuzz::same(out(row, column), expected),
              "a result is the sum of its rows, and nothing beside it");
      }
    }
  }

  /// One table by itself.
  void lookup_and_gradients() {
    Embedding<T>& wte = embeddings_.wte;
    Allowed allowed;
    allowed.index = !tokens_.in_range();
    const Matrix<T> grad_output = numbers<T>(batch_ * seq_length_, n_embd_, state_);
    Tensor3<T> rows;
    if (!goes_well(allowed, [&] { rows = wte(tokens_.map(), device_); })) {
      check(!goes_well(allowed, [&] { wte.backward(tokens_.map(), grad_output, device_); }),
            "nor is its gradient");
      check(!wte.has_grad(), "and there is none");
      return;
    }
    std::vector<A> counts(static_cast<std::size_t>(vocab_size_), A{0});
    for_tokens([&](Index sequence, Index i, Index id) {
      counts[static_cast<std::size_t>(id)] += 1;
      for (Index column = 0; column < n_embd_; ++column) {
        const T found = rows(sequence, i, column);
        const T expected = wte.weight()(id, column);
        check(std::memcmp(&found, &expected, sizeof(T)) == 0, "a row is looked up bit for bit");
      }
    });

    Matrix<A> expected = Matrix<A>::Zero(vocab_size_, n_embd_);
    for_tokens([&](Index sequence, Index i, Index id) {
      if (id == wte.options().padding_idx) return;
      const A count = wte.options().scale_grad_by_freq ? counts[static_cast<std::size_t>(id)] : A{1};
      for (Index column = 0; column < n_embd_; ++column) {
        expected(id, column) += static_cast<A>(grad_output(sequence * seq_length_ + i, column)) / count;
      }
    });
    wte.backward(tokens_.map(), grad_output, device_);
    Matrix<A> sparse = Matrix<A>::Zero(vocab_size_, n_embd_);
    wte.sparse_backward(tokens_.map(), grad_output, device_).add_to(sparse);
    for (Index i = 0; i < expected.size(); ++i) {
      check(fuzz::same(wte.grad().data()[i], expected.data()[i]),
            "a gradient is the sum of its terms in order");
      check(fuzz::same(sparse.data()[i], expected.data()[i]), "and so is a sparse one");
    }
  }

  template <class Visit>
  void for_tokens(const Visit& visit) const {
    for (Index sequence = 0; sequence < batch_; ++sequence) {
      for (Index i = 0; i < seq_length_; ++i) visit(sequence, i, tokens_.at(sequence, i));
    }
  }

  Choices& choices_;
  Index vocab_size_;
  Index n_positions_;
  Index n_embd_;
  Index batch_;
  Index seq_length_;
  std::uint64_t state_;
  Slices slices_{1 + choices_.below(100)};
  OnDevice<Slices> device_{slices_, static_cast<StorePolicy>(choices_.below(3))};
  GPT2Embeddings<T> embeddings_;
  SomeIds<I> tokens_;
  SomeIds<I> positions_;
  SomeIds<I> types_;
};

template <class T, class U, class I>
void run(Choices& choices) {
  Case<T, U, I>(choices).run();
}

}  // namespace

FUZZ_TARGET(lookups) {
  Choices choices(data, size);
  switch (choices.below(6)) {
    case 0:
      run<float, float, std::int64_t>(choices);
      break;
    case 1:
      run<float, double, std::uint8_t>(choices);
      break;
    case 2:
      run<double, double, std::uint64_t>(choices);
      break;
    case 3:
      run<Eigen::half, Eigen::half, std::int8_t>(choices);
      break;
    case 4:
      run<Eigen::half, float, std::uint64_t>(choices);
      break;
    default:
      run<Eigen::bfloat16, float, std::int32_t>(choices);
  }
  return 0;
}
