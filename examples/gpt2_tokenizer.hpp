// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// Text to token ids and back: GPT-2's byte-level BPE, read from the vocabulary in a checkpoint's folder. Example
/// code, to read and to copy; it is not part of the library.
///
///     const auto tokenizer = text::Tokenizer::from_pretrained("path/to/gpt2");
///     const std::vector<std::int64_t> ids = tokenizer.encode("dog bites man");
///     const std::string same = tokenizer.decode(ids);
///
/// To split a text into words takes Unicode's classes of characters, which are PCRE2's. A program that is built
/// without it (GPT2_EXAMPLES_HAVE_PCRE2 is not defined) decodes all vocabularies, and encodes with those of whole
/// words only.
///
/// Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), section 2.2; Sennrich,
/// Haddow and Birch, "Neural Machine Translation of Rare Words with Subword Units" (2016); the ids are those of
/// Hugging Face's tokenizers.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <queue>
#include <set>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <utility>
#include <vector>

#ifdef GPT2_EXAMPLES_HAVE_PCRE2
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#endif

namespace text {

/// A vocabulary is missing or damaged, or its files do not belong together. what() begins with the file and, in
/// a file of lines, the line.
class VocabularyError : public std::runtime_error {
 public:
  VocabularyError(const std::string& file, const std::string& problem)
      : std::runtime_error(file + ": " + problem), file_(file) {}
  [[nodiscard]] const std::string& file() const noexcept { return file_; }

 private:
  std::string file_;
};

/// A text cannot be encoded: a word is not in a vocabulary of whole words, or PCRE2 is needed and was not there
/// when the program was built.
class EncodeError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// An id is not in the vocabulary.
class TokenError : public std::out_of_range {
 public:
  TokenError(std::int64_t id, const std::string& problem) : std::out_of_range(problem), id_(id) {}
  [[nodiscard]] std::int64_t id() const noexcept { return id_; }

 private:
  std::int64_t id_;
};

/// Whether texts can be split into words: whether the program is built with PCRE2.
#ifdef GPT2_EXAMPLES_HAVE_PCRE2
inline constexpr bool have_pcre2 = true;
#else
inline constexpr bool have_pcre2 = false;
#endif

/// A vocabulary, and how text is encoded with it. It does not change, so threads may share it.
class Tokenizer {
 public:
  using Id = std::int64_t;
  using Ids = std::vector<Id>;

  /// Reads the vocabulary in a checkpoint's folder, the first of these that exists: tokenizer.json; vocab.json
  /// and merges.txt, with added_tokens.json if there is one; the same as encoder.json and vocab.bpe; and
  /// vocabulary.txt, a vocabulary of whole words, one per line.
  /// Throws: VocabularyError.
  [[nodiscard]] static Tokenizer from_pretrained(const std::filesystem::path& folder);

  /// The same for a model: the vocabulary must have no id that its wte has no row for.
  /// Throws: VocabularyError.
  [[nodiscard]] static Tokenizer from_pretrained(const std::filesystem::path& folder, Id vocab_size);

  /// The text of a tokenizer.json, whose merges may be strings or pairs. It must describe a tokenizer like GPT-2's: a
  /// BPE model and a ByteLevel pre-tokenizer, no normaliser, and no tokens that a post-processor puts around a text.
  /// Throws: VocabularyError, which calls the file `name`.
  [[nodiscard]] static Tokenizer from_tokenizer_json(std::string_view json,
                                                     const std::string& name = "tokenizer.json");

  /// The texts of vocab.json and merges.txt, and that of added_tokens.json, empty if there is no such file. If
  /// <|endoftext|> is in the vocabulary, it is an added token.
  /// Throws: VocabularyError, which calls the files by their `names`.
  [[nodiscard]] static Tokenizer from_vocabulary_and_merges(
      std::string_view vocabulary, std::string_view merges, std::string_view added_tokens = "",
      const std::array<std::string, 3>& names = {"vocab.json", "merges.txt", "added_tokens.json"});

  /// The text of a vocabulary.txt: the first line's word has the id 0.
  /// Throws: VocabularyError, which calls the file `name`.
  [[nodiscard]] static Tokenizer from_words(std::string_view lines,
                                            const std::string& name = "vocabulary.txt");

  /// The ids of a text, which may be any bytes: those that are not UTF-8 belong to words as punctuation does. Added
  /// tokens are found first. A text of whole words has blanks between them, and none is needed before punctuation.
  /// Throws: EncodeError.
  /// Complexity: O(n log n) for n bytes, however long their words are.
  [[nodiscard]] Ids encode(std::string_view text) const;

  /// The bytes that the ids stand for. Whole words have a blank between them. With the vocabulary of GPT-2
  /// decode(encode(text)) is text; those of other models may have added tokens that take blanks with them, or put
  /// a blank in front of a text.
  /// Throws: TokenError.
  [[nodiscard]] std::string decode(std::span<const Id> ids) const;

  /// The bytes that an id adds to a text. If it is not the first, a whole word has a blank in front.
  /// Throws: TokenError.
  [[nodiscard]] std::string decode(Id id, bool first) const;

  /// The bytes of one token.
  /// Throws: TokenError.
  [[nodiscard]] const std::string& token(Id id) const;

