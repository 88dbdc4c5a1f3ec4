// SPDX-License-Identifier: MIT
//
// Everything that PyTorch, transformers and MAX computed (tests/reference/), computed again.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "gpt2/gpt2.hpp"
#include "support.hpp"

namespace reference_tests {

using namespace gpt2;

namespace {

const std::filesystem::path reference = GPT2_REFERENCE_DIR;

template <class T>
constexpr DType dtype_of = std::is_same_v<T, float>          ? DType::F32
                           : std::is_same_v<T, double>       ? DType::F64
                           : std::is_same_v<T, Eigen::half>  ? DType::F16
                           : std::is_same_v<T, std::int32_t> ? DType::I32
                           : std::is_same_v<T, std::int64_t> ? DType::I64
                                                             : DType::BF16;

/// A tensor copied out as a matrix: all dimensions but the last become rows. A scalar is [1, 1].
template <class T>
Matrix<T> matrix(const SafeTensors& file, const std::string& name) {
  const TensorView tensor = file[name];
  REQUIRE(tensor.dtype == dtype_of<T>);
  Index rows = 1;
  for (std::size_t i = 0; i + 1 < tensor.shape.size(); ++i) rows *= static_cast<Index>(tensor.shape[i]);
  Matrix<T> result(rows, tensor.shape.empty() ? 1 : static_cast<Index>(tensor.shape.back()));
  REQUIRE(tensor.bytes.size() == static_cast<std::size_t>(result.size()) * sizeof(T));
  if (!tensor.bytes.empty()) std::memcpy(result.data(), tensor.bytes.data(), tensor.bytes.size());
  return result;
}

IdMatrix<std::int64_t> ids(const SafeTensors& file, const std::string& name) {
  return matrix<std::int64_t>(file, name);
}

/// The names, without their last part, of all tensors that end with `.role`.
std::vector<std::string> cases(const SafeTensors& file, const std::string& role) {
  std::vector<std::string> found;
  for (const std::string& name : file.names()) {
    const std::size_t dot = name.rfind('.');
    if (name.substr(dot + 1) == role) found.push_back(name.substr(0, dot));
  }
  return found;
}

/// Calls f with the case's ids, in the rank the file has them in.
template <class F>
void with_rank(const SafeTensors& file, const std::string& name, F&& f) {
  const IdMatrix<std::int64_t> values = ids(file, name);
  if (file[name].shape.size() == 1) {
    f(IdVector<std::int64_t>(values.transpose()));
  } else {
    f(values);
  }
}

/// Embeds one case as the model was called: into `out`, with the positions and types given or left out.
template <class T, class Out>
void embed_case(const GPT2Embeddings<T>& embeddings, const SafeTensors& file, const std::string& name,
                Out& out) {
  const auto with_positions = [&](auto&& embed) {
    const std::string past = name + ".past_length";
    if (file.contains(name + ".position_ids")) {
      with_rank(file, name + ".position_ids", embed);
    } else if (file.contains(name + ".attention_mask")) {
      // The arguments of generate: the new tokens' positions are the last ones of the whole mask's.
      const IdMatrix<std::int64_t> positions =
          position_ids_from_attention_mask(ids(file, name + ".attention_mask"));
      const IdMatrix<std::int64_t> effective = ids(file, name + ".effective_position_ids");
      REQUIRE(positions.rightCols(effective.cols()) == effective);
      embed(positions.rightCols(effective.cols()));
    } else {
      embed(PastLength{file.contains(past) ? ids(file, past)(0) : 0});
    }
  };
  with_positions([&](const auto& positions) {
    const auto with_tokens = [&](auto&& embed) {
      if (file.contains(name + ".token_type_ids")) {
        with_rank(file, name + ".token_type_ids", embed);
      } else {
        embed();
      }
    };
    if (file.contains(name + ".inputs_embeds")) {
      const Matrix<T> given = matrix<T>(file, name + ".inputs_embeds");
      const auto& shape = file[name + ".inputs_embeds"].shape;
      const auto tensor = as_tensor3(given, static_cast<Index>(shape[0]), static_cast<Index>(shape[1]));
      with_tokens([&](const auto&... types) { embeddings.embed_into(tensor, positions, out, types...); });
    } else {
      with_rank(file, name + ".input_ids", [&](const auto& input_ids) {
        with_tokens(
            [&](const auto&... types) { embeddings.forward_into(input_ids, positions, out, types...); });
      });
    }
  });
}

template <class T>
void check_checkpoint(const std::string& checkpoint) {
  INFO(checkpoint);
  const std::filesystem::path folder = reference / "checkpoints" / checkpoint;
  const SafeTensors expected = SafeTensors::open(folder / "expected.safetensors");
  const auto embeddings = from_pretrained<GPT2Embeddings<T>>(folder);
  const std::vector<std::string> names = cases(expected, "hidden");
  REQUIRE(names.size() == 20);
  for (const std::string& name : names) {
    INFO(name);
    const Matrix<T> hidden = matrix<T>(expected, name + ".hidden");
    Matrix<T> out(hidden.rows(), hidden.cols());
    embed_case(embeddings, expected, name, out);
    if constexpr (sizeof(T) >= sizeof(float)) {
      CHECK(test::same_bits(out, hidden));
    } else {
      // In half precision PyTorch rounds after each addition. Two terms are one addition, and equal; of three,
      // ours is the float32 result of the same model, rounded once.
      const Matrix<float> in_float = matrix<float>(expected, name + ".hidden_float32");
      Matrix<float> wide(hidden.rows(), hidden.cols());
      embed_case(embeddings, expected, name, wide);
      CHECK(test::same_bits(wide, in_float));
      CHECK(test::same_bits(out, in_float.cast<T>().eval()));
      if (!expected.contains(name + ".token_type_ids")) CHECK(test::same_bits(out, hidden));
    }
  }
}

}  // namespace

TEST_CASE("the input of the first block is what transformers computes, bit for bit", "[reference]") {
  check_checkpoint<float>("base-f32");
  check_checkpoint<float>("lm-head-f32");
  check_checkpoint<float>("lm-head-f32-sharded");
  check_checkpoint<float>("hub-f32");
  check_checkpoint<float>("gpt2-tiny");
  check_checkpoint<double>("base-f64");
  check_checkpoint<Eigen::half>("base-f16");
  check_checkpoint<Eigen::bfloat16>("lm-head-bf16");
}

TEST_CASE("every checkpoint of the reference is checked", "[reference]") {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(reference / "checkpoints")) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  CHECK(names == std::vector<std::string>{"base-f16", "base-f32", "base-f64", "gpt2-tiny", "hub-f32",
                                          "lm-head-bf16", "lm-head-f32", "lm-head-f32-sharded"});
}

