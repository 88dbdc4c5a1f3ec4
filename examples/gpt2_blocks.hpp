// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// The transformer blocks of GPT-2, between the library's embeddings and its output head: a whole model that
/// reads Hugging Face checkpoints and decodes with a key-value cache. Example code, to read and to copy; it is
/// not part of the library.
///
///     const blocks::Model<float> model("path/to/gpt2");
///     const auto tokens = blocks::generate(model, {{15496, 995}, {464}}, 20);

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <gpt2/checkpoint.hpp>
#include <gpt2/config.hpp>
#include <gpt2/embedding.hpp>
#include <gpt2/embeddings.hpp>
#include <gpt2/error.hpp>
#include <gpt2/lm_head.hpp>
#include <gpt2/position_ids.hpp>
#include <gpt2/pretrained.hpp>
#include <gpt2/types.hpp>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace blocks {

using gpt2::Index;
using gpt2::Matrix;
using IdBatch = gpt2::IdMatrix<std::int64_t>;
using Tokens = std::vector<std::int64_t>;

/// Tensors of a checkpoint by the names that they have in GPT2Model, mapped or converted to T.
class Parameters {
 public:
  explicit Parameters(gpt2::Checkpoint checkpoint)
      : checkpoint_(std::move(checkpoint)), prefix_(checkpoint_.prefix()) {}

  /// Throws: gpt2::CheckpointError, as the other.
  template <class T>
  [[nodiscard]] gpt2::Embedding<T> matrix(const std::string& name, Index rows, Index cols) const {
    return checkpoint_.table<T>(prefix_ + name, rows, cols);
  }
  /// A single row.
  template <class T>
  [[nodiscard]] gpt2::Embedding<T> vector(const std::string& name, Index size) const {
    return checkpoint_.vector<T>(prefix_ + name, size);
  }

  /// The output head's name. It stands beside the transformer.
  [[nodiscard]] std::string head_name() const {
    const std::string inner = "transformer.";
    return (prefix_.ends_with(inner) ? prefix_.substr(0, prefix_.size() - inner.size()) : prefix_) +
           "lm_head.weight";
  }
  [[nodiscard]] const gpt2::Checkpoint& checkpoint() const { return checkpoint_; }

 private:
  gpt2::Checkpoint checkpoint_;
  std::string prefix_;
};

/// x * weight + bias. GPT-2 stores its weights as [in, out], the other way round than torch.nn.Linear.
template <class T>
struct Linear {
  gpt2::Embedding<T> weight;
  gpt2::Embedding<T> bias;

  Linear(const Parameters& parameters, const std::string& name, Index in, Index out)
      : weight(parameters.matrix<T>(name + ".weight", in, out)),
        bias(parameters.vector<T>(name + ".bias", out)) {}

  void operator()(const Matrix<T>& in, Matrix<T>& out) const {
    out = bias.weight().replicate(in.rows(), 1);
    if (in.rows() > 8) {
      out.noalias() += in * weight.weight();
      return;
    }
    // While tokens come one by one, the time is that of reading the weights: once, and in the order in which
    // they lie in memory. That takes about half as long as the product above, which is made for many rows.
    constexpr Index rows_at_once = 8;
    for (Index k = 0; k < in.cols(); k += rows_at_once) {
      const Index n = std::min(rows_at_once, in.cols() - k);
      const auto rows = weight.weight().middleRows(k, n);
      for (Index i = 0; i < in.rows(); ++i) out.row(i).noalias() += in.row(i).segment(k, n) * rows;
    }
  }
};

/// Rows with mean 0 and variance 1, then scaled and shifted by column.
template <class T>
struct LayerNorm {
  gpt2::Embedding<T> weight;
  gpt2::Embedding<T> bias;
  T epsilon;

  LayerNorm(const Parameters& parameters, const std::string& name, const gpt2::GPT2Config& config)
      : weight(parameters.vector<T>(name + ".weight", config.n_embd)),
        bias(parameters.vector<T>(name + ".bias", config.n_embd)),
        epsilon(static_cast<T>(config.layer_norm_epsilon)) {}