  /// One more than the largest id. Smaller ones may be missing.
  [[nodiscard]] Id end_id() const noexcept { return end_id_; }

  /// Whether the vocabulary is one of whole words.
  [[nodiscard]] bool has_whole_words() const noexcept { return whole_words_; }

 private:
  using TokenIndex = std::uint32_t;  // a token's place in tokens_
  static constexpr TokenIndex none = std::numeric_limits<TokenIndex>::max();

  struct Token {
    std::string bytes;
    Id id;
  };
  struct Merge {
    std::uint32_t rank;
    TokenIndex merged;
  };
  /// A token that is matched before a text is split into words.
  struct Added {
    std::string content;
    Id id;
    bool lstrip;  // takes the blanks in front with it
    bool rstrip;  // takes the blanks after it with it
  };
  /// Added tokens by their first byte, longer ones first.
  using AddedTokens = std::array<std::vector<Added>, 256>;
  /// Tokens by their names in a file.
  using Names = std::unordered_map<std::string, TokenIndex>;

  Tokenizer() = default;

  static std::uint64_t pair(TokenIndex left, TokenIndex right) { return std::uint64_t{left} << 32U | right; }

  TokenIndex append(std::string bytes, Id id, const std::string& file);
  Names read_vocabulary(const nlohmann::json& vocabulary, const std::string& file);
  void add_merge(const Names& names, const std::string& left, const std::string& right, std::size_t rank,
                 const std::string& file, const std::string& place, const std::string& vocabulary_file);
  void add_token(const Names& names, Added added, bool first_pass, const std::string& file);
  void sort_added_tokens();

  template <class OnAdded, class OnText>
  static void split_at_added(const AddedTokens& added_tokens, std::string_view text, OnAdded&& on_added,
                             OnText&& on_text);
  void encode_text(std::string_view text, Ids& ids) const;
  void encode_word(std::string_view word, Ids& ids) const;
  [[nodiscard]] Ids encode_whole_words(std::string_view text) const;

  std::string name_;
  std::vector<Token> tokens_;
  std::unordered_map<Id, TokenIndex> by_id_;
  Id end_id_ = 0;
  std::array<TokenIndex, 256> byte_tokens_{};
  std::unordered_map<std::uint64_t, Merge> merges_;
  std::array<AddedTokens, 2> added_tokens_;  // those that are found before the others, and the others
  bool add_prefix_space_ = false;
  bool whole_words_ = false;
  Names words_;
};

/// Makes valid UTF-8 of bytes that come in pieces: the bytes of a character that is not complete wait for the
/// next piece, and those of none become U+FFFD.
class Utf8Stream {
 public:
  /// The text that can be written after these bytes.
  [[nodiscard]] std::string put(std::string_view bytes);
  /// The rest, if no more bytes follow.
  [[nodiscard]] std::string finish();

 private:
  std::string waiting_;
};

/// Bytes in quotation marks on one line, for people: unprintable ones are escaped, and the text is cut off after
/// `limit` characters.
[[nodiscard]] inline std::string printable(std::string_view bytes, std::size_t limit = 40);

/// The number of characters in valid UTF-8.
[[nodiscard]] inline std::size_t count_characters(std::string_view text) noexcept {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80; }));
}

/// Calls on_word with each of the words that BPE does not merge across; one after another they are the text.
/// Throws: EncodeError without PCRE2.
template <class OnWord>
void for_each_word(std::string_view text, OnWord&& on_word);

// Implementation.

