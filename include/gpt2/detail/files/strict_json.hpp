// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// JSON exactly as RFC 8259 defines it, for files that may be hostile. nlohmann/json alone takes a NUL byte as the end
/// of the text, skips a byte order mark, keeps the last of two equal keys and does not limit nesting.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gpt2/version.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI::detail {

/// The depth to which arrays and objects may nest; the reference implementation of safetensors has the same limit.
inline constexpr std::size_t max_json_depth = 127;

/// Receives the parts of a text in their order. Each scalar is passed as a json: integers without a sign as unsigned,
/// integers with a minus as signed, every number with a fraction or an exponent as floating-point. A visitor may throw
/// to stop the parser.
class JsonVisitor {
 public:
  virtual ~JsonVisitor() = default;
  virtual void begin_object() = 0;
  virtual void begin_array() = 0;
  virtual void end() = 0;
  virtual void key(std::string&& name) = 0;
  virtual void value(nlohmann::json&& scalar) = 0;
};

/// A text is not strict JSON; what() says why and where, as the end of a sentence.
class JsonFault : public std::runtime_error {
 public:
  JsonFault(const std::string& problem, std::string member, std::string value)
      : std::runtime_error(problem), member_(std::move(member)), value_(std::move(value)) {}

  /// The member of the outermost object whose value is a number too large for a double, and that number;
  /// empty for every other fault.
  [[nodiscard]] const std::string& member() const noexcept { return member_; }
  [[nodiscard]] const std::string& value() const noexcept { return value_; }

 private:
  std::string member_;
  std::string value_;
};

/// A document whose destruction allocates nothing. nlohmann's destructor flattens the tree into a vector first, and
/// terminates if that allocation fails.
class JsonDocument {
 public:
  JsonDocument() = default;
  explicit JsonDocument(nlohmann::json json) noexcept : json_(std::move(json)) {}
  JsonDocument(JsonDocument&& other) noexcept : json_(std::move(other.json_)) {}
  JsonDocument& operator=(JsonDocument&&) = delete;
  ~JsonDocument() { clear(json_); }

  [[nodiscard]] nlohmann::json& operator*() noexcept { return json_; }
  [[nodiscard]] const nlohmann::json& operator*() const noexcept { return json_; }
  [[nodiscard]] const nlohmann::json* operator->() const noexcept { return &json_; }

 private:
  static void clear(nlohmann::json& json) noexcept {
    if (!json.is_structured()) return;
    for (nlohmann::json& member : json) clear(member);
    json.clear();
  }

  nlohmann::json json_;
};

/// Parses `text` and passes its parts to `visitor`. Duplicate keys are detected at the end of their object.
/// Throws: JsonFault, and any exception of the visitor.
/// Complexity: O(n log n) time; the memory is the longest string, and the keys of the open objects.
inline void parse_strict_json(std::string_view text, JsonVisitor& visitor);

/// Reads `text` into memory.
/// Throws: JsonFault.
[[nodiscard]] inline JsonDocument parse_strict_json(std::string_view text);

/// The position of the first byte of `text` that is not UTF-8; npos if there is none.
[[nodiscard]] inline std::size_t find_invalid_utf8(std::string_view text) noexcept;

/// `text` for a message: on one line, control characters escaped as in JSON, cut off after `limit` bytes.
[[nodiscard]] inline std::string printable(std::string_view text, std::size_t limit = 200);

/// A JSON value for a message: compact, cut off if it is long, in words if it nests too deep.
template <class Json>
[[nodiscard]] std::string printable_json(const Json& value);

// Implementation.

inline std::size_t find_invalid_utf8(std::string_view text) noexcept {
  const auto byte = [text](std::size_t at) {
    return at < text.size() ? static_cast<unsigned char>(text[at]) : 0U;
  };
  for (std::size_t at = 0; at < text.size();) {
    const unsigned lead = byte(at);
    // The second byte's range is narrower after some leads: no overlong forms, no surrogates, nothing above
    // U+10FFFF.
    unsigned low = 0x80;
    unsigned high = 0xBF;
    std::size_t length = 0;
    if (lead < 0x80) {
      length = 1;
    } else if (lead >= 0xC2 && lead <= 0xDF) {
      length = 2;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
      length = 3;
      if (lead == 0xE0) low = 0xA0;
      if (lead == 0xED) high = 0x9F;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
      length = 4;
      if (lead == 0xF0) low = 0x90;
      if (lead == 0xF4) high = 0x8F;
    } else {
      return at;
    }
    for (std::size_t i = 1; i < length; ++i) {
      if (byte(at + i) < low || byte(at + i) > high) return at;
      low = 0x80;
      high = 0xBF;
    }
    at += length;
  }
  return std::string_view::npos;
}

