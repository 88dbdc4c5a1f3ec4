// SPDX-License-Identifier: MIT
//
// A whole GPT-2 on top of the library (examples/gpt2_blocks.hpp) against transformers: logits and generated ids.

#include "../../examples/gpt2_blocks.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "gpt2/gpt2.hpp"
#include "support.hpp"
#include "temporary_folder.hpp"

namespace gpt2_generate_tests {

using namespace gpt2;
using blocks::Cache;
using blocks::IdBatch;
using blocks::Model;
using blocks::Tokens;

namespace {

const std::filesystem::path reference = GPT2_REFERENCE_DIR;

const SafeTensors& goldens() {
  static const SafeTensors file = SafeTensors::open(reference / "generation.safetensors");
  return file;
}

/// A golden as a matrix: all dimensions but the last become rows.
template <class T>
Matrix<T> golden(const std::string& name) {
  const TensorView tensor = goldens()[name];
  REQUIRE(tensor.bytes.size() % (sizeof(T) * tensor.shape.back()) == 0);
  const auto cols = static_cast<Index>(tensor.shape.back());
  Matrix<T> result(static_cast<Index>(tensor.bytes.size() / sizeof(T)) / cols, cols);
  std::memcpy(result.data(), tensor.bytes.data(), tensor.bytes.size());
  return result;
}

IdBatch golden_ids(const std::string& name) { return golden<std::int64_t>(name); }

/// The cases, "<checkpoint>.<case>" or "<checkpoint>.<field>=<value>.<case>", that have a tensor of the role.
std::vector<std::string> cases(const std::string& role) {
  std::vector<std::string> found;
  for (const std::string& name : goldens().names()) {
    const std::size_t dot = name.rfind('.');
    if (name.substr(dot + 1) == role) found.push_back(name.substr(0, dot));
  }
  return found;
}

std::string checkpoint_of(const std::string& name) { return name.substr(0, name.find('.')); }

std::filesystem::path folder_of(const std::string& name) {
  return reference / "checkpoints" / checkpoint_of(name);
}

/// The checkpoint's config, with the field that the case's name changes.
GPT2Config config_of(const std::string& name) {
  nlohmann::json json = from_pretrained<GPT2Config>(folder_of(name));
  const std::size_t equals = name.find('=');
  if (equals != std::string::npos) {
    const std::size_t begin = name.find('.') + 1;
    const std::string value = name.substr(equals + 1, name.rfind('.') - equals - 1);
    nlohmann::json parsed = nlohmann::json::parse(value, nullptr, false);
    json[name.substr(begin, equals - begin)] = parsed.is_discarded() ? nlohmann::json(value) : parsed;
  }
  return json.get<GPT2Config>();
}

template <class T>
bool computes_in(const std::string& name) {
  return (checkpoint_of(name) == "base-f64") == std::is_same_v<T, double>;
}

/// The rows of tokens, those of padding set to zero: they mean nothing.
template <class T>
Matrix<T> without_padding(Matrix<T> rows, const IdBatch& mask) {
  REQUIRE(rows.rows() == mask.size());
  for (Index i = 0; i < rows.rows(); ++i) {
    if (mask(i / mask.cols(), i % mask.cols()) == 0) rows.row(i).setZero();
  }
  return rows;
}

/// The largest difference, measured by the largest value.
template <class T>
double relative_error(const Matrix<T>& found, const Matrix<T>& expected) {
  REQUIRE(found.rows() == expected.rows());
  REQUIRE(found.cols() == expected.cols());
  return static_cast<double>((found - expected).cwiseAbs().maxCoeff() / expected.cwiseAbs().maxCoeff());
}

/// The bar for float is 1e-4; this is the bound that it really keeps.
template <class T>
constexpr double tolerance = std::is_same_v<T, float> ? 5e-6 : 1e-12;

template <class T>
Matrix<T> logits_of(const Model<T>& model, const IdBatch& input_ids, const IdBatch& mask, Cache<T>& cache) {
  return logits(model.head(), model.forward(input_ids, mask, cache));
}

/// The prompts of a left-padded batch.
std::vector<Tokens> prompts_of(const std::string& name) {
  const IdBatch ids = golden_ids(name + ".input_ids");
  const IdBatch mask = golden_ids(name + ".attention_mask");
  std::vector<Tokens> prompts(static_cast<std::size_t>(ids.rows()));
  for (Index b = 0; b < ids.rows(); ++b) {
    for (Index i = 0; i < ids.cols(); ++i) {
      if (mask(b, i) != 0) prompts[static_cast<std::size_t>(b)].push_back(ids(b, i));
    }
  }
  return prompts;
}

/// The expected result of generate: transformers goes on with padding after the end of a sequence.
std::vector<Tokens> expected_tokens(const std::string& name, const GPT2Config& config) {
  const IdBatch ids = golden_ids(name + ".generated");
  std::vector<Tokens> expected(static_cast<std::size_t>(ids.rows()));
  for (Index b = 0; b < ids.rows(); ++b) {
    for (Index i = 0; i < ids.cols(); ++i) {
      expected[static_cast<std::size_t>(b)].push_back(ids(b, i));
      if (ids(b, i) == config.eos_token_id) break;
    }
  }
  return expected;
}

const std::string tiny = "gpt2-tiny.questions";

}  // namespace

TEMPLATE_TEST_CASE("the logits are those of transformers, with and without a cache and padding",
                   "[gpt2_generate]", float, double) {
  std::set<std::string> checkpoints;
  for (const std::string& name : cases("logits")) {
    if (!computes_in<TestType>(name)) continue;
    INFO(name);
    checkpoints.insert(checkpoint_of(name));
    const Model<TestType> model(folder_of(name), config_of(name));
    const IdBatch ids = golden_ids(name + ".input_ids");
    const IdBatch mask = golden_ids(name + ".attention_mask");

    Cache<TestType> whole(model.config(), ids.rows(), ids.cols());
    const Matrix<TestType> expected = without_padding(golden<TestType>(name + ".logits"), mask);
    CHECK(relative_error(without_padding(logits_of(model, ids, mask, whole), mask), expected) <
          tolerance<TestType>);

    // The cached logits are those of the last tokens, which came one by one; the cache is larger than needed.
    const Matrix<TestType> expected_cached = golden<TestType>(name + ".logits_cached");
    const Index steps = expected_cached.rows() / ids.rows();
    const Index first = ids.cols() - steps;
    Cache<TestType> cache(model.config(), ids.rows(), ids.cols() + 3);
    static_cast<void>(logits_of<TestType>(model, ids.leftCols(first), mask.leftCols(first), cache));
    Matrix<TestType> found(expected_cached.rows(), expected_cached.cols());
    for (Index step = 0; step < steps; ++step) {
      const Matrix<TestType> rows =
          logits_of<TestType>(model, ids.col(first + step), mask.col(first + step), cache);
      for (Index b = 0; b < ids.rows(); ++b) found.row(b * steps + step) = rows.row(b);
    }
    const IdBatch last = mask.rightCols(steps);
    CHECK(relative_error(without_padding(found, last), without_padding(expected_cached, last)) <
          tolerance<TestType>);
  }
  CHECK(checkpoints.size() == (std::is_same_v<TestType, double> ? 1 : 7));
}

TEMPLATE_TEST_CASE("the generated ids are those of transformers' generate", "[gpt2_generate]", float,
                   double) {
  int compared = 0;
  for (const std::string& name : cases("generated")) {
    if (!computes_in<TestType>(name)) continue;
    INFO(name);
    const Model<TestType> model(folder_of(name));
    const Index new_tokens = golden_ids(name + ".generated").cols();
    const std::vector<Tokens> prompts = prompts_of(name);
    const std::vector<Tokens> expected = expected_tokens(name, model.config());
    CHECK(blocks::generate(model, prompts, new_tokens) == expected);
    for (std::size_t i = 0; i < prompts.size(); ++i) {
      CHECK(blocks::generate(model, {prompts[i]}, new_tokens).front() == expected[i]);  // the same alone
    }
    ++compared;
  }
  CHECK(compared == (std::is_same_v<TestType, double> ? 1 : 2));
}

TEST_CASE("generation stops when every sequence has ended, and counts its steps", "[gpt2_generate]") {
  const Model<float> model(folder_of(tiny));
  const Tokens question = prompts_of(tiny).front();
  Index steps = 0;
  const auto count = [&](Index step, const std::vector<Tokens>& generated) {
    CHECK(step == ++steps);
    CHECK(generated.front().size() == static_cast<std::size_t>(step));
  };
  const Tokens answer{0, 23, *model.config().eos_token_id};
  CHECK(blocks::generate(model, {question, question}, 20, count) == std::vector<Tokens>{answer, answer});
  CHECK(steps == 3);
  CHECK(blocks::generate(model, {question}, 1).front() == Tokens{0});
  CHECK(blocks::generate(model, {question}, 0).front().empty());
  CHECK(blocks::generate(model, {}, 5).empty());

  GPT2Config config = model.config();
  config.eos_token_id.reset();
  CHECK(blocks::generate(Model<float>(folder_of(tiny), config), {question}, 20).front().size() == 20);
}

TEST_CASE("a batch of nothing but padding gives finite numbers, an empty one none", "[gpt2_generate]") {
  const Model<float> model(folder_of(tiny));
  Cache<float> cache(model.config(), 1, 3);
  CHECK(model.forward(IdBatch::Zero(1, 3), IdBatch::Zero(1, 3), cache).allFinite());
  CHECK(model.forward(IdBatch(1, 0), IdBatch(1, 0), cache).rows() == 0);
  Cache<float> empty(model.config(), 0, 3);
  CHECK(model.forward(IdBatch(0, 3), IdBatch(0, 3), empty).rows() == 0);
}

TEST_CASE("an untied head is lm_head.weight", "[gpt2_generate]") {
  auto config = from_pretrained<GPT2Config>(folder_of(tiny));
  config.tie_word_embeddings = false;
  const auto error = test::error_of<CheckpointError>([&] { Model<float>(folder_of(tiny), config); });
  CHECK(error.kind() == "TensorNotFound");
  CHECK(error.tensor() == "lm_head.weight");

  CHECK_FALSE(Model<float>(folder_of(tiny)).has_unused_head());

  // The tokens in reverse: the best one is as far from the end as the tied head's is from the beginning.
  const Model<float> tied(folder_of(tiny));
  const Matrix<float> reversed = tied.embeddings().wte.weight().colwise().reverse();
  const SafeTensors file = SafeTensors::open(folder_of(tiny) / "model.safetensors");
  std::vector<NamedTensor> tensors;
  for (const std::string& name : file.names()) tensors.push_back({name, file[name]});
  const auto elements = std::span(reversed.data(), static_cast<std::size_t>(reversed.size()));
  tensors.push_back({"lm_head.weight", {DType::F32, {26, 24}, std::as_bytes(elements)}});
  const test::TemporaryFolder folder;
  save_safetensors(folder / "model.safetensors", tensors);
  test::write_file(folder / "config.json", nlohmann::json(config).dump());
  const Model<float> untied(folder.path());
  CHECK(test::same_bits(untied.head().weight(), reversed));
  CHECK(test::same_bits(untied.embeddings().wte.weight(), tied.embeddings().wte.weight()));
  const Tokens question = prompts_of(tiny).front();
  CHECK(blocks::generate(untied, {question}, 1).front() ==
        Tokens{25 - blocks::generate(tied, {question}, 1)[0][0]});
  CHECK_FALSE(untied.has_unused_head());
  config.tie_word_embeddings = true;
  const Model<float> unused(folder.path(), config);
  CHECK(unused.has_unused_head());
  CHECK(blocks::generate(unused, {question}, 1) == blocks::generate(tied, {question}, 1));
}

TEST_CASE("the model says what it cannot run", "[gpt2_generate]") {
  const auto config = from_pretrained<GPT2Config>(folder_of(tiny));
  const auto message = [&](auto error, auto change) {
    GPT2Config changed = config;
    change(changed);
    return std::string(
        test::error_of<decltype(error)>([&] { Model<float>(folder_of(tiny), changed); }).what());
  };
  const ConfigError config_error("", "", "");
  const CheckpointError checkpoint_error("", "", "", "");
  CHECK(message(config_error, [](GPT2Config& c) { c.n_head = 5; }) ==
        "[gpt2.config_error] n_head = 5 does not divide n_embd, 24");
  CHECK(message(config_error, [](GPT2Config& c) { c.activation_function = "mish"; }) ==
        "[gpt2.config_error] activation_function = \"mish\" is none of gelu_new, gelu, relu, silu and tanh");
  CHECK(test::contains(message(checkpoint_error, [](GPT2Config& c) { c.n_layer = 3; }),
                       "transformer.h.2.ln_1.weight: is not in the file, which has transformer.h.0."));
  CHECK(test::contains(
      message(checkpoint_error, [](GPT2Config& c) { c.n_inner = 95; }),
      "transformer.h.0.mlp.c_fc.weight: is F32 of shape [24, 96], expected [24, 95] [UnexpectedShape]"));
}

TEST_CASE("generate says what is wrong with its prompts", "[gpt2_generate]") {
  const Model<float> model(folder_of(tiny));
  const auto generate = [&](const std::vector<Tokens>& prompts, Index new_tokens) {
    static_cast<void>(blocks::generate(model, prompts, new_tokens));
  };
  CHECK(std::string(test::error_of<ArgumentError>([&] {
                      generate({{0}, {}}, 3);
                    }).what()) == "[gpt2.argument_error] prompts[1].size() = 0 must not be 0");
  CHECK(test::error_of<ArgumentError>([&] { generate({{0}}, -1); }).name() == "max_new_tokens");
  CHECK(std::string(test::error_of<IndexError>([&] {
                      generate({{0, 1}, {3, 26}}, 3);
                    }).what()) == "[gpt2.index_error] wte: prompts[1, 1] = 26 is outside [0, 26)");
  CHECK(test::error_of<IndexError>([&] { generate({{-1}}, 3); }).value() == -1);
  CHECK(std::string(test::error_of<IndexError>([&] { generate({Tokens(30)}, 5); }).what()) ==
        "[gpt2.index_error] wpe: position_ids = 33 is outside [0, 33): prompts[0] has 30 tokens, to be "
        "followed "
        "by 5");
  CHECK_NOTHROW(generate({Tokens(30)}, 4));
  constexpr Index largest = std::numeric_limits<Index>::max();
  CHECK(test::error_of<IndexError>([&] { generate({{0, 1, 2}}, largest); }).value() == largest);
  CHECK(test::error_of<IndexError>([&] { generate({Tokens(34)}, 0); }).value() == 33);
}

TEST_CASE("forward says what does not fit, and leaves the cache as it was", "[gpt2_generate]") {
  const Model<float> model(folder_of(tiny));
  Cache<float> cache(model.config(), 2, 4);
  const auto forward = [&](const IdBatch& ids, const IdBatch& mask) {
    static_cast<void>(model.forward(ids, mask, cache));
  };
  const IdBatch ones = IdBatch::Ones(2, 3);
  test::error_of<ShapeError>([&] { forward(IdBatch::Ones(1, 3), IdBatch::Ones(1, 3)); });
  test::error_of<ShapeError>([&] { forward(IdBatch::Ones(2, 5), IdBatch::Ones(2, 5)); });
  test::error_of<ShapeError>([&] { forward(ones, IdBatch::Ones(2, 2)); });
  test::error_of<ArgumentError>([&] { forward(ones, 2 * ones); });
  test::error_of<IndexError>([&] { forward(26 * ones, ones); });
  CHECK(cache.length == 0);
  forward(ones, ones);
  CHECK(cache.length == 3);
}

}  // namespace gpt2_generate_tests