namespace detail {

/// The character at a place of a text, or bytes that are no character.
struct Utf8 {
  std::size_t size;
  bool valid;
  bool cut_off;  // the text ends before the character does
};

inline Utf8 utf8_at(std::string_view text, std::size_t at) noexcept {
  const auto byte = [text](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(at);
  if (lead < 0x80) return {1, true, false};
  if (lead < 0xC2 || lead > 0xF4) return {1, false, false};
  const std::size_t size = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // Of the second byte: no overlong forms, no surrogates, nothing above U+10FFFF.
  unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  for (std::size_t i = 1; i < size; ++i) {
    if (at + i == text.size()) return {i, false, true};
    if (byte(at + i) < low || byte(at + i) > high) return {i, false, false};
    low = 0x80;
    high = 0xBF;
  }
  return {size, true, false};
}

/// The characters with Unicode's property White_Space.
inline constexpr std::array<std::string_view, 25> blanks{
    "\t",           "\n",           "\v",           "\f",           "\r",           " ",
    "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\x80", "\xE2\x80\x81", "\xE2\x80\x82",
    "\xE2\x80\x83", "\xE2\x80\x84", "\xE2\x80\x85", "\xE2\x80\x86", "\xE2\x80\x87", "\xE2\x80\x88",
    "\xE2\x80\x89", "\xE2\x80\x8A", "\xE2\x80\xA8", "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F",
    "\xE3\x80\x80"};

inline std::size_t size_of_blanks_before(std::string_view text, std::size_t begin, std::size_t end) {
  std::size_t at = end;
  for (bool found = true; found;) {
    found = false;
    for (const std::string_view blank : blanks) {
      if (!text.substr(begin, at - begin).ends_with(blank)) continue;
      at -= blank.size();
      found = true;
    }
  }
  return end - at;
}

inline std::size_t size_of_blanks_after(std::string_view text, std::size_t begin) {
  std::size_t at = begin;
  for (bool found = true; found;) {
    found = false;
    for (const std::string_view blank : blanks) {
      if (!text.substr(at).starts_with(blank)) continue;
      at += blank.size();
      found = true;
    }
  }
  return at - begin;
}

/// The alphabet in which files of vocabularies write bytes: printable characters of Latin-1 are themselves, the
/// other bytes are the characters from U+0100 on.
inline std::array<std::uint16_t, 256> byte_alphabet() {
  std::array<std::uint16_t, 256> alphabet{};
  std::uint16_t next = 0x100;
  for (std::uint16_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
    alphabet[byte] = printable ? byte : next++;
  }
  return alphabet;
}

/// A character below U+0800 in UTF-8.
inline std::string to_utf8(std::uint16_t character) {
  if (character < 0x80) return {static_cast<char>(character)};
  return {static_cast<char>(0xC0U | character >> 6U), static_cast<char>(0x80U | (character & 0x3FU))};
}

/// The bytes of a token by its name in a file; the name itself if a character is not in the alphabet.
inline std::string bytes_of_name(const std::string& name) {
  static const std::unordered_map<std::string, char> bytes = [] {
    std::unordered_map<std::string, char> map;
    const std::array<std::uint16_t, 256> alphabet = byte_alphabet();
    for (std::size_t byte = 0; byte < 256; ++byte) map[to_utf8(alphabet[byte])] = static_cast<char>(byte);
    return map;
  }();
  std::string result;
  for (std::size_t at = 0; at < name.size();) {
    const std::size_t size = utf8_at(name, at).size;
    const auto found = bytes.find(name.substr(at, size));
    if (found == bytes.end()) return name;
    result += found->second;
    at += size;
  }
  return result;
}

/// Reads JSON as RFC 8259 has it. nlohmann/json alone ends a text at a NUL byte, skips a byte order mark and keeps
/// the last of two equal keys.
inline nlohmann::json parse_json(std::string_view text, const std::string& file) {
  constexpr int max_depth = 100;
  if (text.starts_with("\xEF\xBB\xBF"))
    throw VocabularyError(file, "is not JSON: it begins with a byte order mark");
  if (text.find('\0') != text.npos) throw VocabularyError(file, "is not JSON: it has a NUL byte");
  std::vector<std::set<std::string>> open_objects;
  const auto check = [&](int depth, nlohmann::json::parse_event_t event, const nlohmann::json& parsed) {
    using Event = nlohmann::json::parse_event_t;
    if (depth > max_depth) {
      throw VocabularyError(file, "nests deeper than " + std::to_string(max_depth) + " levels");
    }
    if (event == Event::object_start) open_objects.emplace_back();
    if (event == Event::object_end) open_objects.pop_back();
    if (event == Event::key) {
      const auto& key = parsed.get_ref<const std::string&>();
      if (!open_objects.back().insert(key).second) {
        throw VocabularyError(file, "has the key " + printable(key) + " twice in one object");
      }
    }
    return true;
  };
  try {
    return nlohmann::json::parse(text.begin(), text.end(), check);
  } catch (const nlohmann::json::exception& error) {
    // Only the fault and place of the message, which also quotes the text, which may be long.
    std::string_view problem = error.what();
    if (const std::size_t begin = problem.find("] "); begin != problem.npos) problem.remove_prefix(begin + 2);
    problem = problem.substr(0, problem.find("; last read"));
    const std::string shown = printable(problem, 160);
    throw VocabularyError(file, "is not JSON: " + shown.substr(1, shown.size() - 2));
  }
}

/// The value of a member; null if it is missing.
inline const nlohmann::json& member(const nlohmann::json& object, const char* key) {
  static const nlohmann::json null;
  const auto found = object.find(key);
  return found == object.end() ? null : *found;
}

/// A member that is true or false, or missing.
inline bool flag(const nlohmann::json& object, const char* key, bool otherwise, const std::string& file,
                 const std::string& place) {
  const nlohmann::json& value = member(object, key);
  if (value.is_null()) return otherwise;
  if (!value.is_boolean()) throw VocabularyError(file, place + key + " is neither true nor false");
  return value.get<bool>();
}

inline std::int64_t id_of(const nlohmann::json& value, const std::string& file, const std::string& place) {
  constexpr std::int64_t max = std::numeric_limits<std::int64_t>::max() - 1;
  if (!value.is_number_integer())
    throw VocabularyError(file, place + " has an id that is not a whole number");
  if (value.is_number_unsigned() ? value.get<std::uint64_t>() > static_cast<std::uint64_t>(max)
                                 : value.get<std::int64_t>() < 0) {
    throw VocabularyError(
        file, place + " has the id " + value.dump() + ", which is outside [0, " + std::to_string(max) + "]");
  }
  return value.get<std::int64_t>();
}

/// The lines of a file, without the ends of Unix's or Windows'. Empty lines at the end are none.
inline std::vector<std::string_view> lines_of(std::string_view text) {
  while (text.ends_with('\n') || text.ends_with('\r')) text.remove_suffix(1);
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.push_back(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

/// A component of a tokenizer.json: null, or an object with a type.
inline std::string type_of(const nlohmann::json& json, const char* component, const std::string& file) {
  const nlohmann::json& value = member(json, component);
  if (value.is_null()) return "";
  if (!value.is_object() || !member(value, "type").is_string()) {
    throw VocabularyError(file, std::string(component) + " is neither null nor an object with a type");
  }
  return value["type"].get<std::string>();
}

/// Settings of a BPE model that GPT-2's does not have, and that would give other ids.
inline void check_model(const nlohmann::json& model, const std::string& file) {
  const nlohmann::json& type = member(model, "type");
  if (!type.is_null() && type != "BPE") {
    throw VocabularyError(file, "model.type is not \"BPE\": the tokenizer is not one of GPT-2");
  }
  for (const char* const key : {"continuing_subword_prefix", "end_of_word_suffix", "dropout"}) {
    const nlohmann::json& value = member(model, key);
    if (!value.is_null() && value != "" && value != 0.0) {
      throw VocabularyError(file, std::string("model.") + key + " is set: the tokenizer is not one of GPT-2");
    }
  }
  for (const char* const key : {"byte_fallback", "ignore_merges"}) {
    if (flag(model, key, false, file, "model.")) {
      throw VocabularyError(file,
                            std::string("model.") + key + " is true: the tokenizer is not one of GPT-2");
    }
  }
}

inline void check_post_processor(const nlohmann::json& json, const std::string& file) {
  const std::string type = type_of(json, "post_processor", file);
  if (type.empty() || type == "ByteLevel") return;
  const nlohmann::json& single = member(json["post_processor"], "single");
  const bool adds_nothing = type == "TemplateProcessing" && single.is_array() && single.size() == 1 &&
                            single[0].is_object() && single[0].contains("Sequence");
  if (!adds_nothing) {
    throw VocabularyError(file, "post_processor is " + printable(type) +
                                    ", which may put tokens around a text: the " +
                                    "tokenizer is not one of GPT-2");
  }
}

inline std::optional<std::string> read_file(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return std::nullopt;
  if (std::filesystem::is_directory(path, ignored)) throw VocabularyError(path.string(), "is a folder");
  std::ifstream file(path, std::ios::binary);
  std::string bytes{std::istreambuf_iterator<char>(file), {}};
  if (!file.is_open() || file.bad()) throw VocabularyError(path.string(), "cannot be read");
  return bytes;
}

#ifdef GPT2_EXAMPLES_HAVE_PCRE2

struct FreePattern {
  void operator()(pcre2_code* pattern) const { pcre2_code_free(pattern); }
};
struct FreeMatch {
  void operator()(pcre2_match_data* match) const { pcre2_match_data_free(match); }
};

inline std::string pcre2_message(int error) {
  std::array<PCRE2_UCHAR, 200> message{};
  pcre2_get_error_message(error, message.data(), message.size());
  return "PCRE2: " + std::string(reinterpret_cast<const char*>(message.data()));
}

/// GPT-2's pattern. Its \s is written out, for PCRE2's has U+180E as well, which is no blank since Unicode 6.3.
inline const pcre2_code* word_pattern() {
  static const std::unique_ptr<pcre2_code, FreePattern> pattern = [] {
    const std::string s =
        R"(\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
    const std::string text = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" + s + "\\p{L}\\p{N}]+|[" + s +
                             "]+(?![^" + s + "])|[" + s + "]+";
    int error = 0;
    std::size_t at = 0;
    pcre2_code* const compiled = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                               PCRE2_UTF, &error, &at, nullptr);
    if (compiled == nullptr) throw EncodeError(pcre2_message(error));
    return std::unique_ptr<pcre2_code, FreePattern>(compiled);
  }();
  return pattern.get();
}

#endif

}  // namespace detail

inline std::string printable(std::string_view bytes, std::size_t limit) {
  std::string result = "\"";
  std::size_t characters = 0;
  for (std::size_t at = 0; at < bytes.size(); ++characters) {
    if (characters == limit) return result + "\"...";
    const detail::Utf8 character = detail::utf8_at(bytes, at);
    const unsigned char first = static_cast<unsigned char>(bytes[at]);
    const bool is_control =
        first < 0x20 || first == 0x7F ||
        (first == 0xC2 && character.valid && static_cast<unsigned char>(bytes[at + 1]) < 0xA0);
    if (bytes[at] == '\n') {
      result += "\\n";
    } else if (bytes[at] == '\t') {
      result += "\\t";
    } else if (bytes[at] == '"' || bytes[at] == '\\') {
      result += {'\\', bytes[at]};
    } else if (character.valid && !is_control) {
      result += bytes.substr(at, character.size);
    } else {
      for (std::size_t i = 0; i < character.size; ++i) {
        constexpr const char* digits = "0123456789ABCDEF";
        const unsigned char byte = static_cast<unsigned char>(bytes[at + i]);
        result += {'\\', 'x', digits[byte >> 4U], digits[byte & 15U]};
      }
    }
    at += character.size;
  }
  return result + "\"";
}

inline std::string Utf8Stream::put(std::string_view bytes) {
  waiting_ += bytes;
  std::string valid;
  std::size_t at = 0;
  while (at < waiting_.size()) {
    const detail::Utf8 character = detail::utf8_at(waiting_, at);
    if (character.cut_off) break;
    valid += character.valid ? std::string_view(waiting_).substr(at, character.size) : "\xEF\xBF\xBD";
    at += character.size;
  }
  waiting_.erase(0, at);
  return valid;
}

inline std::string Utf8Stream::finish() {
  // At most one character waits.
  return std::exchange(waiting_, "").empty() ? "" : "\xEF\xBF\xBD";
}

template <class OnWord>
void for_each_word([[maybe_unused]] std::string_view text, [[maybe_unused]] OnWord&& on_word) {
#ifdef GPT2_EXAMPLES_HAVE_PCRE2
  // In the place of bytes that are not UTF-8 the pattern sees U+0001, one byte as well, which is neither a letter,
  // a number nor a blank.
  std::string valid;
  std::string_view seen = text;
  for (std::size_t at = 0; at < text.size();) {
    const detail::Utf8 character = detail::utf8_at(text, at);
    if (!character.valid) {
      if (valid.empty()) valid = text;
      std::fill_n(valid.begin() + static_cast<std::ptrdiff_t>(at), character.size, '\x01');
    }
    at += character.size;
  }
  if (!valid.empty()) seen = valid;

  const pcre2_code* const pattern = detail::word_pattern();
  const std::unique_ptr<pcre2_match_data, detail::FreeMatch> match(pcre2_match_data_create(1, nullptr));
  if (match == nullptr) throw std::bad_alloc();
  for (std::size_t at = 0; at < seen.size();) {
    const int found = pcre2_match(pattern, reinterpret_cast<PCRE2_SPTR>(seen.data()), seen.size(), at,
                                  PCRE2_ANCHORED | PCRE2_NO_UTF_CHECK, match.get(), nullptr);
    if (found < 1) throw EncodeError(detail::pcre2_message(found));
    const std::size_t end = pcre2_get_ovector_pointer(match.get())[1];
    on_word(text.substr(at, end - at));
    at = end;
  }
#else
  throw EncodeError(
      "text needs PCRE2, which was not there when this program was built: install it (Debian's "
      "libpcre2-dev), then "
      "configure and build again");
#endif
}

inline Tokenizer::TokenIndex Tokenizer::append(std::string bytes, Id id, const std::string& file) {
  if (tokens_.size() >= none) throw VocabularyError(file, "has too many tokens");
  const auto index = static_cast<TokenIndex>(tokens_.size());
  const auto [found, is_new] = by_id_.try_emplace(id, index);
  if (!is_new) {
    throw VocabularyError(file, "has the id " + std::to_string(id) + " twice, for " +
                                    printable(tokens_[found->second].bytes) + " and for " + printable(bytes));
  }
  tokens_.push_back({std::move(bytes), id});
  end_id_ = std::max(end_id_, id + 1);
  return index;
}

inline Tokenizer::Names Tokenizer::read_vocabulary(const nlohmann::json& vocabulary,
                                                   const std::string& file) {
  if (!vocabulary.is_object()) throw VocabularyError(file, "has no object of tokens and their ids");
  Names names;
  for (const auto& [name, id] : vocabulary.items()) {
    names.emplace(name, append(detail::bytes_of_name(name), detail::id_of(id, file, printable(name)), file));
  }
  const std::array<std::uint16_t, 256> alphabet = detail::byte_alphabet();
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const auto found = names.find(detail::to_utf8(alphabet[byte]));
    if (found == names.end()) {
      throw VocabularyError(file, "has no token " + printable(detail::to_utf8(alphabet[byte])) +
                                      ", which is byte " + std::to_string(byte) +
                                      ": the vocabulary is not one of GPT-2");
    }
    byte_tokens_[byte] = found->second;
  }
  return names;
}

inline void Tokenizer::add_merge(const Names& names, const std::string& left, const std::string& right,
                                 std::size_t rank, const std::string& file, const std::string& place,
                                 const std::string& vocabulary_file) {
  const auto index = [&](const std::string& name, const std::string& what) {
    const auto found = names.find(name);
    if (found == names.end()) {
      throw VocabularyError(file, place + printable(name) + what + " is not in " + vocabulary_file +
                                      ": the two do not belong together");
    }
    return found->second;
  };
  const TokenIndex left_index = index(left, "");
  const TokenIndex right_index = index(right, "");
  const TokenIndex merged = index(left + right, ", of " + printable(left) + " and " + printable(right) + ",");
  if (rank >= std::numeric_limits<std::uint32_t>::max()) throw VocabularyError(file, "has too many merges");
  if (!merges_.try_emplace(pair(left_index, right_index), Merge{static_cast<std::uint32_t>(rank), merged})
           .second) {
    throw VocabularyError(file, place + printable(left) + " and " + printable(right) + " are merged twice");
  }
}

inline void Tokenizer::add_token(const Names& names, Added added, bool first_pass, const std::string& file) {
  if (added.content.empty()) throw VocabularyError(file, "has an added token without content");
  const auto known = names.find(added.content);
  if (known == names.end()) {
    append(added.content, added.id, file);
  } else {
    const Token& token = tokens_[known->second];
    if (token.id != added.id) {
      throw VocabularyError(file, "has the added token " + printable(added.content) + " with the id " +
                                      std::to_string(added.id) + ", and in the vocabulary it has " +
                                      std::to_string(token.id));
    }
    if (token.bytes != added.content) {
      throw VocabularyError(file, "has the added token " + printable(added.content) +
                                      ", which in the vocabulary is the name of " + printable(token.bytes));
    }
  }
  added_tokens_[first_pass ? 0 : 1][static_cast<unsigned char>(added.content.front())].push_back(
      std::move(added));
}

inline void Tokenizer::sort_added_tokens() {
  for (AddedTokens& added_tokens : added_tokens_) {
    for (std::vector<Added>& same_byte : added_tokens) {
      std::sort(same_byte.begin(), same_byte.end(),
                [](const Added& a, const Added& b) { return a.content.size() > b.content.size(); });
    }
  }
}

inline Tokenizer Tokenizer::from_vocabulary_and_merges(std::string_view vocabulary, std::string_view merges,
                                                       std::string_view added_tokens,
                                                       const std::array<std::string, 3>& names) {
  const auto& [vocabulary_name, merges_name, added_name] = names;
  Tokenizer result;
  result.name_ = vocabulary_name;
  const Names tokens =
      result.read_vocabulary(detail::parse_json(vocabulary, vocabulary_name), vocabulary_name);

  std::size_t line_number = 0;
  std::size_t rank = 0;
  for (const std::string_view line : detail::lines_of(merges)) {
    ++line_number;
    if (line.starts_with("#version")) continue;
    const std::string place = "line " + std::to_string(line_number) + ": ";
    const std::size_t blank = line.find(' ');
    if (blank == line.npos || line.find(' ', blank + 1) != line.npos) {
      throw VocabularyError(merges_name,
                            place + printable(line) + " is not two tokens with a blank between them");
    }
    result.add_merge(tokens, std::string(line.substr(0, blank)), std::string(line.substr(blank + 1)), rank++,
                     merges_name, place, vocabulary_name);
  }

  const std::string end_of_text = "<|endoftext|>";
  std::optional<Id> end_of_text_id;
  if (const auto found = tokens.find(end_of_text); found != tokens.end())
    end_of_text_id = result.tokens_[found->second].id;
  if (!added_tokens.empty()) {
    const nlohmann::json json = detail::parse_json(added_tokens, added_name);
    if (!json.is_object()) throw VocabularyError(added_name, "is not an object of tokens and their ids");
    for (const auto& [content, id] : json.items()) {
      result.add_token(tokens, {content, detail::id_of(id, added_name, printable(content)), false, false},
                       true, added_name);
      if (content == end_of_text) end_of_text_id.reset();
    }
  }
  if (end_of_text_id)
    result.add_token(tokens, {end_of_text, *end_of_text_id, false, false}, true, vocabulary_name);
  result.sort_added_tokens();
  return result;
}

inline Tokenizer Tokenizer::from_tokenizer_json(std::string_view text, const std::string& name) {
  const nlohmann::json json = detail::parse_json(text, name);
  if (!json.is_object() || !detail::member(json, "model").is_object())
    throw VocabularyError(name, "has no model");
  const nlohmann::json& model = json["model"];
  detail::check_model(model, name);
  if (const std::string type = detail::type_of(json, "normalizer", name); !type.empty()) {
    throw VocabularyError(name, "normalizer is " + printable(type) + ": the tokenizer is not one of GPT-2");
  }
  const nlohmann::json& pre_tokenizer = detail::member(json, "pre_tokenizer");
  if (detail::type_of(json, "pre_tokenizer", name) != "ByteLevel" ||
      !detail::flag(pre_tokenizer, "use_regex", true, name, "pre_tokenizer.")) {
    throw VocabularyError(
        name, "pre_tokenizer is not \"ByteLevel\" with its own pattern: the tokenizer is not one of GPT-2");
  }
  detail::check_post_processor(json, name);

  Tokenizer result;
  result.name_ = name;
  result.add_prefix_space_ = detail::flag(pre_tokenizer, "add_prefix_space", true, name, "pre_tokenizer.");
  const Names tokens = result.read_vocabulary(detail::member(model, "vocab"), name);

  const nlohmann::json& merges = detail::member(model, "merges");
  if (!merges.is_array()) throw VocabularyError(name, "has no array of merges");
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const nlohmann::json& merge = merges[rank];
    const std::string place = "model.merges[" + std::to_string(rank) + "]: ";
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      result.add_merge(tokens, merge[0].get<std::string>(), merge[1].get<std::string>(), rank, name, place,
                       "model.vocab");
      continue;
    }
    const std::string both = merge.is_string() ? merge.get<std::string>() : "";
    const std::size_t blank = both.find(' ');
    if (blank == both.npos || both.find(' ', blank + 1) != both.npos) {
      throw VocabularyError(name,
                            place + "is neither a pair of tokens nor two tokens with a blank between them");
    }
    result.add_merge(tokens, both.substr(0, blank), both.substr(blank + 1), rank, name, place, "model.vocab");
  }

  const nlohmann::json& added_tokens = detail::member(json, "added_tokens");
  if (!added_tokens.is_null() && !added_tokens.is_array())
    throw VocabularyError(name, "added_tokens is not an array");
  std::set<std::string> contents;
  for (std::size_t i = 0; i < added_tokens.size(); ++i) {
    const nlohmann::json& added = added_tokens[i];
    const std::string place = "added_tokens[" + std::to_string(i) + "]";
    if (!added.is_object() || !detail::member(added, "content").is_string()) {
      throw VocabularyError(name, place + " is not an object with a content");
    }
    const std::string fields = place + ".";
    if (detail::flag(added, "single_word", false, name, fields)) {
      throw VocabularyError(name, fields + "single_word is true, which this program cannot do");
    }
    const auto content = added["content"].get<std::string>();
    if (!contents.insert(content).second)
      throw VocabularyError(name, place + ": " + printable(content) + " is added twice");
    result.add_token(tokens,
                     {content, detail::id_of(detail::member(added, "id"), name, place),
                      detail::flag(added, "lstrip", false, name, fields),
                      detail::flag(added, "rstrip", false, name, fields)},
                     !detail::flag(added, "normalized", false, name, fields), name);
  }
  result.sort_added_tokens();
  return result;
}

