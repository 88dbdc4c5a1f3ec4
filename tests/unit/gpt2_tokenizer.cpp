// SPDX-License-Identifier: MIT
//
// The tokenizer of the examples (examples/gpt2_tokenizer.hpp) against Hugging Face's tokenizers, and its errors for
// files that are not a vocabulary of GPT-2.

#include "../../examples/gpt2_tokenizer.hpp"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support.hpp"
#include "temporary_folder.hpp"

namespace gpt2_tokenizer_tests {

using nlohmann::json;
using text::Tokenizer;
using text::VocabularyError;
using Ids = Tokenizer::Ids;

namespace {

const std::filesystem::path files = std::filesystem::path(GPT2_REFERENCE_DIR) / "tokenizer";
const std::filesystem::path gpt2_tiny =
    std::filesystem::path(GPT2_REFERENCE_DIR) / "checkpoints" / "gpt2-tiny";

const json& goldens() {
  static const json parsed = json::parse(test::read_file(files / "goldens.json"));
  return parsed;
}

/// The text of a case; bytes that are not UTF-8 are kept in hexadecimal digits.
std::string text_of(const json& golden) {
  if (golden.contains("text")) return golden["text"].get<std::string>();
  const auto digits = golden["hex"].get<std::string>();
  std::string bytes;
  for (std::size_t i = 0; i < digits.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  }
  return bytes;
}

/// The vocabulary of the goldens as a tokenizer.json.
json tokenizer_json(bool merges_are_pairs = false) {
  json merges = json::array();
  const std::string text = test::read_file(files / "merges.txt");
  for (const std::string_view line : text::detail::lines_of(text)) {
    if (line.starts_with("#")) continue;
    const std::size_t blank = line.find(' ');
    if (merges_are_pairs) {
      merges.push_back({line.substr(0, blank), line.substr(blank + 1)});
    } else {
      merges.push_back(line);
    }
  }
  return {{"version", "1.0"},
          {"added_tokens", {{{"id", 50256}, {"content", "<|endoftext|>"}, {"special", true}}}},
          {"normalizer", nullptr},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
          {"post_processor", {{"type", "ByteLevel"}}},
          {"model",
           {{"type", "BPE"},
            {"vocab", json::parse(test::read_file(files / "vocab.json"))},
            {"merges", std::move(merges)}}}};
}

Tokenizer goldens_tokenizer() { return Tokenizer::from_pretrained(files); }

void check_goldens(const Tokenizer& tokenizer) {
  for (const json& golden : goldens()["cases"]) {
    const std::string text = text_of(golden);
    INFO(golden.dump());
    const auto expected = golden["ids"].get<Ids>();
    if (text::have_pcre2) CHECK(tokenizer.encode(text) == expected);
    CHECK(tokenizer.decode(expected) == text);
  }
}

/// A vocab.json of all bytes, with the ids of their order, and further tokens.
json byte_vocabulary(const std::vector<std::string>& further = {}) {
  json vocabulary = json::object();
  for (const std::uint16_t character : text::detail::byte_alphabet()) {
    vocabulary[text::detail::to_utf8(character)] = vocabulary.size();
  }
  for (const std::string& name : further) vocabulary[name] = vocabulary.size();
  return vocabulary;
}

std::string message_of(const std::function<void()>& action) {
  return test::error_of<VocabularyError>(action).what();
}

std::string random_bytes(std::mt19937& random, std::size_t size, std::string_view characters = "") {
  std::string bytes;
  for (std::size_t i = 0; i < size; ++i) {
    bytes +=
        characters.empty() ? static_cast<char>(random() & 255U) : characters[random() % characters.size()];
  }
  return bytes;
}

}  // namespace

TEST_CASE("ids are those of Hugging Face's tokenizers with the vocabulary of GPT-2", "[gpt2_tokenizer]") {
  REQUIRE(goldens()["cases"].size() > 250);
  check_goldens(goldens_tokenizer());
#ifdef GPT2_EMBEDDINGS_VOCABULARY
  check_goldens(Tokenizer::from_pretrained(GPT2_EMBEDDINGS_VOCABULARY, 50257));
#endif
}

TEST_CASE("added tokens are matched first, as tokenizers match them", "[gpt2_tokenizer]") {
  for (const json& group : goldens()["added"]) {
    json changed = tokenizer_json();
    changed["added_tokens"] = group["added_tokens"];
    changed["pre_tokenizer"]["add_prefix_space"] = group["add_prefix_space"];
    const Tokenizer tokenizer = Tokenizer::from_tokenizer_json(changed.dump());
    for (const json& golden : group["cases"]) {
      INFO(group["added_tokens"].dump() << golden.dump());
      const auto expected = golden["ids"].get<Ids>();
      if (text::have_pcre2) CHECK(tokenizer.encode(text_of(golden)) == expected);
      CHECK_NOTHROW(tokenizer.decode(expected));
    }
  }
}

TEST_CASE("an added token's bytes are its content, whatever alphabet the vocabulary has",
          "[gpt2_tokenizer]") {
  json changed = tokenizer_json();
  changed["added_tokens"] = {{{"id", 60000}, {"content", "\xC4\xA0qj"}},
                             {{"id", 60001}, {"content", "|\xE2\x96\x81|"}}};
  changed["model"]["vocab"]["|\xE2\x96\x81|"] = 60001;
  const Tokenizer tokenizer = Tokenizer::from_tokenizer_json(changed.dump());
  CHECK(tokenizer.token(60000) == "\xC4\xA0qj");
  CHECK(tokenizer.token(60001) == "|\xE2\x96\x81|");
  CHECK(tokenizer.encode("\xC4\xA0qj|\xE2\x96\x81|") == Ids{60000, 60001});
  CHECK(tokenizer.end_id() == 60002);
}

TEST_CASE("a vocabulary is the same in files of every kind", "[gpt2_tokenizer]") {
  const std::string vocabulary = test::read_file(files / "vocab.json");
  const std::string merges = test::read_file(files / "merges.txt");
  std::string windows;
  for (const char c : merges) windows += c == '\n' ? std::string("\r\n") : std::string(1, c);
  const std::vector<std::vector<std::pair<const char*, std::string>>> kinds{
      {{"vocab.json", vocabulary}, {"merges.txt", merges}},
      {{"vocab.json", vocabulary}, {"merges.txt", windows}},
      {{"encoder.json", vocabulary}, {"vocab.bpe", merges}},
      {{"tokenizer.json", tokenizer_json(false).dump()}},
      {{"tokenizer.json", tokenizer_json(true).dump()}},
      {{"tokenizer.json", tokenizer_json(true).dump()}, {"vocab.json", "not read"}}};
  for (const auto& kind : kinds) {
    const test::TemporaryFolder folder;
    for (const auto& [name, content] : kind) test::write_file(folder / name, content);
    INFO(kind.front().first);
    const Tokenizer tokenizer = Tokenizer::from_pretrained(folder.path(), 50257);
    check_goldens(tokenizer);
    CHECK(tokenizer.end_id() == 50257);
    CHECK_FALSE(tokenizer.has_whole_words());
    CHECK(tokenizer.encode("<|endoftext|>") == Ids{50256});
  }
}

TEST_CASE("added_tokens.json adds to vocab.json", "[gpt2_tokenizer]") {
  const test::TemporaryFolder folder;
  test::write_file(folder / "vocab.json", byte_vocabulary({"<|endoftext|>"}).dump());
  test::write_file(folder / "merges.txt", "#version: 0.2\n");
  CHECK(Tokenizer::from_pretrained(folder.path()).encode("<|endoftext|>") == Ids{256});
  test::write_file(folder / "added_tokens.json", R"({"<pad>": 300, "<|endoftext|>": 256, "<p": 301})");
  const Tokenizer tokenizer = Tokenizer::from_pretrained(folder.path());
  CHECK(tokenizer.encode("<pad><p<|endoftext|><pad>") ==
        Ids{300, 301, 256, 300});  // the longest that matches
  CHECK(tokenizer.decode(Ids{300, 256, 65}) == "<pad><|endoftext|>A");
}

TEST_CASE("any bytes come back", "[gpt2_tokenizer]") {
  if (!text::have_pcre2) return;
  const Tokenizer tokenizer = goldens_tokenizer();
  std::mt19937 random(1);
  for (std::size_t size = 0; size < 300; ++size) {
    const std::string bytes = random_bytes(random, size);
    CHECK(tokenizer.decode(tokenizer.encode(bytes)) == bytes);
    const std::string likely = random_bytes(random, size, "ab \n\t'st\xE2\x82\xAC\xC3\xA9<|\x80");
    CHECK(tokenizer.decode(tokenizer.encode(likely)) == likely);
  }
}

TEST_CASE("words are the text, and bytes that are not UTF-8 are symbols of them", "[gpt2_tokenizer]") {
  if (!text::have_pcre2) return;
  const auto words = [](std::string_view text) {
    std::vector<std::string> found;
    text::for_each_word(text, [&](std::string_view word) { found.emplace_back(word); });
    return found;
  };
  using Words = std::vector<std::string>;
  CHECK(words("").empty());
  CHECK(words("it's 12 dogs!!  bite") == Words{"it", "'s", " 12", " dogs", "!!", " ", " bite"});
  CHECK(words("a\xFF\xC3 \xE2\x82 b") == Words{"a", "\xFF\xC3", " \xE2\x82", " b"});
  CHECK(words("  \xFF") == Words{" ", " \xFF"});
  CHECK(words("a\xCC\x81") == Words{"a", "\xCC\x81"});            // a combining mark is no letter
  CHECK(words("x \xE1\xA0\x8E") == Words{"x", " \xE1\xA0\x8E"});  // U+180E is no blank
  CHECK(words(std::string_view("a\0b", 3)) == Words{"a", std::string(1, '\0'), "b"});
}

TEST_CASE("merging does what the pair of the lowest rank, again and again, does", "[gpt2_tokenizer]") {
  if (!text::have_pcre2) return;
  // Merges in an order that no training finds: longer tokens may come first.
  const std::vector<std::pair<std::string, std::string>> merges{{"ab", "a"},  {"a", "b"},   {"b", "a"},
                                                                {"aa", "ba"}, {"ba", "ba"}, {"a", "a"},
                                                                {"aba", "b"}, {"c", "c"},   {"cc", "c"}};
  std::vector<std::string> tokens;
  std::string lines;
  for (const auto& [left, right] : merges) {
    tokens.push_back(left + right);
    lines += left + " " + right + "\n";
  }
  const Tokenizer tokenizer = Tokenizer::from_vocabulary_and_merges(byte_vocabulary(tokens).dump(), lines);
  std::mt19937 random(1);
  for (std::size_t size = 1; size < 200; ++size) {
    const std::string word = random_bytes(random, size, size % 2 == 0 ? "ab" : "abc");
    std::vector<std::string> parts;
    for (const char c : word) parts.emplace_back(1, c);
    for (bool merged = true; merged;) {
      merged = false;
      for (const auto& [left, right] : merges) {
        for (std::size_t i = 0; i + 1 < parts.size() && !merged; ++i) {
          if (parts[i] != left || parts[i + 1] != right) continue;
          parts[i] += parts[i + 1];
          parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(i) + 1);
          merged = true;
        }
        if (merged) break;
      }
    }
    std::vector<std::string> found;
    for (const std::int64_t id : tokenizer.encode(word)) found.push_back(tokenizer.token(id));
    CHECK(found == parts);
  }
}

