// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Errors across ranks: an error of one rank, serialised and thrown on all.

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "gpt2/communicator.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

namespace detail {

/// "rank R: " after the tag of an error's text.
[[nodiscard]] inline std::string with_rank(std::string_view text, int rank) {
  const std::size_t tag_end = text.starts_with('[') ? text.find("] ") : text.npos;
  const std::size_t begin = tag_end == text.npos ? 0 : tag_end + 2;
  return std::string(text.substr(0, begin)) + "rank " + to_text(rank) + ": " +
         std::string(text.substr(begin));
}

}  // namespace detail

template <class E>
OnRank<E>::OnRank(const E& error, int rank)
    : E(error), rank_(rank), text_(detail::with_rank(error.what(), rank)) {}

inline OnRank<std::bad_alloc>::OnRank(int rank) noexcept : rank_(rank) {
  constexpr std::string_view begin = "rank ";
  constexpr std::string_view end = ": std::bad_alloc";
  static_assert(begin.size() + 10 + end.size() < std::tuple_size_v<decltype(text_)>);
  char* place = std::copy(begin.begin(), begin.end(), text_.data());
  place = std::to_chars(place, text_.data() + text_.size(), rank).ptr;
  std::copy(end.begin(), end.end(), place);
}

namespace detail {

/// MPI's own text for the code that one of its functions returned.
[[nodiscard]] inline MpiError mpi_error(const char* function, int code) {
  int error_class = code;
  int length = 0;
  std::array<char, MPI_MAX_ERROR_STRING + 1> text{};
  (void)MPI_Error_class(code, &error_class);
  (void)MPI_Error_string(code, text.data(), &length);
  return {function, error_class, std::string_view(text.data())};
}

/// Throws: MpiError unless an MPI function succeeded.
inline void check_mpi(const char* function, int code) {
  if (code != MPI_SUCCESS) throw mpi_error(function, code);
}

/// The type of a serialised error.
enum class ErrorKind : std::uint8_t { index, shape, argument, config, checkpoint, mpi, error };

/// An error as bytes: numbers and texts one after the other.
class ErrorWriter {
 public:
  /// The bytes of an error; empty for std::bad_alloc, and if there is no memory for them.
  [[nodiscard]] static std::string bytes_of(const std::exception_ptr& error) noexcept {
    try {
      ErrorWriter writer;
      writer.write(error);
      return std::move(writer.bytes_);
    } catch (...) {
      return {};
    }
  }

 private:
  void write(const std::exception_ptr& error) {
    try {
      std::rethrow_exception(error);
    } catch (const IndexError& e) {
      begin(ErrorKind::index, e);
      add(e.table(), e.name());
      add(e.coordinates());
      add(e.value(), e.bound());
    } catch (const ShapeError& e) {
      begin(ErrorKind::shape, e);
      add(e.table(), e.name(), e.expected(), e.found());
    } catch (const ArgumentError& e) {
      begin(ErrorKind::argument, e);
      add(e.name());
      add(e.coordinates());
      add(e.value());
    } catch (const ConfigError& e) {
      begin(ErrorKind::config, e);
      add(e.field(), e.value());
    } catch (const CheckpointError& e) {
      begin(ErrorKind::checkpoint, e);
      add(e.path(), e.tensor(), e.kind());
    } catch (const MpiError& e) {
      begin(ErrorKind::mpi, e);
      add(e.function());
      add(std::int64_t{e.code()});
    } catch (const Error& e) {
      begin(ErrorKind::error, e);
    } catch (const std::bad_alloc&) {
      bytes_.clear();
    } catch (const std::exception& e) {
      begin(ErrorKind::error, Error(std::string("[gpt2.error] ") + e.what()));
    } catch (...) {
      begin(ErrorKind::error, Error("[gpt2.error] an exception of an unknown type"));
    }
  }