inline Tokenizer Tokenizer::from_words(std::string_view lines, const std::string& name) {
  Tokenizer result;
  result.name_ = name;
  result.whole_words_ = true;
  std::size_t line_number = 0;
  for (const std::string_view word : detail::lines_of(lines)) {
    const std::string place = "line " + std::to_string(++line_number) + ": ";
    if (word.empty()) throw VocabularyError(name, place + "is empty");
    if (word.find_first_of(" \t\v\f\r") != word.npos) {
      throw VocabularyError(name, place + printable(word) + " is more than one word");
    }
    const TokenIndex index = result.append(std::string(word), static_cast<Id>(line_number - 1), name);
    if (!result.words_.emplace(word, index).second) {
      throw VocabularyError(name, place + printable(word) + " is also in line " +
                                      std::to_string(result.words_[std::string(word)] + 1));
    }
  }
  if (result.tokens_.empty()) throw VocabularyError(name, "has no words");
  return result;
}

inline Tokenizer Tokenizer::from_pretrained(const std::filesystem::path& folder) {
  if (const auto json = detail::read_file(folder / "tokenizer.json")) {
    return from_tokenizer_json(*json, (folder / "tokenizer.json").string());
  }
  using Pair = std::pair<const char*, const char*>;
  for (const auto& [vocabulary_name, merges_name] :
       {Pair("vocab.json", "merges.txt"), Pair("encoder.json", "vocab.bpe")}) {
    const auto vocabulary = detail::read_file(folder / vocabulary_name);
    const auto merges = detail::read_file(folder / merges_name);
    if (!vocabulary && !merges) continue;
    if (!vocabulary || !merges) {
      throw VocabularyError((folder / (vocabulary ? merges_name : vocabulary_name)).string(),
                            std::string("is missing beside ") + (vocabulary ? vocabulary_name : merges_name));
    }
    const auto added_tokens = detail::read_file(folder / "added_tokens.json");
    return from_vocabulary_and_merges(*vocabulary, *merges, added_tokens.value_or(""),
                                      {(folder / vocabulary_name).string(), (folder / merges_name).string(),
                                       (folder / "added_tokens.json").string()});
  }
  if (const auto words = detail::read_file(folder / "vocabulary.txt")) {
    return from_words(*words, (folder / "vocabulary.txt").string());
  }
  throw VocabularyError(
      folder.string(),
      "has no vocabulary: neither tokenizer.json, nor vocab.json and merges.txt, nor encoder.json "
      "and vocab.bpe, nor vocabulary.txt");
}