  void operator()(const Matrix<T>& in, Matrix<T>& out) const {
    out.resize(in.rows(), in.cols());
    for (Index i = 0; i < in.rows(); ++i) {
      auto row = out.row(i).array();
      row = in.row(i).array() - in.row(i).mean();
      row *= 1 / std::sqrt(row.square().mean() + epsilon);
      row = row * weight.weight().array() + bias.weight().array();
    }
  }
};

template <class T>
using Activation = void (*)(Matrix<T>&);

/// The activation functions that transformers lists for GPT-2.
/// Throws: gpt2::ConfigError for any other.
template <class T>
Activation<T> activation(const std::string& name) {
  if (name == "gelu_new") {
    return [](Matrix<T>& x) {
      const T factor = std::sqrt(T(8) / std::acos(T(-1))) / 2;  // sqrt(2 / pi)
      x.array() *= T(0.5) * (1 + (factor * (x.array() + T(0.044715) * x.array().cube())).tanh());
    };
  }
  if (name == "gelu") {
    return [](Matrix<T>& x) {
      x = x.unaryExpr([](T value) { return value / 2 * (1 + std::erf(value / std::sqrt(T(2)))); });
    };
  }
  if (name == "relu") return [](Matrix<T>& x) { x = x.cwiseMax(T(0)); };
  if (name == "silu") return [](Matrix<T>& x) { x.array() *= x.array().logistic(); };
  if (name == "tanh") return [](Matrix<T>& x) { x = x.array().tanh(); };
  throw gpt2::ConfigError("activation_function", "\"" + name + "\"",
                          "is none of gelu_new, gelu, relu, silu and tanh");
}

/// The keys and values of the tokens so far, for a batch of sequences that grow together.
template <class T>
struct Cache {
  std::vector<Matrix<T>> keys;    // for each layer, [batch * capacity, n_embd]
  std::vector<Matrix<T>> values;  // the same
  IdBatch mask;                   // [batch, capacity]: 1 for tokens, 0 for padding
  Index length = 0;               // the used part of the capacity

  Cache(const gpt2::GPT2Config& config, Index batch, Index capacity)
      : keys(static_cast<std::size_t>(config.n_layer), Matrix<T>(batch * capacity, config.n_embd)),
        values(keys),
        mask(batch, capacity) {}
};

/// Turns scores into weights that sum to 1; all are 0 if every score is -infinity.
template <class Row>
void softmax(Row&& scores) {
  using T = typename std::remove_reference_t<Row>::Scalar;
  const T highest = scores.maxCoeff();
  if (highest == -std::numeric_limits<T>::infinity()) {
    scores.setZero();
    return;
  }
  scores.array() = (scores.array() - highest).exp();
  scores /= scores.sum();
}

/// A transformer block: attention, then a feed-forward network, each added to its input.
template <class T>
struct Block {
  LayerNorm<T> ln_1;
  Linear<T> c_attn;
  Linear<T> c_proj;
  LayerNorm<T> ln_2;
  Linear<T> mlp_c_fc;
  Linear<T> mlp_c_proj;
  Activation<T> act;
  Index head_size;
  T scale;

  Block(const Parameters& parameters, const gpt2::GPT2Config& config, Index layer)
      : Block(parameters, config, layer, "h." + std::to_string(layer) + ".",
              config.n_inner.value_or(4 * config.n_embd)) {}

  /// Runs the block on the tokens after those in the cache, and adds their keys and values to it.
  /// Shape: hidden [batch * seq_length, n_embd]; padding_bias [batch, past_length + seq_length], 0 for keys that
  /// can be seen and -infinity for padding.
  void operator()(Matrix<T>& hidden, const Matrix<T>& padding_bias, Matrix<T>& keys,
                  Matrix<T>& values) const {
    Matrix<T> normed;
    Matrix<T> inner;
    Matrix<T> change;
    ln_1(hidden, normed);
    c_attn(normed, inner);
    attend(inner, padding_bias, keys, values, normed);
    c_proj(normed, change);
    hidden += change;
    ln_2(hidden, normed);
    mlp_c_fc(normed, inner);
    act(inner);
    mlp_c_proj(inner, change);
    hidden += change;
  }

