// SPDX-License-Identifier: MIT
#include "gpt2/config.hpp"

#include <cstring>
#include <limits>
#include <string>

#include "support.hpp"

namespace config_tests {

using namespace gpt2;

TEST_CASE("the defaults are GPT-2 base, as transformers has them", "[config]") {
  const GPT2Config config;
  CHECK(config.vocab_size == 50257);
  CHECK(config.n_positions == 1024);
  CHECK(config.n_embd == 768);
  CHECK(config.n_layer == 12);
  CHECK(config.n_head == 12);
  CHECK_FALSE(config.n_inner.has_value());
  CHECK(config.activation_function == "gelu_new");
  CHECK(config.resid_pdrop == 0.1);
  CHECK(config.embd_pdrop == 0.1);
  CHECK(config.attn_pdrop == 0.1);
  CHECK(config.layer_norm_epsilon == 1e-5);
  CHECK(config.initializer_range == 0.02);
  CHECK(config.summary_type == "cls_index");
  CHECK(config.summary_use_proj);
  CHECK_FALSE(config.summary_activation.has_value());
  CHECK(config.summary_proj_to_labels);
  CHECK(config.summary_first_dropout == 0.1);
  CHECK(config.scale_attn_weights);
  CHECK(config.use_cache);
  CHECK(config.bos_token_id == 50256);
  CHECK(config.eos_token_id == 50256);
  CHECK_FALSE(config.pad_token_id.has_value());
  CHECK_FALSE(config.scale_attn_by_inverse_layer_idx);
  CHECK_FALSE(config.reorder_and_upcast_attn);
  CHECK_FALSE(config.add_cross_attention);
  CHECK(config.tie_word_embeddings);
  CHECK_NOTHROW(config.validate());
}

TEST_CASE("designated initialisers and comparison work", "[config]") {
  const GPT2Config small{.vocab_size = 10, .n_positions = 4, .n_embd = 8};
  GPT2Config other = small;
  CHECK(small == other);
  other.n_inner = 32;
  CHECK_FALSE(small == other);
}

TEST_CASE("validate refuses sizes below 1, naming the field", "[config]") {
  struct Size {
    const char* name;
    void (*set)(GPT2Config&, Eigen::Index);
  };
  const Size sizes[] = {{"vocab_size", [](GPT2Config& c, Eigen::Index v) { c.vocab_size = v; }},
                        {"n_positions", [](GPT2Config& c, Eigen::Index v) { c.n_positions = v; }},
                        {"n_embd", [](GPT2Config& c, Eigen::Index v) { c.n_embd = v; }},
                        {"n_layer", [](GPT2Config& c, Eigen::Index v) { c.n_layer = v; }},
                        {"n_head", [](GPT2Config& c, Eigen::Index v) { c.n_head = v; }},
                        {"n_inner", [](GPT2Config& c, Eigen::Index v) { c.n_inner = v; }}};
  for (const Size& size : sizes) {
    for (const Eigen::Index value : {Eigen::Index{0}, Eigen::Index{-1}}) {
      GPT2Config config;
      size.set(config, value);
      const auto error = test::error_of<ConfigError>([&] { config.validate(); });
      CHECK(error.field() == size.name);
      CHECK(error.value() == std::to_string(value));
    }
    GPT2Config config;
    size.set(config, 1);
    CHECK_NOTHROW(config.validate());
  }
}

TEST_CASE("validate refuses probabilities outside [0, 1] and non-finite numbers", "[config]") {
  const double bad[] = {-0.1, 1.1, std::numeric_limits<double>::quiet_NaN(),
                        std::numeric_limits<double>::infinity()};
  for (const double value : bad) {
    CHECK(test::error_of<ConfigError>([&] { GPT2Config{.resid_pdrop = value}.validate(); }).field() ==
          "resid_pdrop");
    CHECK(test::error_of<ConfigError>([&] { GPT2Config{.embd_pdrop = value}.validate(); }).field() ==
          "embd_pdrop");
    CHECK(test::error_of<ConfigError>([&] { GPT2Config{.attn_pdrop = value}.validate(); }).field() ==
          "attn_pdrop");
    CHECK(test::error_of<ConfigError>([&] {
            GPT2Config{.summary_first_dropout = value}.validate();
          }).field() == "summary_first_dropout");
  }
  CHECK_NOTHROW(GPT2Config{.embd_pdrop = 0}.validate());
  CHECK_NOTHROW(GPT2Config{.embd_pdrop = 1}.validate());
}

TEST_CASE("validate refuses negative scales and token ids, and allows zero", "[config]") {
  CHECK(test::error_of<ConfigError>([] { GPT2Config{.layer_norm_epsilon = -1e-5}.validate(); }).field() ==
        "layer_norm_epsilon");
  CHECK(test::error_of<ConfigError>([] { GPT2Config{.initializer_range = -0.02}.validate(); }).field() ==
        "initializer_range");
  CHECK(test::error_of<ConfigError>([] { GPT2Config{.bos_token_id = -1}.validate(); }).field() ==
        "bos_token_id");
  CHECK(test::error_of<ConfigError>([] { GPT2Config{.eos_token_id = -1}.validate(); }).field() ==
        "eos_token_id");
  CHECK(test::error_of<ConfigError>([] { GPT2Config{.pad_token_id = -1}.validate(); }).field() ==
        "pad_token_id");
  CHECK_NOTHROW(GPT2Config{.initializer_range = 0, .bos_token_id = 0, .eos_token_id = 0}.validate());
}

TEST_CASE("the list of fields names every member once, in the order of the declaration", "[config]") {
  GPT2Config config;
  const char* previous = nullptr;
  int count = 0;
  detail::for_each_field(config, [&](const char* name, auto& member, detail::FieldRange) {
    const auto* address = reinterpret_cast<const char*>(&member);
    INFO(name);
    CHECK((previous == nullptr || address > previous));
    previous = address;
    ++count;
  });
  CHECK(count == 26);
}

}  // namespace config_tests