inline Tokenizer Tokenizer::from_pretrained(const std::filesystem::path& folder, Id vocab_size) {
  Tokenizer result = from_pretrained(folder);
  if (result.end_id() > vocab_size) {
    throw VocabularyError(result.name_, "has ids up to " + std::to_string(result.end_id() - 1) +
                                            ", beyond the model's vocab_size, " + std::to_string(vocab_size) +
                                            ": the two do not belong together");
  }
  return result;
}

template <class OnAdded, class OnText>
void Tokenizer::split_at_added(const AddedTokens& added_tokens, std::string_view text, OnAdded&& on_added,
                               OnText&& on_text) {
  std::size_t begin = 0;  // of the text that no token has taken
  for (std::size_t at = 0; at < text.size();) {
    const std::vector<Added>& candidates = added_tokens[static_cast<unsigned char>(text[at])];
    const auto found = std::find_if(candidates.begin(), candidates.end(), [&](const Added& added) {
      return text.substr(at).starts_with(added.content);
    });
    if (found == candidates.end()) {
      ++at;
      continue;
    }
    const std::size_t blanks = found->lstrip ? detail::size_of_blanks_before(text, begin, at) : 0;
    if (at - blanks > begin) on_text(text.substr(begin, at - blanks - begin));
    on_added(*found);
    at += found->content.size();
    if (found->rstrip) at += detail::size_of_blanks_after(text, at);
    begin = at;
  }
  if (begin < text.size()) on_text(text.substr(begin));
}

