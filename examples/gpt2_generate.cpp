// SPDX-License-Identifier: MIT
//
// A whole GPT-2 that continues prompts: the library's embeddings, the blocks of gpt2_blocks.hpp, the tied head.

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "gpt2_blocks.hpp"

#if __has_include(<unistd.h>)
#include <unistd.h>
#endif

#ifndef GPT2_BUNDLED_CHECKPOINT
#define GPT2_BUNDLED_CHECKPOINT "tests/reference/checkpoints/gpt2-tiny"
#endif

namespace {

using blocks::Tokens;

constexpr const char* usage = R"(Usage: gpt2_generate [CHECKPOINT] --ids IDS [OPTION...]

Continues prompts with the likeliest tokens of a Hugging Face GPT-2 checkpoint, a folder with config.json and
model.safetensors (or its shards). Without CHECKPOINT, a bundled one with 26 words is used, and some questions
about who bites whom if --ids is missing, too.

IDS are comma-separated numbers; prompts, of any lengths, are separated by semicolons: 15496,995;464

  --ids IDS             the prompts
  --attention-mask IDS  a number for each token: 1, or 0 for padding, which is left out wherever it is
  --max-new-tokens N    stop after so many (20, or what the model has positions for); eos_token_id stops, too
  --time                print the time and the tokens per second
  --progress            show progress on stderr even if it is not a terminal
  --help                print this

If the checkpoint's folder has a vocabulary.txt, one word per line, the words are printed, too. Bad input ends the
program with status 2 and one line on stderr.
)";

/// "<|endoftext|> dog bites man . who bites man ?", and the like, in the bundled checkpoint's vocabulary.
constexpr const char* bundled_prompts =
    "25,0,10,1,23,22,10,1,24;25,1,10,0,23,22,10,0,24;25,2,12,3,23,22,20,13,24;25,4,14,5,23";

struct Options {
  std::optional<std::string> checkpoint;
  std::optional<std::vector<Tokens>> ids;
  std::optional<std::vector<Tokens>> attention_mask;
  std::optional<std::int64_t> max_new_tokens;
  bool time = false;
  bool progress = false;
};

std::int64_t parse_number(const std::string& option, std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc::result_out_of_range) {
    throw std::invalid_argument(option + ": " + std::string(text) + " does not fit 64 bits");
  }
  if (error != std::errc() || end != text.data() + text.size()) {
    throw std::invalid_argument(option + ": \"" + std::string(text) + "\" is not a whole number");
  }
  return number;
}

/// "1,2;3" as {{1, 2}, {3}}.
std::vector<Tokens> parse_ids(const std::string& option, std::string_view text) {
  std::vector<Tokens> sequences(1);
  for (;;) {
    const std::size_t end = std::min(text.find_first_of(",;"), text.size());
    sequences.back().push_back(parse_number(option, text.substr(0, end)));
    if (end == text.size()) return sequences;
    if (text[end] == ';') sequences.emplace_back();
    text.remove_prefix(end + 1);
  }
}

/// The options, or nothing if help was asked for.
std::optional<Options> parse_options(std::span<char*> arguments) {
  Options options;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string name = arguments[i];
    if (name == "--help") return std::nullopt;
    if (name == "--time") {
      options.time = true;
    } else if (name == "--progress") {
      options.progress = true;
    } else if (name.empty() || name.front() != '-') {
      if (options.checkpoint)
        throw std::invalid_argument("two checkpoints: " + *options.checkpoint + ", " + name);
      options.checkpoint = name;
    } else if (name != "--ids" && name != "--attention-mask" && name != "--max-new-tokens") {
      throw std::invalid_argument("unknown option " + name + " (see --help)");
    } else if (++i == arguments.size()) {
      throw std::invalid_argument(name + " needs a value");
    } else if (name == "--ids") {
      options.ids = parse_ids(name, arguments[i]);
    } else if (name == "--attention-mask") {
      options.attention_mask = parse_ids(name, arguments[i]);
    } else {
      options.max_new_tokens = parse_number(name, arguments[i]);
    }
  }
  if (!options.ids && (options.checkpoint || options.attention_mask)) {
    throw std::invalid_argument("--ids is missing (see --help)");
  }
  return options;
}

/// The prompts without their padding.
std::vector<Tokens> unpadded(const std::vector<Tokens>& ids, const std::vector<Tokens>& mask) {
  std::vector<Tokens> prompts(ids.size());
  if (mask.size() != ids.size())
    throw std::invalid_argument("--attention-mask must have a row for every prompt");
  for (std::size_t b = 0; b < ids.size(); ++b) {
    const std::string row = "--attention-mask: row " + std::to_string(b);
    if (mask[b].size() != ids[b].size()) {
      throw std::invalid_argument(row + " has " + std::to_string(mask[b].size()) + " numbers, the prompt " +
                                  std::to_string(ids[b].size()));
    }
    for (std::size_t i = 0; i < ids[b].size(); ++i) {
      if (mask[b][i] != 0 && mask[b][i] != 1) {
        throw std::invalid_argument(row + " has a " + std::to_string(mask[b][i]) +
                                    ", which is neither 0 nor 1");
      }
      if (mask[b][i] == 1) prompts[b].push_back(ids[b][i]);
    }
    if (prompts[b].empty()) throw std::invalid_argument(row + " leaves nothing of the prompt");
  }
  return prompts;
}