TEST_CASE("the position layer alone gives wpe's rows at the positions transformers used", "[reference]") {
  const std::filesystem::path folder = reference / "checkpoints" / "base-f32";
  const SafeTensors expected = SafeTensors::open(folder / "expected.safetensors");
  const auto positions = from_pretrained<GPT2PositionEmbeddings<float>>(folder);
  const auto embeddings = from_pretrained<GPT2Embeddings<float>>(folder);
  for (const std::string& name : cases(expected, "input_ids")) {
    if (expected.contains(name + ".token_type_ids") || expected[name + ".input_ids"].shape.size() != 2)
      continue;
    INFO(name);
    const Tensor3<float> tokens = embeddings.wte(ids(expected, name + ".input_ids"));
    IdMatrix<std::int64_t> effective = ids(expected, name + ".effective_position_ids");
    if (effective.rows() == 1) effective = effective.replicate(tokens.dimension(0), 1).eval();
    const Tensor3<float> places = positions(effective);
    const Matrix<float> sum = as_matrix(tokens) + as_matrix(places);
    CHECK(test::same_bits(sum, matrix<float>(expected, name + ".hidden")));
  }
}

TEST_CASE("MAX's Embedding gives the same rows of wpe", "[reference]") {
  const SafeTensors file = SafeTensors::open(reference / "max.safetensors");
  const GPT2PositionEmbeddings<float> positions{Embedding<float>(matrix<float>(file, "max.wpe"))};
  const IdMatrix<std::int64_t> row = ids(file, "max.position_ids");
  REQUIRE(row.size() == 17);
  CHECK(arange(row.size()).transpose() == row);
  CHECK(test::same_bits(positions(arange(row.size())), matrix<float>(file, "max.hidden")));
  const IdMatrix<std::int64_t> batch = ids(file, "max.batch_position_ids");
  CHECK(test::same_bits(positions(batch), matrix<float>(file, "max.batch_hidden")));
}