 private:
  Block(const Parameters& parameters, const gpt2::GPT2Config& config, Index layer, const std::string& name,
        Index n_inner)
      : ln_1(parameters, name + "ln_1", config),
        c_attn(parameters, name + "attn.c_attn", config.n_embd, 3 * config.n_embd),
        c_proj(parameters, name + "attn.c_proj", config.n_embd, config.n_embd),
        ln_2(parameters, name + "ln_2", config),
        mlp_c_fc(parameters, name + "mlp.c_fc", config.n_embd, n_inner),
        mlp_c_proj(parameters, name + "mlp.c_proj", n_inner, config.n_embd),
        act(activation<T>(config.activation_function)),
        head_size(config.n_embd / config.n_head),
        scale(1) {
    if (config.scale_attn_weights) scale /= std::sqrt(static_cast<T>(head_size));
    if (config.scale_attn_by_inverse_layer_idx) scale /= static_cast<T>(layer + 1);
  }

  /// Causal attention. Shape: qkv [batch * seq_length, 3 * n_embd], out [batch * seq_length, n_embd].
  void attend(const Matrix<T>& qkv, const Matrix<T>& padding_bias, Matrix<T>& keys, Matrix<T>& values,
              Matrix<T>& out) const {
    if (qkv.rows() == 0) return;
    const Index batch = padding_bias.rows();
    const Index n_embd = out.cols();
    const Index seq_length = qkv.rows() / batch;
    const Index length = padding_bias.cols();
    const Index past_length = length - seq_length;
    const Index capacity = keys.rows() / batch;
    Matrix<T> scores;
    for (Index b = 0; b < batch; ++b) {
      const auto now = qkv.middleRows(b * seq_length, seq_length);
      keys.middleRows(b * capacity + past_length, seq_length) = now.middleCols(n_embd, n_embd);
      values.middleRows(b * capacity + past_length, seq_length) = now.rightCols(n_embd);
      for (Index head = 0; head < n_embd; head += head_size) {
        scores.noalias() = scale * now.middleCols(head, head_size) *
                           keys.block(b * capacity, head, length, head_size).transpose();
        scores.rowwise() += padding_bias.row(b);
        for (Index i = 0; i < seq_length; ++i) {
          softmax(scores.row(i).head(past_length + i + 1));
          scores.row(i).tail(seq_length - i - 1).setZero();
        }
        out.block(b * seq_length, head, seq_length, head_size).noalias() =
            scores * values.block(b * capacity, head, length, head_size);
      }
    }
  }
};

/// GPT-2 with its language model head.
template <class T>
class Model {
 public:
  /// Loads a checkpoint, by a path as gpt2::Checkpoint::open takes it. Tensors that are not used, such as attention
  /// masks, do not matter.
  /// Throws: gpt2::CheckpointError, gpt2::ConfigError.
  explicit Model(const std::filesystem::path& path) : Model(gpt2::Checkpoint::open(path)) {}
  explicit Model(const gpt2::Checkpoint& checkpoint) : Model(checkpoint, checkpoint.config()) {}

  /// The same with another config than the checkpoint's, for those settings that change no shape.
  Model(const std::filesystem::path& path, const gpt2::GPT2Config& config)
      : Model(gpt2::Checkpoint::open(path), config) {}
  Model(const gpt2::Checkpoint& checkpoint, const gpt2::GPT2Config& config)
      : Model(config, gpt2::from_pretrained<gpt2::GPT2Embeddings<T>>(checkpoint), Parameters(checkpoint)) {}

  [[nodiscard]] const gpt2::GPT2Config& config() const { return config_; }
  [[nodiscard]] const gpt2::GPT2Embeddings<T>& embeddings() const { return embeddings_; }
  /// The output head: wte, unless the config says that they are not tied.
  [[nodiscard]] const gpt2::Embedding<T>& head() const { return head_; }
  /// Whether the checkpoint has another output head than wte, which is not used, as the config says that they are
  /// tied.
  [[nodiscard]] bool has_unused_head() const { return has_unused_head_; }