/// The words of the checkpoint's vocabulary.txt; empty if it has none that fits.
std::vector<std::string> read_vocabulary(const std::filesystem::path& folder, gpt2::Index vocab_size) {
  std::vector<std::string> words;
  std::ifstream file(folder / "vocabulary.txt");
  for (std::string word; std::getline(file, word);) words.push_back(word);
  if (words.size() != static_cast<std::size_t>(vocab_size)) words.clear();
  return words;
}

void print_tokens(const char* name, const Tokens& tokens, const std::vector<std::string>& vocabulary) {
  std::string ids;
  std::string words;
  for (const std::int64_t id : tokens) {
    if (!ids.empty()) ids += ',';
    ids += std::to_string(id);
    if (!vocabulary.empty()) words += ' ' + vocabulary[static_cast<std::size_t>(id)];
  }
  std::printf("  %-7s %s\n", name, ids.c_str());
  if (!words.empty()) std::printf("         %s\n", words.c_str());
}

bool stderr_is_a_terminal() {
#if __has_include(<unistd.h>)
  return isatty(STDERR_FILENO) != 0;
#else
  return false;
#endif
}

/// Generates, shows how far it is, and prints how long it took.
std::vector<Tokens> timed_generate(const blocks::Model<float>& model, const std::vector<Tokens>& prompts,
                                   gpt2::Index max_new_tokens, const Options& options) {
  using Clock = std::chrono::steady_clock;
  const bool progress = options.progress || stderr_is_a_terminal();
  const auto seconds = [](Clock::duration time) { return std::chrono::duration<double>(time).count(); };
  const Clock::time_point start = Clock::now();
  Clock::time_point first = start;
  gpt2::Index steps = 0;
  const auto on_step = [&](gpt2::Index step) {
    steps = step;
    if (step == 1) first = Clock::now();
    if (progress) {
      std::fprintf(stderr, "\r%td of %td tokens, %.1f s", step, max_new_tokens,
                   seconds(Clock::now() - start));
    }
  };
  std::vector<Tokens> generated = blocks::generate(model, prompts, max_new_tokens, on_step);
  const Clock::time_point end = Clock::now();
  if (progress && steps > 0) std::fputs("\n", stderr);

  if (options.time && steps > 0) {
    std::size_t prompt_tokens = 0;
    std::size_t new_tokens = 0;
    for (const Tokens& prompt : prompts) prompt_tokens += prompt.size();
    for (const Tokens& tokens : generated) new_tokens += tokens.size() - 1;  // the first came with the prompt
    const auto print = [](const char* name, std::size_t tokens, double time) {
      std::printf("%s: %zu tokens in %.3f s, %.1f tokens/s\n", name, tokens, time,
                  static_cast<double>(tokens) / time);
    };
    print("prompts, to the first new token", prompt_tokens, seconds(first - start));
    if (new_tokens > 0) print("further tokens", new_tokens, seconds(end - first));
  }
  return generated;
}

void run(const Options& options) {
  if (!options.checkpoint) std::printf("no checkpoint given: using the bundled gpt2-tiny\n");
  if (!options.ids) std::printf("no ids given: using %s\n", bundled_prompts);
  const std::filesystem::path folder = options.checkpoint.value_or(GPT2_BUNDLED_CHECKPOINT);
  std::vector<Tokens> prompts = options.ids ? *options.ids : parse_ids("", bundled_prompts);
  if (options.attention_mask) prompts = unpadded(prompts, *options.attention_mask);

  const blocks::Model<float> model(folder);
  const gpt2::GPT2Config& config = model.config();
  std::printf("config: vocab_size %td, n_positions %td, n_embd %td, n_layer %td, n_head %td\n",
              config.vocab_size, config.n_positions, config.n_embd, config.n_layer, config.n_head);
  std::size_t longest = 0;
  for (const Tokens& prompt : prompts) longest = std::max(longest, prompt.size());
  // The last new token needs no position: it is not embedded any more.
  const gpt2::Index room = config.n_positions + 1 - static_cast<gpt2::Index>(longest);
  const gpt2::Index max_new_tokens = options.max_new_tokens.value_or(std::clamp<gpt2::Index>(room, 1, 20));

  const std::vector<Tokens> generated = timed_generate(model, prompts, max_new_tokens, options);
  const std::vector<std::string> vocabulary = read_vocabulary(folder, config.vocab_size);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    std::printf("sequence %zu\n", i);
    print_tokens("prompt", prompts[i], vocabulary);
    print_tokens("new", generated[i], vocabulary);
  }
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
    if (std::fflush(stdout) != 0) throw std::runtime_error("cannot write to stdout");
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "gpt2_generate: %s\n", error.what());
    return 2;
  }
}