TEST_CASE("a megabyte without a blank, or of blanks, is encoded in seconds", "[gpt2_tokenizer]") {
  if (!text::have_pcre2) return;
  // One word of a million bytes, all of which become a token: with a pass for each merge this takes hours.
  std::vector<std::string> tokens;
  std::string merges;
  for (std::string half = "a"; half.size() <= (1U << 19U); half += half) {
    tokens.push_back(half + half);
    merges += half + " " + half + "\n";
  }
  const Tokenizer doubling = Tokenizer::from_vocabulary_and_merges(byte_vocabulary(tokens).dump(), merges);
  CHECK(doubling.encode(std::string(1U << 20U, 'a')) == Ids{256 + 19});

  const Tokenizer tokenizer = goldens_tokenizer();
  std::mt19937 random(1);
  for (const std::string& text :
       {std::string(1U << 20U, ' ') + "x", random_bytes(random, 1U << 20U, "thequickbrown"),
        std::string(1U << 20U, '\n'), std::string(1U << 20U, '\xFF'), std::string(1U << 20U, '<')}) {
    CHECK(tokenizer.decode(tokenizer.encode(text)) == text);
  }
}

TEST_CASE("a vocabulary of whole words needs blanks only where letters meet", "[gpt2_tokenizer]") {
  const Tokenizer tokenizer = Tokenizer::from_pretrained(gpt2_tiny, 26);
  CHECK(tokenizer.has_whole_words());
  CHECK(tokenizer.end_id() == 26);
  CHECK(tokenizer.encode("dog bites man") == Ids{0, 10, 1});
  CHECK(tokenizer.encode(" <|endoftext|> dog\tbites\r\nman. who  bites man?\n") ==
        Ids{25, 0, 10, 1, 23, 22, 10, 1, 24});
  CHECK(tokenizer.encode("man?..") == Ids{1, 24, 23, 23});
  CHECK(tokenizer.encode(" \n").empty());
  CHECK(tokenizer.decode(Ids{25, 0, 10, 1, 23}) == "<|endoftext|> dog bites man .");
  CHECK(tokenizer.decode(Ids{}).empty());
  CHECK(tokenizer.decode(10, true) == "bites");
  CHECK(tokenizer.decode(10, false) == " bites");
  for (const std::string word : {"dogs", "Dog", "dog,", "dog.man", "?dog", "\xFF"}) {
    const auto error =
        test::error_of<text::EncodeError>([&] { static_cast<void>(tokenizer.encode("man " + word)); });
    CHECK(test::contains(error.what(), text::printable(word) + " is none of the 26 words in "));
  }
}