  /// Runs the tokens after those in the cache, and adds them to it. Padding may be anywhere: at places where
  /// attention_mask is 0, the result has no meaning, and no token sees it.
  /// Shape: input_ids and attention_mask [batch, seq_length]; result [batch * seq_length, n_embd], for head().
  /// Throws: gpt2::IndexError, gpt2::ShapeError, gpt2::ArgumentError, with the cache as long as it was.
  [[nodiscard]] Matrix<T> forward(const IdBatch& input_ids, const IdBatch& attention_mask,
                                  Cache<T>& cache) const {
    const Index seq_length = input_ids.cols();
    const Index length = cache.length + seq_length;
    if (input_ids.rows() != cache.mask.rows() || length > cache.mask.cols()) {
      throw gpt2::ShapeError(
          "", "input_ids", "as many rows as the cache, and no more columns than it has left",
          "[" + std::to_string(input_ids.rows()) + ", " + std::to_string(seq_length) + "]");
    }
    if (attention_mask.rows() != input_ids.rows() || attention_mask.cols() != seq_length) {
      throw gpt2::ShapeError("", "attention_mask", "that of input_ids", "another");
    }
    cache.mask.middleCols(cache.length, seq_length) = attention_mask;
    const auto mask = cache.mask.leftCols(length);
    // Tokens are counted from the beginning of their sequence, wherever it has padding.
    const IdBatch positions = gpt2::position_ids_from_attention_mask(mask).rightCols(seq_length);
    Matrix<T> hidden(input_ids.size(), config_.n_embd);
    embeddings_.forward_into(input_ids, positions, hidden);

    const Matrix<T> padding_bias = mask.template cast<T>().array().log();  // log(1) = 0, log(0) = -infinity
    for (std::size_t layer = 0; layer < blocks_.size(); ++layer) {
      blocks_[layer](hidden, padding_bias, cache.keys[layer], cache.values[layer]);
    }
    cache.length = length;
    Matrix<T> normed;
    ln_f_(hidden, normed);
    return normed;
  }

 private:
  Model(const gpt2::GPT2Config& config, gpt2::GPT2Embeddings<T> embeddings, const Parameters& parameters)
      : config_(checked(config)),
        embeddings_(std::move(embeddings)),
        head_(load_head(parameters)),
        ln_f_(parameters, "ln_f", config) {
    blocks_.reserve(static_cast<std::size_t>(config.n_layer));
    for (Index layer = 0; layer < config.n_layer; ++layer) blocks_.emplace_back(parameters, config, layer);
  }

  static const gpt2::GPT2Config& checked(const gpt2::GPT2Config& config) {
    config.validate();
    if (config.n_embd % config.n_head != 0) {
      throw gpt2::ConfigError("n_head", std::to_string(config.n_head),
                              "does not divide n_embd, " + std::to_string(config.n_embd));
    }
    return config;
  }

  gpt2::Embedding<T> load_head(const Parameters& parameters) {
    const std::string name = parameters.head_name();
    const auto load = [&] {
      return parameters.checkpoint().template table<T>(name, config_.vocab_size, config_.n_embd);
    };
    if (!config_.tie_word_embeddings) return load();
    if (parameters.checkpoint().contains(name)) {
      try {
        const gpt2::Embedding<T> head = load();
        has_unused_head_ = head.weight() != embeddings_.wte.weight();
      } catch (const gpt2::CheckpointError&) {  // of another type or shape: no head of this model
        has_unused_head_ = true;
      }
    }
    return embeddings_.wte;
  }

  gpt2::GPT2Config config_;
  gpt2::GPT2Embeddings<T> embeddings_;
  bool has_unused_head_ = false;
  gpt2::Embedding<T> head_;
  LayerNorm<T> ln_f_;
  std::vector<Block<T>> blocks_;
};

