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
#include <functional>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "gpt2_blocks.hpp"
#include "gpt2_tokenizer.hpp"

#if __has_include(<unistd.h>)
#include <unistd.h>
#endif

#ifndef GPT2_BUNDLED_CHECKPOINT
#define GPT2_BUNDLED_CHECKPOINT "tests/reference/checkpoints/gpt2-tiny"
#endif

namespace {

using blocks::Tokens;

constexpr const char* usage = R"(Usage: gpt2_generate [CHECKPOINT] --prompt TEXT | --ids IDS [OPTION...]

Continues prompts with the likeliest tokens of a Hugging Face GPT-2 checkpoint, a folder with config.json and
model.safetensors (or its shards). Without CHECKPOINT, a bundled one with 26 words is used, and some questions
about who bites whom if there is no prompt.

For --prompt the folder must have a vocabulary as well: tokenizer.json, or vocab.json and merges.txt, or encoder.json
and vocab.bpe, or a vocabulary.txt of whole words. The text goes on as it is generated; of several prompts, that of
the first, and then the others follow. IDS are comma-separated numbers; prompts, of any lengths, are separated by semicolons: 15496,995;464

  --prompt TEXT         a prompt; several times, a batch
  --ids IDS             the prompts as token ids, which are printed as well
  --attention-mask IDS  a number for each token: 1, or 0 for padding, which is left out wherever it is
  --max-new-tokens N    stop after so many (20, or what the model has positions for); eos_token_id stops, too
  --time                print the time and the tokens per second
  --progress            show progress on stderr even if it is not a terminal
  --help                print this

Bad input ends the program with status 2 and one line on stderr.
)";

/// "<|endoftext|> dog bites man . who bites man ?", and the like, in the bundled checkpoint's vocabulary.
constexpr const char* bundled_prompts =
    "25,0,10,1,23,22,10,1,24;25,1,10,0,23,22,10,0,24;25,2,12,3,23,22,20,13,24;25,4,14,5,23";