TEST_CASE("an id that is not in the vocabulary is named", "[gpt2_tokenizer]") {
  const Tokenizer tokenizer = goldens_tokenizer();
  const auto message = [&](std::int64_t id) {
    const auto error = test::error_of<text::TokenError>([&] {
      static_cast<void>(tokenizer.decode(Ids{0, id}));
    });
    CHECK(error.id() == id);
    return std::string(error.what());
  };
  CHECK(test::contains(message(50257), "id 50257 is outside [0, 50257)"));
  CHECK(test::contains(message(-1), "id -1 is outside [0, 50257)"));
  CHECK(test::contains(message(std::numeric_limits<std::int64_t>::max()), "is outside [0, 50257)"));
  CHECK(test::contains(message(50255), "id 50255 is not in "));  // the goldens have no use for it
}

TEST_CASE("without PCRE2 a text is not encoded, and the message says what to install", "[gpt2_tokenizer]") {
  const Tokenizer tokenizer = goldens_tokenizer();
  if (text::have_pcre2) {
    CHECK_NOTHROW(tokenizer.encode("dog"));
  } else {
    const auto error = test::error_of<text::EncodeError>([&] { static_cast<void>(tokenizer.encode("dog")); });
    CHECK(test::contains(error.what(), "libpcre2-dev"));
  }
}