inline std::string printable(std::string_view text, std::size_t limit) {
  std::size_t size = (std::min)(text.size(), limit);
  while (size < text.size() && size > 0 && (static_cast<unsigned char>(text[size]) & 0xC0U) == 0x80) --size;
  const std::string quoted =
      nlohmann::json(text.substr(0, size)).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return quoted.substr(1, quoted.size() - 2) + (size < text.size() ? "..." : "");
}

/// Whether the arrays and objects in `value` nest at most `depth` deep.
template <class Json>
[[nodiscard]] bool nests_within(const Json& value, std::size_t depth) {
  if (!value.is_structured()) return true;
  return depth > 0 && std::all_of(value.begin(), value.end(),
                                  [depth](const Json& member) { return nests_within(member, depth - 1); });
}

template <class Json>
std::string printable_json(const Json& value) {
  if (value.is_string()) return '"' + printable(value.template get_ref<const std::string&>()) + '"';
  // A document of the caller's own may nest deeper than dump() has stack for.
  if (!nests_within(value, max_json_depth)) {
    return "JSON that nests deeper than " + std::to_string(max_json_depth) + " levels";
  }
  return printable(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

/// The keys of the open objects, packed into one string: a text made of short keys must not cost many times its size.
class OpenKeys {
 public:
  void begin_object() { firsts_.push_back(ends_.size()); }

  void add(std::string_view key) {
    text_.append(key);
    ends_.push_back(text_.size());
  }

  /// Closes the innermost object. Returns a duplicate key, or nothing.
  [[nodiscard]] std::optional<std::string> end_object() {
    const std::size_t first = firsts_.back();
    const std::size_t begin = first == 0 ? 0 : ends_[first - 1];
    std::vector<std::string_view> keys;
    keys.reserve(ends_.size() - first);
    for (std::size_t i = first, at = begin; i < ends_.size(); at = ends_[i], ++i) {
      keys.push_back(std::string_view(text_).substr(at, ends_[i] - at));
    }
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    std::optional<std::string> duplicate;
    if (twice != keys.end()) duplicate.emplace(*twice);
    text_.resize(begin);
    ends_.resize(first);
    firsts_.pop_back();
    return duplicate;
  }

 private:
  std::string text_;
  std::vector<std::size_t> ends_;
  std::vector<std::size_t> firsts_;
};

/// Connects nlohmann's parser to a visitor, and makes the checks that the parser lacks.
class StrictJsonReader final : public nlohmann::json::json_sax_t {
 public:
  StrictJsonReader(std::string_view text, JsonVisitor& visitor) : text_(text), visitor_(visitor) {}

  bool null() override { return scalar(nullptr); }
  bool boolean(bool value) override { return scalar(value); }
  bool number_integer(std::int64_t value) override { return scalar(value); }
  bool number_unsigned(std::uint64_t value) override { return scalar(value); }
  bool number_float(double value, const std::string&) override { return scalar(value); }
  bool string(std::string& value) override { return scalar(std::move(value)); }
  bool binary(nlohmann::json::binary_t&) override { return false; }

  bool start_object(std::size_t) override {
    descend();
    keys_.begin_object();
    visitor_.begin_object();
    return true;
  }

  bool key(std::string& name) override {
    keys_.add(name);
    if (depth_ == 1) member_ = name;
    visitor_.key(std::move(name));
    return true;
  }

  bool end_object() override {
    if (const std::optional<std::string> duplicate = keys_.end_object()) {
      fail("has the key \"" + printable(*duplicate) + "\" twice in one object");
    }
    --depth_;
    visitor_.end();
    return true;
  }

  bool start_array(std::size_t) override {
    descend();
    visitor_.begin_array();
    return true;
  }

  bool end_array() override {
    --depth_;
    visitor_.end();
    return true;
  }

  bool parse_error(std::size_t position, const std::string& token,
                   const nlohmann::json::exception& error) override {
    constexpr int number_overflow = 406;
    if (error.id == number_overflow) {
      const std::string number = printable(token);
      if (depth_ == 1) throw JsonFault("overflows a double", member_, number);
      fail("has the number " + number + ", which overflows a double");
    }
    // The parser has stopped at the first unexpected character, counted from 1.
    const std::size_t at = (std::min)(position == 0 ? 0 : position - 1, text_.size());
    for (const std::string_view literal : {"NaN", "Infinity"}) {
      if (!text_.substr(at).starts_with(literal)) continue;
      fail("is not JSON: " + std::string(literal) + (depth_ == 1 ? " for " + printable(member_) : "") +
               " is no JSON value, though Python writes it,",
           at);
    }
    // Only the fault of the parser's message, which also has a place, and the token, which may be very long.
    std::string_view detail = error.what();
    if (const std::size_t begin = detail.find("syntax error"); begin != detail.npos) {
      detail.remove_prefix(begin);
    }
    detail = detail.substr(0, detail.find("; last read"));
    fail("is not JSON: " + printable(detail), at);
  }

  /// Throws: JsonFault with `problem` and a place in the text.
  [[noreturn]] void fail(const std::string& problem, std::size_t at) const {
    const std::string_view before = text_.substr(0, at);
    const auto line = std::count(before.begin(), before.end(), '\n') + 1;
    const std::size_t column = at - (before.rfind('\n') + 1) + 1;  // npos + 1 is 0
    throw JsonFault(problem + " at line " + std::to_string(line) + ", column " + std::to_string(column), "",
                    "");
  }
  [[noreturn]] static void fail(const std::string& problem) { throw JsonFault(problem, "", ""); }

 private:
  bool scalar(nlohmann::json&& value) {
    visitor_.value(std::move(value));
    return true;
  }

  void descend() {
    if (++depth_ > max_json_depth) fail("nests deeper than " + std::to_string(max_json_depth) + " levels");
  }

  std::string_view text_;
  JsonVisitor& visitor_;
  OpenKeys keys_;
  std::string member_;
  std::size_t depth_ = 0;
};

inline void parse_strict_json(std::string_view text, JsonVisitor& visitor) {
  StrictJsonReader reader(text, visitor);
  if (text.starts_with("\xEF\xBB\xBF")) reader.fail("is not JSON: it begins with a byte order mark");
  if (const std::size_t at = text.find('\0'); at != text.npos) {
    reader.fail("is not JSON: it has a NUL byte", at);
  }
  if (const std::size_t at = find_invalid_utf8(text); at != text.npos) reader.fail("is not UTF-8", at);
  // By iterators, as some empty string_views are null pointers.
  nlohmann::json::sax_parse(text.begin(), text.end(), &reader);
}

/// Builds a document from the parts of a text.
class JsonBuilder final : public JsonVisitor {
 public:
  void begin_object() override { open_.push_back(&add(nlohmann::json::object())); }
  void begin_array() override { open_.push_back(&add(nlohmann::json::array())); }
  void end() override { open_.pop_back(); }
  void key(std::string&& name) override { key_ = std::move(name); }
  void value(nlohmann::json&& scalar) override { add(std::move(scalar)); }

  [[nodiscard]] JsonDocument& document() noexcept { return document_; }

 private:
  nlohmann::json& add(nlohmann::json&& value) {
    if (open_.empty()) return *document_ = std::move(value);
    nlohmann::json& parent = *open_.back();
    // Pointers to its members stay valid: an object has them in nodes, and an array grows only while none is open.
    if (parent.is_object()) {
      const auto [member, is_new] =
          parent.get_ref<nlohmann::json::object_t&>().try_emplace(key_, std::move(value));
      if (!is_new) throw JsonFault("has the key \"" + printable(key_) + "\" twice in one object", "", "");
      return member->second;
    }
    return parent.get_ref<nlohmann::json::array_t&>().emplace_back(std::move(value));
  }

  JsonDocument document_;
  std::vector<nlohmann::json*> open_;
  std::string key_;
};

inline JsonDocument parse_strict_json(std::string_view text) {
  JsonBuilder builder;
  parse_strict_json(text, builder);
  return std::move(builder.document());
}

}  // namespace gpt2::detail
