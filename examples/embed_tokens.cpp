// SPDX-License-Identifier: MIT
//
// Embeds a text or token ids with a checkpoint's wte and wpe: the input of GPT-2's first block.

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <gpt2/gpt2.hpp>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "gpt2_tokenizer.hpp"

#ifndef GPT2_BUNDLED_CHECKPOINT
#define GPT2_BUNDLED_CHECKPOINT "tests/reference/checkpoints/gpt2-tiny"
#endif

namespace {

using Ids = gpt2::IdMatrix<std::int64_t>;

constexpr const char* usage = R"(Usage: embed_tokens [CHECKPOINT] --text TEXT | --ids IDS [OPTION...]

Embeds a text or token ids with the wte and wpe of a Hugging Face GPT-2 checkpoint, a folder with config.json and
model.safetensors (or its shards), and prints what enters the model's first block. Without CHECKPOINT, a
bundled one with 26 words is used, and "dog bites man" if neither text nor ids are given.

For --text the folder must have a vocabulary as well: tokenizer.json, or vocab.json and merges.txt, or encoder.json
and vocab.bpe, or a vocabulary.txt of whole words. IDS are comma-separated numbers; sequences of a batch are
separated by semicolons: 15496,995;40,716

  --text TEXT           a sequence; several times, a batch, in which shorter ones are padded on the right
  --ids IDS             the tokens
  --position-ids IDS    their positions: one sequence for the whole batch, or one each
  --attention-mask IDS  1 for tokens, 0 for padding: tokens are placed at 0, 1, ... wherever the padding is
  --past-length N       positions N, N+1, ...: the tokens that a key-value cache holds (0)
  --out FILE            write the hidden states to a safetensors file, as "hidden"
  --help                print this

Of --position-ids, --attention-mask and --past-length, one may be given. Bad input ends the program with
status 2 and one line on stderr.
)";

struct Options {
  std::optional<std::string> checkpoint;
  std::vector<std::string> texts;
  std::optional<Ids> ids;
  std::optional<Ids> position_ids;
  std::optional<Ids> attention_mask;
  std::optional<std::int64_t> past_length;
  std::optional<std::string> out;
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

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (;;) {
    const std::size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

/// "1,2;3,4" as the matrix [[1, 2], [3, 4]].
Ids parse_ids(const std::string& option, std::string_view text) {
  const std::vector<std::string_view> sequences = split(text, ';');
  const auto seq_length = static_cast<gpt2::Index>(split(sequences.front(), ',').size());
  Ids ids(static_cast<gpt2::Index>(sequences.size()), seq_length);
  for (gpt2::Index i = 0; i < ids.rows(); ++i) {
    const std::vector<std::string_view> numbers = split(sequences[static_cast<std::size_t>(i)], ',');
    if (static_cast<gpt2::Index>(numbers.size()) != seq_length) {
      throw std::invalid_argument(option + ": sequence " + std::to_string(i) + " has " +
                                  std::to_string(numbers.size()) + " numbers, sequence 0 has " +
                                  std::to_string(seq_length) + " (pad them, and give an --attention-mask)");
    }
    for (gpt2::Index j = 0; j < seq_length; ++j) {
      ids(i, j) = parse_number(option, numbers[static_cast<std::size_t>(j)]);
    }
  }
  return ids;
}

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
    const bool known = name == "--text" || name == "--ids" || name == "--position-ids" ||
                       name == "--attention-mask" || name == "--past-length" || name == "--out";
    if (!known) throw std::invalid_argument("unknown option " + name + " (see --help)");
    if (++i == arguments.size()) throw std::invalid_argument(name + " needs a value");
    const std::string value = arguments[i];
    if (name == "--text") options.texts.push_back(value);
    if (name == "--ids") options.ids = parse_ids(name, value);
    if (name == "--position-ids") options.position_ids = parse_ids(name, value);
    if (name == "--attention-mask") options.attention_mask = parse_ids(name, value);
    if (name == "--past-length") options.past_length = parse_number(name, value);
    if (name == "--out") options.out = value;
  }
  if (options.position_ids.has_value() + options.attention_mask.has_value() +
          options.past_length.has_value() >
      1) {
    throw std::invalid_argument("give one of --position-ids, --attention-mask and --past-length");
  }
  if (options.ids && !options.texts.empty()) throw std::invalid_argument("give one of --text and --ids");
  if (!options.ids && options.texts.empty() && options.checkpoint) {
    throw std::invalid_argument("--text or --ids is missing (see --help)");
  }
  return options;
}

/// Sets the ids to those of the texts, and the attention mask if they have different lengths.
void encode_texts(const text::Tokenizer& tokenizer, Options& options) {
  std::vector<text::Tokenizer::Ids> sequences;
  std::size_t longest = 0;
  std::size_t shortest = std::string::npos;
  for (const std::string& text : options.texts) {
    sequences.push_back(tokenizer.encode(text));
    longest = std::max(longest, sequences.back().size());
    shortest = std::min(shortest, sequences.back().size());
  }
  const auto rows = static_cast<gpt2::Index>(sequences.size());
  const auto cols = static_cast<gpt2::Index>(longest);
  Ids ids = Ids::Zero(rows, cols);
  Ids mask = Ids::Zero(rows, cols);
  for (gpt2::Index b = 0; b < rows; ++b) {
    const text::Tokenizer::Ids& sequence = sequences[static_cast<std::size_t>(b)];
    const auto size = static_cast<gpt2::Index>(sequence.size());
    ids.row(b).head(size) = Eigen::Map<const gpt2::IdVector<std::int64_t>>(sequence.data(), size);
    mask.row(b).head(size).setOnes();
  }
  options.ids = ids;
  if (shortest == longest) return;
  if (options.position_ids || options.attention_mask || options.past_length) {
    throw std::invalid_argument("texts of different lengths are padded, which leaves no room for " +
                                std::string(options.position_ids     ? "--position-ids"
                                            : options.attention_mask ? "--attention-mask"
                                                                     : "--past-length"));
  }
  options.attention_mask = mask;
}