TEST_CASE("a folder without a vocabulary, or with half of one, is named", "[gpt2_tokenizer]") {
  const test::TemporaryFolder folder;
  const auto message = [&] {
    return message_of([&] { static_cast<void>(Tokenizer::from_pretrained(folder.path())); });
  };
  CHECK(test::contains(message(), folder.path().string() + ": has no vocabulary: neither tokenizer.json"));
  test::write_file(folder / "vocab.bpe", "");
  CHECK(message() == (folder / "encoder.json").string() + ": is missing beside vocab.bpe");
  test::write_file(folder / "vocab.json", "{}");
  CHECK(message() == (folder / "merges.txt").string() + ": is missing beside vocab.json");
  std::filesystem::create_directory(folder / "tokenizer.json");
  CHECK(message() == (folder / "tokenizer.json").string() + ": is a folder");
  CHECK(test::contains(message_of([] { static_cast<void>(Tokenizer::from_pretrained(gpt2_tiny, 25)); }),
                       "vocabulary.txt: has ids up to 25, beyond the model's vocab_size, 25"));
}

TEST_CASE("files that are damaged or do not belong together are refused", "[gpt2_tokenizer]") {
  const auto vocabulary = [](const json& tokens, const std::string& merges = "",
                             const std::string& added = "") {
    return message_of(
        [&] { static_cast<void>(Tokenizer::from_vocabulary_and_merges(tokens.dump(), merges, added)); });
  };
  const json good = byte_vocabulary({"ab", "<|endoftext|>"});
  CHECK_NOTHROW(Tokenizer::from_vocabulary_and_merges(good.dump(), "#version: 0.2\na b"));
  const auto with = [&](const char* name, json id) {
    json changed = good;
    changed[name] = std::move(id);
    return changed;
  };
  CHECK(vocabulary(json::array()) == "vocab.json: has no object of tokens and their ids");
  CHECK(vocabulary(json::object()) ==
        "vocab.json: has no token \"\xC4\x80\", which is byte 0: the vocabulary is not one of GPT-2");
  CHECK(vocabulary(with("x", "y")) == "vocab.json: \"x\" has an id that is not a whole number");
  CHECK(vocabulary(with("x", 1.5)) == "vocab.json: \"x\" has an id that is not a whole number");
  CHECK(vocabulary(with("x", -1)) ==
        "vocab.json: \"x\" has the id -1, which is outside [0, 9223372036854775806]");
  CHECK(vocabulary(with("x", std::numeric_limits<std::uint64_t>::max())) ==
        "vocab.json: \"x\" has the id 18446744073709551615, which is outside [0, 9223372036854775806]");
  CHECK(test::contains(vocabulary(with("new", 65)), "vocab.json: has the id 65 twice, for "));

  CHECK(vocabulary(good, "a b\n\na b\n") ==
        "merges.txt: line 2: \"\" is not two tokens with a blank between them");
  CHECK(vocabulary(good, "#version: 0.2\na  b") ==
        "merges.txt: line 2: \"a  b\" is not two tokens with a blank between them");
  CHECK(
      vocabulary(good, "a b\nb a") ==
      "merges.txt: line 2: \"ba\", of \"b\" and \"a\", is not in vocab.json: the two do not belong together");
  CHECK(vocabulary(good, "xx a") ==
        "merges.txt: line 1: \"xx\" is not in vocab.json: the two do not belong together");
  CHECK(vocabulary(good, "a b\na b") == "merges.txt: line 2: \"a\" and \"b\" are merged twice");

  CHECK(vocabulary(good, "", "[]") == "added_tokens.json: is not an object of tokens and their ids");
  CHECK(vocabulary(good, "", R"({"": 300})") == "added_tokens.json: has an added token without content");
  CHECK(vocabulary(good, "", R"({"ab": 300})") ==
        "added_tokens.json: has the added token \"ab\" with the id 300, and in the vocabulary it has 256");
  CHECK(vocabulary(good, "", R"({"<x>": 256})") ==
        "added_tokens.json: has the id 256 twice, for \"ab\" and for \"<x>\"");
  CHECK(
      vocabulary(with("\xC4\xA0x", 300), "", "{\"\xC4\xA0x\": 300}") ==
      "added_tokens.json: has the added token \"\xC4\xA0x\", which in the vocabulary is the name of \" x\"");

  const auto words = [](std::string_view lines) {
    return message_of([&] { static_cast<void>(Tokenizer::from_words(lines)); });
  };
  CHECK(words("") == "vocabulary.txt: has no words");
  CHECK(words("dog\n\nman\n") == "vocabulary.txt: line 2: is empty");
  CHECK(words("dog\nbites man\n") == "vocabulary.txt: line 2: \"bites man\" is more than one word");
  CHECK(words("dog\nman\ndog") == "vocabulary.txt: line 3: \"dog\" is also in line 1");
}