TEMPLATE_TEST_CASE("arange is torch.arange", "[reference]", std::int64_t, std::int32_t, float, double) {
  const SafeTensors file = SafeTensors::open(reference / "functions.safetensors");
  const std::string name = std::is_same_v<TestType, std::int64_t>   ? "int64"
                           : std::is_same_v<TestType, std::int32_t> ? "int32"
                           : std::is_same_v<TestType, float>        ? "float32"
                                                                    : "float64";
  int compared = 0;
  for (const std::string& entry : cases(file, "arguments")) {
    const bool sizes_only = entry.rfind("arange_size." + name + ".", 0) == 0;
    if (!sizes_only && entry.rfind("arange." + name + ".", 0) != 0) continue;
    INFO(entry);
    const Matrix<TestType> arguments = matrix<TestType>(file, entry + ".arguments");
    const auto values = arange<TestType>(arguments(0), arguments(1), arguments(2));
    if (sizes_only) {
      CHECK(values.size() == ids(file, entry + ".size")(0));
    } else {
      CHECK(test::same_bits(values.transpose(), matrix<TestType>(file, entry + ".values")));
    }
    ++compared;
  }
  CHECK(compared >= 4);
}

TEST_CASE("the sinusoidal table is NumPy's, to a few units in the last place", "[reference]") {
  const SafeTensors file = SafeTensors::open(reference / "functions.safetensors");
  for (const auto& [rows, cols] : {std::pair<Index, Index>{40, 16}, {9, 7}, {3, 1}}) {
    const std::string name = "sinusoidal." + std::to_string(rows) + "x" + std::to_string(cols);
    const Matrix<double> expected = matrix<double>(file, name);
    CHECK((sinusoidal<double>(rows, cols) - expected).cwiseAbs().maxCoeff() < 1e-14);
  }
}

TEMPLATE_TEST_CASE("a lookup is torch.nn.functional.embedding, NaN payloads included", "[reference]", float,
                   double, Eigen::half, Eigen::bfloat16) {
  const SafeTensors file = SafeTensors::open(reference / "functions.safetensors");
  const std::string name = std::is_same_v<TestType, float>         ? "float32"
                           : std::is_same_v<TestType, double>      ? "float64"
                           : std::is_same_v<TestType, Eigen::half> ? "float16"
                                                                   : "bfloat16";
  const Embedding<TestType> table(matrix<TestType>(file, "lookup." + name + ".weight"));
  for (const std::string shape : {"rank_1", "rank_2", "empty", "empty_rows", "no_rows"}) {
    INFO(shape);
    const std::string result = "lookup." + name + "." + shape;
    with_rank(file, "lookup.ids." + shape, [&](const auto& ids) {
      const auto rows = table(ids);
      if constexpr (ids_rank<decltype(ids)> == 2) {
        CHECK(rows.dimension(0) == static_cast<Index>(file[result].shape[0]));
        CHECK(rows.dimension(1) == static_cast<Index>(file[result].shape[1]));
      }
      CHECK(test::same_bits(rows, matrix<TestType>(file, result)));
    });
  }
}

TEST_CASE("padding_idx is normalised, zeroed and looked up as in torch.nn.Embedding", "[reference]") {
  const SafeTensors file = SafeTensors::open(reference / "functions.safetensors");
  for (const std::string name : {"positive", "negative"}) {
    INFO(name);
    const std::string prefix = "padding_idx." + name + ".";
    const EmbeddingOptions options{.padding_idx = ids(file, prefix + "given")(0)};
    const Index normalised = ids(file, prefix + "normalised")(0);
    for (const std::string origin : {"fresh", "pretrained"}) {
      const Embedding<float> table(matrix<float>(file, prefix + origin + ".weight"), options);
      CHECK(table.options().padding_idx == normalised);
      CHECK(table.weight().row(normalised).isZero(0) == (origin == "fresh"));
      with_rank(file, "padding_idx.ids", [&](const auto& ids) {
        CHECK(test::same_bits(table(ids), matrix<float>(file, prefix + origin + ".values")));
      });
    }
    CHECK(test::weight_of(Embedding<float>(6, 5, options)).row(normalised).isZero(0));
  }
}

}  // namespace reference_tests