inline Tokenizer::Ids Tokenizer::encode(std::string_view text) const {
  if (whole_words_) return encode_whole_words(text);
  Ids ids;
  const auto add = [&](const Added& added) { ids.push_back(added.id); };
  split_at_added(added_tokens_[0], text, add, [&](std::string_view between) {
    split_at_added(added_tokens_[1], between, add, [&](std::string_view rest) { encode_text(rest, ids); });
  });
  return ids;
}

inline void Tokenizer::encode_text(std::string_view text, Ids& ids) const {
  const auto encode = [&](std::string_view word) { encode_word(word, ids); };
  if (add_prefix_space_ && !text.starts_with(' ')) {
    for_each_word(" " + std::string(text), encode);
  } else {
    for_each_word(text, encode);
  }
}

/// Merges, again and again, the two neighbours whose merge has the lowest rank, the leftmost of equal ones. All
/// pairs of neighbours wait in a queue, with some that no longer are neighbours.
inline void Tokenizer::encode_word(std::string_view word, Ids& ids) const {
  struct Symbol {
    TokenIndex token;  // none: merged into the one before it
    std::size_t previous;
    std::size_t next;
  };
  struct Candidate {
    std::uint32_t rank;
    TokenIndex left;
    TokenIndex right;
    TokenIndex merged;
    std::size_t at;
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : at > other.at;
    }
  };
  const std::size_t end = word.size();
  std::vector<Symbol> symbols(end);
  for (std::size_t i = 0; i < end; ++i) {
    symbols[i] = {byte_tokens_[static_cast<unsigned char>(word[i])], i == 0 ? end : i - 1, i + 1};
  }

  std::vector<Candidate> candidates;
  const auto find = [&](std::size_t at) -> std::optional<Candidate> {
    const Symbol& symbol = symbols[at];
    if (symbol.next == end) return std::nullopt;
    const TokenIndex right = symbols[symbol.next].token;
    const auto found = merges_.find(pair(symbol.token, right));
    if (found == merges_.end()) return std::nullopt;
    return Candidate{found->second.rank, symbol.token, right, found->second.merged, at};
  };
  for (std::size_t i = 0; i < end; ++i) {
    if (const auto candidate = find(i)) candidates.push_back(*candidate);
  }
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue(std::greater<>(),
                                                                               std::move(candidates));
  const auto push = [&](std::size_t at) {
    if (const auto candidate = find(at)) queue.push(*candidate);
  };

  while (!queue.empty()) {
    const Candidate best = queue.top();
    queue.pop();
    Symbol& left = symbols[best.at];
    if (left.token != best.left || left.next == end || symbols[left.next].token != best.right) continue;
    Symbol& right = symbols[left.next];
    left.token = best.merged;
    left.next = right.next;
    right.token = none;
    if (left.next != end) symbols[left.next].previous = best.at;
    if (left.previous != end) push(left.previous);
    push(best.at);
  }
  for (std::size_t i = 0; i < end; i = symbols[i].next) ids.push_back(tokens_[symbols[i].token].id);
}