TEST_CASE("JSON that RFC 8259 does not allow is refused", "[gpt2_tokenizer]") {
  const auto message = [](std::string_view text) {
    return message_of([&] { static_cast<void>(Tokenizer::from_tokenizer_json(text)); });
  };
  CHECK(test::contains(message(""), "tokenizer.json: is not JSON: parse error at line 1"));
  CHECK(test::contains(message("{\n  \"model\": tru}\n"),
                       "tokenizer.json: is not JSON: parse error at line 2"));
  CHECK(test::contains(message("{} {}"), "is not JSON"));
  CHECK(test::contains(message("{\"a\": \"\xFF\"}"), "is not JSON"));
  CHECK(test::contains(message(R"({"a": 1e999})"), "is not JSON"));
  CHECK(test::contains(message("\xEF\xBB\xBF{}"), "is not JSON: it begins with a byte order mark"));
  CHECK(test::contains(message(std::string_view("{}\0", 3)), "is not JSON: it has a NUL byte"));
  CHECK(test::contains(message(R"({"a": {"b": 1, "c": {"b": 2}, "b": 3}})"),
                       "has the key \"b\" twice in one object"));
  CHECK(test::contains(message(std::string(100000, '[')), "nests deeper than 100 levels"));
  CHECK(message("{\"a\": " + std::string(100000, 'x') + "}").size() < 300);
  CHECK(message("[]") == "tokenizer.json: has no model");
  CHECK(message("{}") == "tokenizer.json: has no model");
}