struct Options {
  std::optional<std::string> checkpoint;
  std::vector<std::string> prompts;
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

/// The options, or nothing if help was requested.
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
    } else if (name != "--prompt" && name != "--ids" && name != "--attention-mask" &&
               name != "--max-new-tokens") {
      throw std::invalid_argument("unknown option " + name + " (see --help)");
    } else if (++i == arguments.size()) {
      throw std::invalid_argument(name + " needs a value");
    } else if (name == "--prompt") {
      options.prompts.emplace_back(arguments[i]);
    } else if (name == "--ids") {
      options.ids = parse_ids(name, arguments[i]);
    } else if (name == "--attention-mask") {
      options.attention_mask = parse_ids(name, arguments[i]);
    } else {
      options.max_new_tokens = parse_number(name, arguments[i]);
    }
  }
  if (options.ids && !options.prompts.empty()) throw std::invalid_argument("give one of --prompt and --ids");
  if (options.attention_mask && !options.ids) throw std::invalid_argument("--ids is missing (see --help)");
  if (options.checkpoint && !options.ids && options.prompts.empty()) {
    throw std::invalid_argument("--prompt or --ids is missing (see --help)");
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

/// The checkpoint's vocabulary, which ids are printed without if it has none that fits.
std::optional<text::Tokenizer> read_vocabulary(const std::filesystem::path& folder, gpt2::Index vocab_size) {
  try {
    return text::Tokenizer::from_pretrained(folder, vocab_size);
  } catch (const text::VocabularyError&) {
    return std::nullopt;
  }
}

void print_tokens(const char* name, const Tokens& tokens, const std::optional<text::Tokenizer>& tokenizer) {
  std::string ids;
  for (const std::int64_t id : tokens) {
    if (!ids.empty()) ids += ',';
    ids += std::to_string(id);
  }
  std::printf("  %-7s %s\n", name, ids.c_str());
  if (!tokenizer || tokens.empty()) return;
  try {
    const std::string words = tokenizer->decode(tokens);
    std::printf("          %s\n",
                tokenizer->has_whole_words() ? words.c_str() : text::printable(words, words.size()).c_str());
  } catch (const text::TokenError&) {
    // A row that pads the table is no token: the ids say all there is to say.
  }
}

bool stderr_is_a_terminal() {
#if __has_include(<unistd.h>)
  return isatty(STDERR_FILENO) != 0;
#else
  return false;
#endif
}

using OnTokens = std::function<void(const std::vector<Tokens>& generated)>;

/// Generates, shows how far it is, and prints how long it took. Calls on_tokens after each step, and with nothing at
/// the end.
std::vector<Tokens> timed_generate(const blocks::Model<float>& model, const std::vector<Tokens>& prompts,
                                   gpt2::Index max_new_tokens, const Options& options,
                                   const OnTokens& on_tokens) {
  using Clock = std::chrono::steady_clock;
  const bool progress = options.progress || (options.prompts.empty() && stderr_is_a_terminal());
  const auto seconds = [](Clock::duration time) { return std::chrono::duration<double>(time).count(); };
  const Clock::time_point start = Clock::now();
  Clock::time_point first = start;
  gpt2::Index steps = 0;
  const auto on_step = [&](gpt2::Index step, const std::vector<Tokens>& tokens) {
    steps = step;
    if (step == 1) first = Clock::now();
    if (progress) {
      std::fprintf(stderr, "\r%td of %td tokens, %.1f s", step, max_new_tokens,
                   seconds(Clock::now() - start));
    }
    on_tokens(tokens);
  };
  std::vector<Tokens> generated = blocks::generate(model, prompts, max_new_tokens, on_step);
  const Clock::time_point end = Clock::now();
  on_tokens({});
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

/// The number of tokens to generate: the one requested, or at most 20 that the model has positions for.
gpt2::Index new_tokens_of(const Options& options, const std::vector<Tokens>& prompts,
                          const gpt2::GPT2Config& config) {
  std::size_t longest = 0;
  for (const Tokens& prompt : prompts) longest = std::max(longest, prompt.size());
  // The last new token needs no position: it is not embedded any more.
  const gpt2::Index room = config.n_positions + 1 - static_cast<gpt2::Index>(longest);
  return options.max_new_tokens.value_or(std::clamp<gpt2::Index>(room, 1, 20));
}

/// Writes a prompt and the text generated after it, in whole characters. The token that ends a text is not written.
class TextWriter {
 public:
  TextWriter(const text::Tokenizer& tokenizer, std::optional<std::int64_t> eos_token_id)
      : tokenizer_(tokenizer), eos_token_id_(eos_token_id) {}

  void begin(const std::string& prompt) { write(stream_.put(prompt)); }

  /// Writes those of the tokens that have come since the last call.
  void go_on(const Tokens& tokens) {
    for (; written_ < tokens.size(); ++written_) {
      const bool is_end = tokens[written_] == eos_token_id_;
      if (!is_end) write(stream_.put(tokenizer_.decode(tokens[written_], false)));
    }
  }

  void end() { write(stream_.finish() + '\n'); }

 private:
  static void write(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  }

  const text::Tokenizer& tokenizer_;
  std::optional<std::int64_t> eos_token_id_;
  text::Utf8Stream stream_;
  std::size_t written_ = 0;
};

void note_unused_head(const blocks::Model<float>& model) {
  if (!model.has_unused_head()) return;
  std::printf(
      "note: lm_head.weight is not wte, but config.json ties them: wte is the output head, as in "
      "transformers\n");
}

void continue_texts(const Options& options, const std::filesystem::path& folder) {
  // The vocabulary before the weights, so that faults of a text are reported at once.
  const auto config = gpt2::from_pretrained<gpt2::GPT2Config>(folder);
  const auto tokenizer = text::Tokenizer::from_pretrained(folder, config.vocab_size);
  std::vector<Tokens> prompts;
  for (const std::string& prompt : options.prompts) {
    prompts.push_back(tokenizer.encode(prompt));
    if (prompts.back().empty()) throw std::invalid_argument("--prompt: the text is empty");
  }
  const blocks::Model<float> model(folder);
  note_unused_head(model);

  const bool batch = prompts.size() > 1;
  TextWriter first(tokenizer, config.eos_token_id);
  bool has_begun = false;
  const auto on_tokens = [&](const std::vector<Tokens>& generated) {
    if (!has_begun) {
      if (batch) std::printf("sequence 0\n");
      first.begin(options.prompts.front());
      has_begun = true;
    }
    if (generated.empty()) {
      first.end();
    } else {
      first.go_on(generated.front());
    }
  };
  const std::vector<Tokens> generated =
      timed_generate(model, prompts, new_tokens_of(options, prompts, config), options, on_tokens);
  for (std::size_t i = 1; i < prompts.size(); ++i) {
    std::printf("sequence %zu\n", i);
    TextWriter writer(tokenizer, config.eos_token_id);
    writer.begin(options.prompts[i]);
    writer.go_on(generated[i]);
    writer.end();
  }
}

void continue_ids(const Options& options, const std::filesystem::path& folder) {
  if (!options.ids) std::printf("no ids given: using %s\n", bundled_prompts);
  std::vector<Tokens> prompts = options.ids ? *options.ids : parse_ids("", bundled_prompts);
  if (options.attention_mask) prompts = unpadded(prompts, *options.attention_mask);

  const blocks::Model<float> model(folder);
  const gpt2::GPT2Config& config = model.config();
  std::printf("config: vocab_size %td, n_positions %td, n_embd %td, n_layer %td, n_head %td\n",
              config.vocab_size, config.n_positions, config.n_embd, config.n_layer, config.n_head);
  if (model.has_unused_head()) {
    std::printf(
        "note: lm_head.weight is not wte, but config.json ties them: wte is the output head, as in "
        "transformers\n");
  }
  const std::vector<Tokens> generated =
      timed_generate(model, prompts, new_tokens_of(options, prompts, config), options,
                     [](const std::vector<Tokens>& /*generated*/) {});
  const std::optional<text::Tokenizer> tokenizer = read_vocabulary(folder, config.vocab_size);
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    std::printf("sequence %zu\n", i);
    print_tokens("prompt", prompts[i], tokenizer);
    print_tokens("new", generated[i], tokenizer);
  }
}

void run(const Options& options) {
  if (!options.checkpoint) std::printf("no checkpoint given: using the bundled gpt2-tiny\n");
  const std::filesystem::path folder = options.checkpoint.value_or(GPT2_BUNDLED_CHECKPOINT);
  if (options.prompts.empty()) {
    continue_ids(options, folder);
  } else {
    continue_texts(options, folder);
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
