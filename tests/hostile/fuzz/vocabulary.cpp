// SPDX-License-Identifier: MIT
//
// The input as files of a vocabulary for the tokenizer of the examples: one that encodes and decodes, or a
// VocabularyError. The first byte says which files they are; "@" means a vocabulary of all bytes, which would be too
// long to be found, and a line "--" is the end of a file.

#include <cstdint>
#include <string>
#include <string_view>

#include "../../../examples/gpt2_tokenizer.hpp"
#include "fuzz.hpp"

namespace {

/// "!":33,"\"":34 and so on.
std::string all_bytes_json() {
  std::string members;
  int id = 0;
  for (const std::uint16_t character : text::detail::byte_alphabet()) {
    const std::string name = text::detail::to_utf8(character);
    members += (id == 0 ? "\"" : ",\"") + std::string(name == "\"" || name == "\\" ? "\\" : "") + name +
               "\":" + std::to_string(id);
    ++id;
  }
  return members;
}

std::string with_all_bytes(std::string_view file) {
  static const std::string members = all_bytes_json();
  const std::size_t at = file.find('@');
  if (at == file.npos) return std::string(file);
  return std::string(file.substr(0, at)) + members + std::string(file.substr(at + 1));
}

/// The file that an input begins with, which is taken from it.
std::string_view next_file(std::string_view& input) {
  constexpr std::string_view separator = "\n--\n";
  const std::size_t end = input.find(separator);
  const std::string_view file = input.substr(0, end);
  input = end == input.npos ? std::string_view() : input.substr(end + separator.size());
  return file;
}

void use_words(std::string_view lines) {
  const text::Tokenizer tokenizer = text::Tokenizer::from_words(lines);
  text::Tokenizer::Ids all;
  while (static_cast<std::int64_t>(all.size()) < tokenizer.end_id())
    all.push_back(static_cast<std::int64_t>(all.size()));
  fuzz::check(tokenizer.encode(tokenizer.decode(all)) == all, "all words are encoded as what they are");
}

}  // namespace

FUZZ_TARGET(vocabulary) {
  constexpr std::string_view text = "dog <|endoftext|> \xC3\xA9 it's 12\n  <x>\xFF";
  std::string_view input = fuzz::text_of(data, size);
  const char kind = input.empty() ? ' ' : input.front();
  if (!input.empty()) input.remove_prefix(1);
  try {
    if (kind == 'w') {
      use_words(input);
    } else if (kind == 'm') {
      const std::string tokens = with_all_bytes(next_file(input));
      const std::string_view merges = next_file(input);
      const text::Tokenizer tokenizer = text::Tokenizer::from_vocabulary_and_merges(tokens, merges, input);
      if (text::have_pcre2) {
        fuzz::check(tokenizer.decode(tokenizer.encode(text)) == text, "the ids of a text decode to it");
      }
    } else {
      const text::Tokenizer tokenizer = text::Tokenizer::from_tokenizer_json(with_all_bytes(input));
      if (text::have_pcre2) static_cast<void>(tokenizer.decode(tokenizer.encode(text)));
    }
  } catch (const text::VocabularyError& error) {
    const std::string message = error.what();
    fuzz::check(message.find('\n') == message.npos && message.size() < 1000, "a message is one short line");
    fuzz::check(message.starts_with(error.file() + ": "), "a message begins with its file");
  }
  return 0;
}