TEST_CASE("a tokenizer.json that would do something else is refused", "[gpt2_tokenizer]") {
  const json good = tokenizer_json();
  CHECK_NOTHROW(Tokenizer::from_tokenizer_json(good.dump()));
  const auto message = [&](const std::function<void(json&)>& change) {
    json changed = good;
    change(changed);
    return message_of([&] { static_cast<void>(Tokenizer::from_tokenizer_json(changed.dump())); });
  };
  const auto pointed = [&](const char* pointer, json value) {
    return message([&](json& changed) { changed[json::json_pointer(pointer)] = std::move(value); });
  };
  const std::string other = ": the tokenizer is not one of GPT-2";
  CHECK(pointed("/model/type", "Unigram") == "tokenizer.json: model.type is not \"BPE\"" + other);
  CHECK(pointed("/model/dropout", 0.1) == "tokenizer.json: model.dropout is set" + other);
  CHECK(pointed("/model/end_of_word_suffix", "</w>") ==
        "tokenizer.json: model.end_of_word_suffix is set" + other);
  CHECK(pointed("/model/continuing_subword_prefix", "##") ==
        "tokenizer.json: model.continuing_subword_prefix is set" + other);
  CHECK(pointed("/model/byte_fallback", true) == "tokenizer.json: model.byte_fallback is true" + other);
  CHECK(pointed("/model/ignore_merges", true) == "tokenizer.json: model.ignore_merges is true" + other);
  CHECK(pointed("/model/ignore_merges", 1) ==
        "tokenizer.json: model.ignore_merges is neither true nor false");
  CHECK(pointed("/model/merges", "x") == "tokenizer.json: has no array of merges");
  CHECK(pointed("/model/vocab", nullptr) == "tokenizer.json: has no object of tokens and their ids");
  CHECK(pointed("/normalizer", {{"type", "NFC"}}) == "tokenizer.json: normalizer is \"NFC\"" + other);
  CHECK(pointed("/normalizer", 1) == "tokenizer.json: normalizer is neither null nor an object with a type");
  const std::string pattern =
      "tokenizer.json: pre_tokenizer is not \"ByteLevel\" with its own pattern" + other;
  CHECK(pointed("/pre_tokenizer", nullptr) == pattern);
  CHECK(pointed("/pre_tokenizer/type", "Whitespace") == pattern);
  CHECK(pointed("/pre_tokenizer/use_regex", false) == pattern);
  CHECK(test::contains(pointed("/post_processor", {{"type", "RobertaProcessing"}}),
                       "post_processor is \"RobertaProcessing\", which may put tokens around a text"));
  for (const auto& [merge, problem] : std::vector<std::pair<json, std::string>>{
           {1, "is neither a pair of tokens nor two tokens with a blank between them"},
           {"a b c", "is neither a pair of tokens nor two tokens with a blank between them"},
           {{"a"}, "is neither a pair of tokens nor two tokens with a blank between them"},
           {{"a", 1}, "is neither a pair of tokens nor two tokens with a blank between them"},
           {{"qq", "z"}, "\"qq\" is not in model.vocab: the two do not belong together"}}) {
    CHECK(pointed("/model/merges/7", merge) == "tokenizer.json: model.merges[7]: " + problem);
  }
  CHECK(pointed("/added_tokens", 1) == "tokenizer.json: added_tokens is not an array");
  CHECK(pointed("/added_tokens/0", 1) == "tokenizer.json: added_tokens[0] is not an object with a content");
  CHECK(pointed("/added_tokens/0/id", nullptr) ==
        "tokenizer.json: added_tokens[0] has an id that is not a whole number");
  CHECK(pointed("/added_tokens/0/single_word", true) ==
        "tokenizer.json: added_tokens[0].single_word is true, which this program cannot do");
  CHECK(message([](json& changed) { changed["added_tokens"].push_back(changed["added_tokens"][0]); }) ==
        "tokenizer.json: added_tokens[1]: \"<|endoftext|>\" is added twice");

  // A template that puts nothing around a text changes no ids.
  json harmless = good;
  harmless["post_processor"] = {{"type", "TemplateProcessing"}, {"single", {{{"Sequence", {{"id", "A"}}}}}}};
  CHECK_NOTHROW(Tokenizer::from_tokenizer_json(harmless.dump()));
  harmless["post_processor"]["single"].push_back({{"SpecialToken", {{"id", "<s>"}}}});
  CHECK_THROWS_AS(Tokenizer::from_tokenizer_json(harmless.dump()), VocabularyError);
}

