// SPDX-License-Identifier: MIT
//
// Text to token ids and back, with the vocabulary of a checkpoint.

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <gpt2/config_json.hpp>
#include <gpt2/pretrained.hpp>
#include <iterator>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include "gpt2_tokenizer.hpp"

#ifndef GPT2_BUNDLED_CHECKPOINT
#define GPT2_BUNDLED_CHECKPOINT "tests/reference/checkpoints/gpt2-tiny"
#endif

namespace {

constexpr const char* usage = R"(Usage: tokenize [CHECKPOINT] --text TEXT | --file FILE | --decode IDS

Prints the token ids of a text, separated by commas, or the text of token ids. CHECKPOINT is a folder with the
vocabulary of a GPT-2: tokenizer.json, or vocab.json and merges.txt, or encoder.json and vocab.bpe, or a
vocabulary.txt of whole words. Weights are not needed. Without CHECKPOINT, a bundled one with 26 words is used, and
"dog bites man" if there is nothing to encode or decode.

  --text TEXT   encode this
  --file FILE   encode the bytes of a file as they are
  --decode IDS  print the bytes that comma-separated ids stand for, and a newline
  --help        print this

Bad input ends the program with status 2 and one line on stderr.
)";

struct Options {
  std::optional<std::string> checkpoint;
  std::optional<std::string> text;
  std::optional<std::string> file;
  std::optional<std::string> ids;
};

/// The options, or nothing if help was requested.
std::optional<Options> parse_options(std::span<char*> arguments) {
  Options options;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string name = arguments[i];
    if (name == "--help") return std::nullopt;
    if (name.empty() || name.front() != '-') {
      if (options.checkpoint)
        throw std::invalid_argument("two checkpoints: " + *options.checkpoint + ", " + name);
      options.checkpoint = name;
      continue;
    }
    if (name != "--text" && name != "--file" && name != "--decode") {
      throw std::invalid_argument("unknown option " + name + " (see --help)");
    }
    if (++i == arguments.size()) throw std::invalid_argument(name + " needs a value");
    (name == "--text" ? options.text : name == "--file" ? options.file : options.ids) = arguments[i];
  }
  const int tasks = options.text.has_value() + options.file.has_value() + options.ids.has_value();
  if (tasks > 1) throw std::invalid_argument("give one of --text, --file and --decode");
  if (tasks == 0 && options.checkpoint) {
    throw std::invalid_argument("--text, --file or --decode is missing (see --help)");
  }
  return options;
}

text::Tokenizer::Ids parse_ids(std::string_view text) {
  text::Tokenizer::Ids ids;
  if (text.empty()) return ids;
  for (;;) {
    const std::size_t end = std::min(text.find(','), text.size());
    std::string_view number = text.substr(0, end);
    while (number.starts_with(' ')) number.remove_prefix(1);
    while (number.ends_with(' ')) number.remove_suffix(1);
    std::int64_t id = 0;
    const auto [last, error] = std::from_chars(number.data(), number.data() + number.size(), id);
    if (error == std::errc::result_out_of_range) {
      throw std::invalid_argument("--decode: " + std::string(number) + " does not fit 64 bits");
    }
    if (error != std::errc() || last != number.data() + number.size()) {
      throw std::invalid_argument("--decode: " + text::printable(number) + " is not a whole number");
    }
    ids.push_back(id);
    if (end == text.size()) return ids;
    text.remove_prefix(end + 1);
  }
}

std::string read_file(const std::string& path) {
  std::error_code ignored;
  std::ifstream file(path, std::ios::binary);
  if (!file || std::filesystem::is_directory(path, ignored)) {
    throw std::runtime_error("--file: " + path + " cannot be read");
  }
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string to_text(const text::Tokenizer::Ids& ids) {
  std::string text;
  for (const std::int64_t id : ids) {
    if (!text.empty()) text += ',';
    text += std::to_string(id);
  }
  return text;
}

void run(const Options& options) {
  const std::filesystem::path folder = options.checkpoint.value_or(GPT2_BUNDLED_CHECKPOINT);
  const auto config = gpt2::from_pretrained<gpt2::GPT2Config>(folder);
  const auto tokenizer = text::Tokenizer::from_pretrained(folder, config.vocab_size);
  std::string result;
  if (options.ids) {
    result = tokenizer.decode(parse_ids(*options.ids));
  } else if (options.file) {
    result = to_text(tokenizer.encode(read_file(*options.file)));
  } else {
    result = to_text(tokenizer.encode(options.text.value_or("dog bites man")));
  }
  if (!options.checkpoint) std::printf("no checkpoint given: using the bundled gpt2-tiny\n");
  if (!options.ids && !options.file && !options.text) std::printf("no text given: using \"dog bites man\"\n");
  std::fwrite(result.data(), 1, result.size(), stdout);
  std::fputc('\n', stdout);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::optional<Options> options = parse_options(std::span(argv + 1, argv + argc));
    if (options) {
      run(*options);
    } else {
      std::fputs(usage, stdout);
    }
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
      throw std::runtime_error("cannot write to stdout");
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tokenize: %s\n", error.what());
    return 2;
  }
}
