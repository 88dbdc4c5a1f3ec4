// SPDX-License-Identifier: MIT
#pragma once

/// \file
/// GPT2Config: the sizes and settings of a GPT-2 model, under their Hugging Face names.
/// Reading and writing JSON is in config_json.hpp.

#include <Eigen/Core>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

#include "gpt2/error.hpp"

namespace gpt2::inline GPT2_EMBEDDINGS_ABI {

/// The settings of a GPT-2 model. A default-constructed one is GPT-2 base (124 million parameters).
///
/// The embedding layers use vocab_size, n_positions, n_embd and initializer_range; the other fields are kept, so
/// that a config that is loaded and saved still describes the whole model.
///
/// Source: transformers.GPT2Config (5.23), field by field.
struct GPT2Config {
  Eigen::Index vocab_size = 50257;  ///< rows of wte
  Eigen::Index n_positions = 1024;  ///< rows of wpe, the longest sequence
  Eigen::Index n_embd = 768;        ///< columns of wte and wpe
  Eigen::Index n_layer = 12;        ///< transformer blocks
  Eigen::Index n_head = 12;         ///< attention heads of a block
  std::optional<Eigen::Index> n_inner =
      std::nullopt;                              ///< width of the feed-forward layers; empty: 4 * n_embd
  std::string activation_function = "gelu_new";  ///< of the feed-forward layers
  double resid_pdrop = 0.1;                      ///< dropout probability of the residual branches
  double embd_pdrop = 0.1;                       ///< dropout probability after the embeddings
  double attn_pdrop = 0.1;                       ///< dropout probability of the attention weights
  double layer_norm_epsilon = 1e-5;              ///< added to the variance
  double initializer_range = 0.02;               ///< standard deviation of fresh weights
  std::string summary_type = "cls_index";        ///< which hidden state the double-heads model summarises
  bool summary_use_proj = true;                  ///< whether the summary is projected
  std::optional<std::string> summary_activation = std::nullopt;  ///< after the projection; empty: none
  bool summary_proj_to_labels = true;                       ///< whether the projection has num_labels outputs
  double summary_first_dropout = 0.1;                       ///< dropout probability before the projection
  bool scale_attn_weights = true;                           ///< divide attention scores by sqrt(head size)
  bool use_cache = true;                                    ///< return keys and values for decoding
  std::optional<Eigen::Index> bos_token_id = 50256;         ///< begins a text
  std::optional<Eigen::Index> eos_token_id = 50256;         ///< ends a text
  std::optional<Eigen::Index> pad_token_id = std::nullopt;  ///< fills up a batch; GPT-2 has none
  bool scale_attn_by_inverse_layer_idx = false;             ///< also divide attention scores by layer + 1
  bool reorder_and_upcast_attn = false;                     ///< scale keys first and score in float32
  bool add_cross_attention = false;                         ///< blocks also attend to an encoder
  bool tie_word_embeddings = true;                          ///< the output head is wte transposed

  /// Checks every field's range. Whether n_head divides n_embd is not checked: that matters to attention only.
  /// Throws: ConfigError naming the first invalid field.
  void validate() const;

  /// Whether all fields are equal.
  bool operator==(const GPT2Config&) const = default;
};

// Implementation.

namespace detail {

/// The legal values of a field of GPT2Config.
enum class FieldRange { any, positive, non_negative, probability };

/// Calls visit(name, field, range) for every field in the order of the declaration: the one list that
/// validation, reading and writing share.
template <class Config, class Visitor>
void for_each_field(Config& config, Visitor&& visit) {
  visit("vocab_size", config.vocab_size, FieldRange::positive);
  visit("n_positions", config.n_positions, FieldRange::positive);
  visit("n_embd", config.n_embd, FieldRange::positive);
  visit("n_layer", config.n_layer, FieldRange::positive);
  visit("n_head", config.n_head, FieldRange::positive);
  visit("n_inner", config.n_inner, FieldRange::positive);
  visit("activation_function", config.activation_function, FieldRange::any);
  visit("resid_pdrop", config.resid_pdrop, FieldRange::probability);
  visit("embd_pdrop", config.embd_pdrop, FieldRange::probability);
  visit("attn_pdrop", config.attn_pdrop, FieldRange::probability);
  visit("layer_norm_epsilon", config.layer_norm_epsilon, FieldRange::non_negative);
  visit("initializer_range", config.initializer_range, FieldRange::non_negative);
  visit("summary_type", config.summary_type, FieldRange::any);
  visit("summary_use_proj", config.summary_use_proj, FieldRange::any);
  visit("summary_activation", config.summary_activation, FieldRange::any);
  visit("summary_proj_to_labels", config.summary_proj_to_labels, FieldRange::any);
  visit("summary_first_dropout", config.summary_first_dropout, FieldRange::probability);
  visit("scale_attn_weights", config.scale_attn_weights, FieldRange::any);
  visit("use_cache", config.use_cache, FieldRange::any);
  visit("bos_token_id", config.bos_token_id, FieldRange::non_negative);
  visit("eos_token_id", config.eos_token_id, FieldRange::non_negative);
  visit("pad_token_id", config.pad_token_id, FieldRange::non_negative);
  visit("scale_attn_by_inverse_layer_idx", config.scale_attn_by_inverse_layer_idx, FieldRange::any);
  visit("reorder_and_upcast_attn", config.reorder_and_upcast_attn, FieldRange::any);
  visit("add_cross_attention", config.add_cross_attention, FieldRange::any);
  visit("tie_word_embeddings", config.tie_word_embeddings, FieldRange::any);
}

struct FieldValidator {
  template <class Number>
  void operator()(std::string_view name, const Number& value, FieldRange range) const {
    if constexpr (std::is_arithmetic_v<Number>) {
      const auto number = static_cast<double>(value);
      if (range == FieldRange::any) return;
      if (!std::isfinite(number)) throw ConfigError(name, to_text(value), "is not a finite number");
      if (range == FieldRange::positive && number < 1) {
        throw ConfigError(name, to_text(value), "is less than 1");
      }
      if (number < 0) throw ConfigError(name, to_text(value), "is less than 0");
      if (range == FieldRange::probability && number > 1) {
        throw ConfigError(name, to_text(value), "is not a probability: it is more than 1");
      }
    }
  }

  template <class Number>
  void operator()(std::string_view name, const std::optional<Number>& value, FieldRange range) const {
    if (value) (*this)(name, *value, range);
  }
};

}  // namespace detail

inline void GPT2Config::validate() const { detail::for_each_field(*this, detail::FieldValidator{}); }

}  // namespace gpt2