TEST_CASE("a stream of bytes is written in whole characters", "[gpt2_tokenizer]") {
  const std::string replacement = "\xEF\xBF\xBD";
  text::Utf8Stream stream;
  CHECK(stream.put("a\xE2") == "a");
  CHECK(stream.put("\x82").empty());
  CHECK(stream.put("\xAC!\xF0\x9F") == "\xE2\x82\xAC!");
  CHECK(stream.put("x") == replacement + "x");
  CHECK(stream.put("\xFF\x80") == replacement + replacement);
  CHECK(stream.put("\xED\xA0\x80") == replacement + replacement + replacement);  // half of a pair of UTF-16
  CHECK(stream.put("\xF0\x9F\x98").empty());
  CHECK(stream.finish() == replacement);
  CHECK(stream.finish().empty());

  // In pieces of any size, what comes out is the same.
  std::mt19937 random(1);
  for (std::size_t size = 0; size < 200; ++size) {
    const std::string bytes = random_bytes(random, size, "a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xFF");
    text::Utf8Stream whole;
    text::Utf8Stream pieces;
    const std::string first = whole.put(bytes);
    const std::string expected = first + whole.finish();
    std::string found;
    for (const char byte : bytes) found += pieces.put({&byte, 1});
    CHECK(found + pieces.finish() == expected);
  }
}

TEST_CASE("printable() quotes, escapes and cuts off", "[gpt2_tokenizer]") {
  CHECK(text::printable(" d\xC3\xB6g") == "\" d\xC3\xB6g\"");
  CHECK(text::printable("\"\\\n\t\r\x7F\xFF\xC2\x85") == R"("\"\\\n\t\x0D\x7F\xFF\xC2\x85")");
  CHECK(text::printable("abcd", 3) == "\"abc\"...");
  CHECK(text::printable("abc", 3) == "\"abc\"");
  CHECK(text::count_characters(text::printable("d\xC3\xB6g")) == 5);
}

}  // namespace gpt2_tokenizer_tests