/// Continues each prompt with the likeliest token, again and again, until max_new_tokens are there or the
/// config's eos_token_id, which is the last token then. Calls on_step(i, tokens) when every prompt that has not ended
/// has i new tokens.
/// Throws: gpt2::ArgumentError for an empty prompt or a negative number; gpt2::IndexError for a token outside the
/// vocabulary, or if a prompt with its new tokens is longer than n_positions.
template <class T, class OnStep>
std::vector<Tokens> generate(const Model<T>& model, const std::vector<Tokens>& prompts, Index max_new_tokens,
                             OnStep&& on_step) {
  const gpt2::GPT2Config& config = model.config();
  if (max_new_tokens < 0) throw gpt2::ArgumentError("max_new_tokens", max_new_tokens, "is negative");
  const auto batch = static_cast<Index>(prompts.size());
  Index longest = 0;
  for (Index b = 0; b < batch; ++b) {
    const Tokens& prompt = prompts[static_cast<std::size_t>(b)];
    const auto size = static_cast<Index>(prompt.size());
    const std::string name = "prompts[" + std::to_string(b) + "]";
    if (size == 0) throw gpt2::ArgumentError(name + ".size()", size, "must not be 0");
    for (Index i = 0; i < size; ++i) {
      const std::int64_t id = prompt[static_cast<std::size_t>(i)];
      if (id < 0 || id >= config.vocab_size)
        throw gpt2::IndexError("wte", "prompts", {b, i}, id, config.vocab_size);
    }
    // The last new token is not embedded any more.
    if (std::max(max_new_tokens, Index{1}) > config.n_positions + 1 - size) {
      const auto end = static_cast<std::uint64_t>(size) + static_cast<std::uint64_t>(max_new_tokens);
      throw gpt2::IndexError("wpe", "position_ids", {}, end - (max_new_tokens == 0 ? 1 : 2),
                             config.n_positions,
                             ": " + name + " has " + std::to_string(size) + " tokens, to be followed by " +
                                 std::to_string(max_new_tokens));
    }
    longest = std::max(longest, size);
  }

  std::vector<Tokens> generated(prompts.size());
  if (batch == 0 || max_new_tokens == 0) return generated;

  IdBatch input_ids =
      IdBatch::Zero(batch, longest);  // padded on the left, so that all prompts end in the last column
  IdBatch mask = IdBatch::Zero(batch, longest);
  for (Index b = 0; b < batch; ++b) {
    const Tokens& prompt = prompts[static_cast<std::size_t>(b)];
    const auto size = static_cast<Index>(prompt.size());
    input_ids.row(b).tail(size) = Eigen::Map<const gpt2::IdVector<std::int64_t>>(prompt.data(), size);
    mask.row(b).tail(size).setOnes();
  }

  Cache<T> cache(config, batch, longest + max_new_tokens - 1);
  for (Index step = 1;; ++step) {
    const Matrix<T> hidden = model.forward(input_ids, mask, cache);
    Matrix<T> last(batch, config.n_embd);
    for (Index b = 0; b < batch; ++b) last.row(b) = hidden.row((b + 1) * input_ids.cols() - 1);
    const IdBatch next = gpt2::top_k(model.head(), last, 1).ids;

    if (step == 1) mask.setOnes(batch, 1);
    for (Index b = 0; b < batch; ++b) {
      if (mask(b, 0) == 0) continue;  // has ended: the rest is padding
      generated[static_cast<std::size_t>(b)].push_back(next(b, 0));
      if (next(b, 0) == config.eos_token_id) mask(b, 0) = 0;
    }
    on_step(step, std::as_const(generated));
    if (step == max_new_tokens || mask.isZero()) return generated;
    input_ids = next;
  }
}

template <class T>
std::vector<Tokens> generate(const Model<T>& model, const std::vector<Tokens>& prompts,
                             Index max_new_tokens) {
  return generate(model, prompts, max_new_tokens,
                  [](Index /*step*/, const std::vector<Tokens>& /*generated*/) {});
}

}  // namespace blocks