inline Tokenizer::Ids Tokenizer::encode_whole_words(std::string_view text) const {
  constexpr std::string_view blanks = " \t\n\v\f\r";
  constexpr std::string_view punctuation = ".,;:!?";
  Ids ids;
  for (;;) {
    const std::size_t begin = text.find_first_not_of(blanks);
    if (begin == text.npos) return ids;
    text.remove_prefix(begin);
    const std::string word(text.substr(0, text.find_first_of(blanks)));
    text.remove_prefix(word.size());

    std::string stem = word;
    Ids marks;  // the last one first
    while (!words_.contains(stem) && stem.size() > 1 && punctuation.find(stem.back()) != punctuation.npos) {
      const auto mark = words_.find(stem.substr(stem.size() - 1));
      if (mark == words_.end()) break;
      marks.push_back(tokens_[mark->second].id);
      stem.pop_back();
    }
    const auto found = words_.find(stem);
    if (found == words_.end()) {
      throw EncodeError(printable(word) + " is none of the " + std::to_string(words_.size()) + " words in " +
                        name_);
    }
    ids.push_back(tokens_[found->second].id);
    ids.insert(ids.end(), marks.rbegin(), marks.rend());
  }
}

inline const std::string& Tokenizer::token(Id id) const {
  const auto found = by_id_.find(id);
  if (found != by_id_.end()) return tokens_[found->second].bytes;
  throw TokenError(id, id < 0 || id >= end_id_ ? "id " + std::to_string(id) + " is outside [0, " +
                                                     std::to_string(end_id_) + "), " + name_
                                               : "id " + std::to_string(id) + " is not in " + name_);
}

inline std::string Tokenizer::decode(Id id, bool first) const {
  return whole_words_ && !first ? " " + token(id) : token(id);
}

inline std::string Tokenizer::decode(std::span<const Id> ids) const {
  std::string text;
  for (std::size_t i = 0; i < ids.size(); ++i) text += decode(ids[i], i == 0);
  return text;
}

}  // namespace text
