// SPDX-License-Identifier: MIT
//
// The input as a few merges and a text of any bytes, which the tokenizer of the examples encodes: its ids are those of
// the pair of the lowest rank, merged again and again, and they decode to the text.

#include <algorithm>
#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../../../examples/gpt2_tokenizer.hpp"
#include "fuzz.hpp"

namespace {

struct MergeOfNames {
  std::string left, right;
};

/// A vocabulary of all bytes, its further tokens, and the merges that lead to them.
struct MergedBytes {
  std::vector<std::string> names;
  std::vector<MergeOfNames> merges;

  explicit MergedBytes(fuzz::Choices& choices) {
    for (const std::uint16_t character : text::detail::byte_alphabet()) {
      names.push_back(text::detail::to_utf8(character));
    }
    for (int count = choices.below(16); count > 0; --count) {
      const auto name = [&] {
        // One of the last tokens, or a byte.
        const auto choice = static_cast<std::size_t>(choices.any<std::uint8_t>());
        return choices.yes() ? names[names.size() - 1 - choice % (names.size() - 255)] : names[choice];
      };
      const std::string left = name();
      const std::string right = name();
      if (std::find(names.begin(), names.end(), left + right) != names.end()) continue;
      names.push_back(left + right);
      merges.push_back({left, right});
    }
  }

  [[nodiscard]] text::Tokenizer tokenizer() const {
    nlohmann::json vocabulary = nlohmann::json::object();
    std::string lines;
    for (const std::string& name : names) vocabulary[name] = vocabulary.size();
    for (const auto& [left, right] : merges) lines.append(left).append(" ").append(right).append("\n");
    return text::Tokenizer::from_vocabulary_and_merges(vocabulary.dump(), lines);
  }

  /// The tokens of a word, by a plain implementation of merging.
  [[nodiscard]] std::vector<std::string> encode(std::string_view word) const {
    std::vector<std::string> parts;
    for (const char c : word) parts.push_back(names[static_cast<unsigned char>(c)]);
    for (std::size_t rank = 0; rank < merges.size();) {
      const MergeOfNames& merge = merges[rank];
      const auto found = std::adjacent_find(parts.begin(), parts.end(), [&](const auto& a, const auto& b) {
        return a == merge.left && b == merge.right;
      });
      if (found == parts.end()) {
        ++rank;
        continue;
      }
      *found += *(found + 1);
      parts.erase(found + 1);
      rank = 0;
    }
    return parts;
  }
};

}  // namespace

FUZZ_TARGET(encode) {
  fuzz::Choices choices(data, size);
  const MergedBytes merged(choices);
  const text::Tokenizer tokenizer = merged.tokenizer();
  std::string input;
  while (!choices.empty() && input.size() < 300) input += choices.any<char>();

  // In pieces of a byte, a stream is written as it is at once.
  text::Utf8Stream whole;
  text::Utf8Stream pieces;
  std::string once = whole.put(input);
  once += whole.finish();
  std::string in_pieces;
  for (const char& byte : input) in_pieces += pieces.put({&byte, 1});
  in_pieces += pieces.finish();
  fuzz::check(once == in_pieces, "the pieces of a stream do not matter");
  for (std::size_t at = 0; at < once.size(); at += text::detail::utf8_at(once, at).size) {
    fuzz::check(text::detail::utf8_at(once, at).valid, "a stream is valid UTF-8");
  }
  if (!text::have_pcre2) return 0;

  const text::Tokenizer::Ids ids = tokenizer.encode(input);
  fuzz::check(tokenizer.decode(ids) == input, "the ids of a text decode to it");
  std::vector<std::string> expected;
  std::string words;
  text::for_each_word(input, [&](std::string_view word) {
    words += word;
    const std::vector<std::string> parts = merged.encode(word);
    expected.insert(expected.end(), parts.begin(), parts.end());
  });
  fuzz::check(words == input, "the words are the text");
  fuzz::check(std::equal(ids.begin(), ids.end(), expected.begin(), expected.end(),
                         [&](std::int64_t id, const std::string& name) {
                           return merged.names[static_cast<std::size_t>(id)] == name;
                         }),
              "the ids are those of a plain loop");
  return 0;
}