  void begin(ErrorKind kind, const Error& error) {
    bytes_.assign(1, static_cast<char>(kind));
    add(std::string(error.what()));
  }
  template <class... Values>
  void add(const Values&... values) {
    (add_one(values), ...);
  }
  template <class Number>
  requires std::is_arithmetic_v<Number>
  void add_one(Number number) { bytes_.append(reinterpret_cast<const char*>(&number), sizeof(number)); }
  void add_one(const std::string& text) {
    add_one(std::uint64_t{text.size()});
    bytes_ += text;
  }
  void add_one(const std::vector<std::int64_t>& numbers) {
    add_one(std::uint64_t{numbers.size()});
    for (const std::int64_t number : numbers) add_one(number);
  }

  std::string bytes_;
};

/// An error made of its members, with the text that it had on its rank.
template <class E>
class Retold : public E {
 public:
  Retold(const E& error, const std::string& text) : E(error), text_(text) {}
  [[nodiscard]] const char* what() const noexcept override { return text_->c_str(); }

 private:
  SharedDetails<std::string> text_;
};

class ErrorReader {
 public:
  explicit ErrorReader(std::string_view bytes) : bytes_(bytes) {}

  /// Throws: OnRank<E> of the error that ErrorWriter wrote.
  [[noreturn]] void throw_on(int rank) {
    if (bytes_.empty()) throw OnRank<std::bad_alloc>(rank);
    const auto kind = static_cast<ErrorKind>(bytes_.front());
    bytes_.remove_prefix(1);
    const std::string what = text();
    const auto fail = [&]<class E>(const E& error) { throw_retold<E>(Retold<E>(error, what), rank); };
    switch (kind) {
      case ErrorKind::index: {
        const std::string table = text(), name = text();
        const std::vector<std::int64_t> coordinates = numbers();
        const auto value = number<std::int64_t>();
        fail(IndexError(table, name, coordinates, value, number<std::int64_t>()));
        break;
      }
      case ErrorKind::shape: {
        const std::string table = text(), name = text(), expected = text();
        fail(ShapeError(table, name, expected, text()));
        break;
      }
      case ErrorKind::argument: {
        const std::string name = text();
        const std::vector<std::int64_t> coordinates = numbers();
        fail(ArgumentError(name, coordinates, number<double>(), ""));
        break;
      }
      case ErrorKind::config: {
        const std::string field = text();
        fail(ConfigError(field, text(), ""));
        break;
      }
      case ErrorKind::checkpoint: {
        const std::string path = text(), tensor = text();
        fail(CheckpointError(path, tensor, text(), ""));
        break;
      }
      case ErrorKind::mpi: {
        const std::string function = text();
        fail(MpiError(function, static_cast<int>(number<std::int64_t>()), ""));
        break;
      }
      case ErrorKind::error:
        break;
    }
    throw OnRank<Error>(Error(what), rank);
  }

 private:
  /// OnRank copies the members of E and takes the text from what().
  template <class E>
  [[noreturn]] static void throw_retold(const E& error, int rank) {
    throw OnRank<E>(error, rank);
  }

  template <class Number>
  [[nodiscard]] Number number() {
    Number value{};
    std::memcpy(&value, bytes_.data(), (std::min)(sizeof(value), bytes_.size()));
    bytes_.remove_prefix((std::min)(sizeof(value), bytes_.size()));
    return value;
  }
  [[nodiscard]] std::string text() {
    const auto size = static_cast<std::size_t>(number<std::uint64_t>());
    std::string result(bytes_.substr(0, size));
    bytes_.remove_prefix((std::min)(size, bytes_.size()));
    return result;
  }
  [[nodiscard]] std::vector<std::int64_t> numbers() {
    std::vector<std::int64_t> result(static_cast<std::size_t>(number<std::uint64_t>()));
    for (std::int64_t& element : result) element = number<std::int64_t>();
    return result;
  }

  std::string_view bytes_;
};

}  // namespace detail
}  // namespace gpt2