/// The position of every token, as the options say.
Ids positions_of(const Options& options, const Ids& ids) {
  if (options.attention_mask) {
    const Ids& mask = *options.attention_mask;
    if (mask.rows() != ids.rows() || mask.cols() != ids.cols()) {
      throw std::invalid_argument("--attention-mask must have a number for every id");
    }
    return gpt2::position_ids_from_attention_mask(mask);
  }
  if (options.position_ids) return *options.position_ids;
  return gpt2::position_ids_like(ids, options.past_length.value_or(0));
}

/// The tokens of ids as they are printed, padded to one width.
std::vector<std::string> shown_tokens(const text::Tokenizer& tokenizer, const Ids& ids) {
  constexpr std::size_t longest = 16;
  std::vector<std::string> tokens;
  std::size_t width = std::string_view("token").size();
  for (const std::int64_t id : std::span(ids.data(), static_cast<std::size_t>(ids.size()))) {
    tokens.push_back(text::printable(tokenizer.token(id), longest));
    width = std::max(width, text::count_characters(tokens.back()));
  }
  tokens.emplace_back("token");
  for (std::string& token : tokens) token.append(width - text::count_characters(token), ' ');
  return tokens;
}

void print_tokens(const Ids& ids, const Ids& positions, const Options& options,
                  const gpt2::Tensor3<float>& hidden, const std::optional<text::Tokenizer>& tokenizer) {
  constexpr gpt2::Index shown = 5;
  const gpt2::Matrix<float> rows = gpt2::as_matrix(hidden);
  std::vector<std::string> tokens;
  if (tokenizer) tokens = shown_tokens(*tokenizer, ids);
  const auto token = [&](gpt2::Index i) {
    return tokens.empty() ? std::string() : "  " + tokens[static_cast<std::size_t>(i)];
  };
  for (gpt2::Index b = 0; b < ids.rows(); ++b) {
    if (ids.rows() > 1) std::printf("sequence %td\n", b);
    std::printf("position      id%s      norm  first values\n", token(ids.size()).c_str());
    for (gpt2::Index s = 0; s < ids.cols(); ++s) {
      const gpt2::Index i = b * ids.cols() + s;
      const auto row = rows.row(i);
      std::printf("%8lld %7lld%s %9.4f ", static_cast<long long>(positions(positions.rows() > 1 ? b : 0, s)),
                  static_cast<long long>(ids(b, s)), token(i).c_str(), static_cast<double>(row.norm()));
      for (gpt2::Index j = 0; j < std::min(shown, row.size()); ++j) {
        std::printf(" %9.5f", static_cast<double>(row[j]));
      }
      const bool masked = options.attention_mask && (*options.attention_mask)(b, s) == 0;
      std::printf("%s%s\n", row.size() > shown ? " ..." : "", masked ? "  (padding)" : "");
    }
  }
}

void save(const std::string& path, const gpt2::Tensor3<float>& hidden, bool batch) {
  std::vector<std::uint64_t> shape;
  for (std::size_t i = batch ? 0 : 1; i < 3; ++i)
    shape.push_back(static_cast<std::uint64_t>(hidden.dimension(i)));
  const auto bytes = std::as_bytes(std::span(hidden.data(), static_cast<std::size_t>(hidden.size())));
  const std::vector<gpt2::NamedTensor> tensors{{"hidden", {gpt2::DType::F32, shape, bytes}}};
  gpt2::save_safetensors(path, tensors);
  std::printf("written to %s\n", path.c_str());
}

void run(Options options) {
  if (!options.checkpoint) std::printf("no checkpoint given: using the bundled gpt2-tiny\n");
  const std::string folder = options.checkpoint.value_or(GPT2_BUNDLED_CHECKPOINT);
  const auto config = gpt2::from_pretrained<gpt2::GPT2Config>(folder);
  const auto embeddings = gpt2::from_pretrained<gpt2::GPT2Embeddings<float>>(folder);
  if (!options.ids && options.texts.empty()) {
    std::printf("no text given: using \"dog bites man\"\n");
    options.texts = {"dog bites man"};
  }
  std::optional<text::Tokenizer> tokenizer;
  if (!options.texts.empty()) {
    tokenizer = text::Tokenizer::from_pretrained(folder, config.vocab_size);
    encode_texts(*tokenizer, options);
  }
  const Ids& ids = *options.ids;
  const bool batch = ids.rows() > 1;

  std::printf("config: vocab_size %td, n_positions %td, n_embd %td, n_layer %td, n_head %td\n",
              config.vocab_size, config.n_positions, config.n_embd, config.n_layer, config.n_head);
  const Ids positions = positions_of(options, ids);
  const gpt2::Tensor3<float> hidden = embeddings(ids, positions);
  const std::string batch_text = batch ? std::to_string(ids.rows()) + ", " : "";
  std::printf("hidden: [%s%td, %td] float32\n", batch_text.c_str(), ids.cols(), config.n_embd);
  print_tokens(ids, positions, options, hidden, tokenizer);
  if (options.out) save(*options.out, hidden, batch);
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
    std::fprintf(stderr, "embed_tokens: %s\n", error.what());
    return 2;
  }
}
