// SPDX-License-Identifier: MIT
//
// Gradients, the head and training as PyTorch and transformers compute them
// (tests/reference/gradients.safetensors).

#include <cmath>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "gpt2/embeddings.hpp"
#include "gpt2/lm_head.hpp"
#include "gpt2/safetensors.hpp"
#include "support.hpp"

namespace reference_gradients_tests {

using namespace gpt2;

namespace {

const SafeTensors& goldens() {
  static const SafeTensors file =
      SafeTensors::open(std::filesystem::path(GPT2_REFERENCE_DIR) / "gradients.safetensors");
  return file;
}

template <class T>
const std::string prefix = std::is_same_v<T, float> ? "float32." : "float64.";

/// A golden as a matrix: all dimensions but the last become rows.
template <class T>
Matrix<T> golden(const std::string& name) {
  const TensorView tensor = goldens()[name];
  REQUIRE(tensor.dtype == (std::is_same_v<T, float>    ? DType::F32
                           : std::is_same_v<T, double> ? DType::F64
                                                       : DType::I64));
  const auto cols = tensor.shape.empty() ? Index{1} : static_cast<Index>(tensor.shape.back());
  Matrix<T> result(static_cast<Index>(tensor.bytes.size() / sizeof(T)) / cols, cols);
  std::memcpy(result.data(), tensor.bytes.data(), tensor.bytes.size());
  return result;
}

IdMatrix<std::int64_t> ids(const std::string& name) { return golden<std::int64_t>(name); }

/// The names that follow `parent` and end with `.role`, without both.
std::vector<std::string> cases(const std::string& parent, const std::string& role) {
  std::vector<std::string> found;
  for (const std::string& name : goldens().names()) {
    if (name.rfind(parent, 0) != 0 || name.size() <= parent.size() + role.size() + 1) continue;
    const std::size_t dot = name.size() - role.size() - 1;
    if (name.substr(dot) == "." + role) found.push_back(name.substr(parent.size(), dot - parent.size()));
  }
  return found;
}

/// The largest difference, as a part of the largest number expected.
template <class A, class B>
double difference(const Eigen::MatrixBase<A>& found, const Eigen::MatrixBase<B>& expected) {
  REQUIRE(found.rows() == expected.rows());
  REQUIRE(found.cols() == expected.cols());
  const auto wide = expected.template cast<double>();
  return (found.template cast<double>() - wide).cwiseAbs().maxCoeff() / wide.cwiseAbs().maxCoeff();
}

/// The possible difference of sums of a few dozen terms that are formed in another order.
template <class T>
constexpr double rounding = 20 * static_cast<double>(std::numeric_limits<T>::epsilon());

/// The options that a head's goldens were made with.
HeadOptions head_options(const std::string& name) {
  return {.vocab_size = ids(name + ".vocab_size")(0),
          .logit_soft_cap = golden<double>(name + ".logit_soft_cap")(0)};
}

/// A call's tables, read for every case anew.
template <class T>
GPT2Embeddings<T> tables_of(const std::string& name) {
  return {Embedding<T>(golden<T>(name + ".wte")), Embedding<T>(golden<T>(name + ".wpe"))};
}

}  // namespace

TEMPLATE_TEST_CASE("a table's gradient is torch.nn.Embedding's, of one call bit for bit", "[reference]",
                   float, double) {
  const std::string parent = prefix<TestType> + "table";
  const IdMatrix<std::int64_t> all_ids = ids(parent + ".ids");  // of two calls, concatenated
  const Matrix<TestType> grad_output = golden<TestType>(parent + ".grad_output");
  const Index sequences = all_ids.rows() / 2;
  const Index places = sequences * all_ids.cols();
  const std::map<std::string, EmbeddingOptions> options{
      {"plain", {}},
      {"padding", {.padding_idx = 4}},
      {"by_freq", {.scale_grad_by_freq = true}},
      {"padding_by_freq", {.padding_idx = 4 - 13, .scale_grad_by_freq = true}},
  };
  REQUIRE(cases(parent + ".", "grad").size() == options.size());
  for (const auto& [name, option] : options) {
    INFO(parent << "." << name);
    const Matrix<TestType> expected = golden<TestType>(parent + "." + name + ".grad");
    Embedding<TestType> table(expected.rows(), expected.cols(), option);
    table.backward(all_ids.topRows(sequences), grad_output.topRows(places));
    table.backward(all_ids.bottomRows(sequences), grad_output.bottomRows(places));
    // PyTorch adds the second call's sums to the first's, ours its terms; and it multiplies by 1 / count.
    CHECK(difference(table.grad(), expected) < rounding<TestType>);
    if (option.scale_grad_by_freq) continue;
    const auto sparse = table.sparse_backward(all_ids.topRows(sequences), grad_output.topRows(places));
    const Matrix<TestType> values = golden<TestType>(parent + "." + name + ".sparse.values");
    const IdVector<Index> rows = ids(parent + "." + name + ".sparse.rows").transpose();
    CHECK(test::same_bits(sparse.rows, rows));
    CHECK(test::same_bits(sparse.values, values));
  }
}

TEMPLATE_TEST_CASE("renorm is a lookup's max_norm", "[reference]", float, double) {
  const std::string parent = prefix<TestType> + "renorm";
  const Matrix<TestType> weight = golden<TestType>(parent + ".weight");
  const double max_norm = golden<double>(parent + ".max_norm")(0);
  const std::vector<std::string> norm_types = cases(parent + ".", "weight");
  REQUIRE(norm_types.size() == 6);
  for (const std::string& norm_type : norm_types) {
    INFO("norm_type " << norm_type);
    Embedding<TestType> table(weight);
    table.renorm(ids(parent + ".ids"), max_norm, std::stod(norm_type));
    CHECK(difference(table.weight(), golden<TestType>(parent + "." + norm_type + ".weight")) <
          rounding<TestType>);
    CHECK(test::same_bits(table.weight().row(2), weight.row(2)));
    CHECK(test::same_bits(table.weight().row(4), weight.row(4)));
    if (norm_type != "0") CHECK(test::same_bits(table.weight().row(3), weight.row(3)));
  }
}

TEMPLATE_TEST_CASE("the sum's gradients are those of transformers' GPT-2", "[reference]", float, double) {
  using T = TestType;
  const std::string parent = prefix<T> + "layer";
  const std::vector<std::string> calls = cases(parent + ".", "grad_output");
  REQUIRE(calls.size() == 8);
  for (const std::string& call : calls) {
    INFO(parent << "." << call);
    const std::string name = parent + "." + call;
    GPT2Embeddings<T> embeddings = tables_of<T>(parent);
    const Matrix<T> grad_output = golden<T>(name + ".grad_output");
    const auto& shape = goldens()[name + ".grad_output"].shape;
    const auto grad = as_tensor3(grad_output, static_cast<Index>(shape[0]), static_cast<Index>(shape[1]));

    const auto run = [&](const auto& positions, const auto&... types) {
      Tensor3<T> hidden(grad.dimensions());
      if (goldens().contains(name + ".inputs_embeds")) {
        const Matrix<T> embeds = golden<T>(name + ".inputs_embeds");
        embeddings.embed_into(as_tensor3(embeds, grad.dimension(0), grad.dimension(1)), positions, hidden,
                              types...);
        embeddings.backward_embeds(positions, grad, types...);
        CHECK(test::same_bits(golden<T>(name + ".inputs_embeds_grad"), grad_output));
      } else {
        const IdMatrix<std::int64_t> input_ids = ids(name + ".input_ids");
        embeddings.forward_into(input_ids, positions, hidden, types...);
        embeddings.backward(input_ids, positions, grad, types...);
      }
      CHECK(test::same_bits(hidden, golden<T>(name + ".hidden")));
    };
    const auto with_types = [&](const auto& positions) {
      if (goldens().contains(name + ".token_type_ids")) {
        run(positions, ids(name + ".token_type_ids"));
      } else {
        run(positions);
      }
    };
    if (goldens().contains(name + ".position_ids")) {
      const IdMatrix<std::int64_t> positions = ids(name + ".position_ids");
      if (goldens()[name + ".position_ids"].shape.size() == 1) {
        with_types(positions.row(0));
      } else {
        with_types(positions);
      }
    } else {
      with_types(PastLength{0});
    }

    CHECK(embeddings.wte.has_grad() == goldens().contains(name + ".wte_grad"));
    if (embeddings.wte.has_grad()) {
      CHECK(difference(embeddings.wte.grad(), golden<T>(name + ".wte_grad")) < rounding<T>);
    }
    CHECK(difference(embeddings.wpe.grad(), golden<T>(name + ".wpe_grad")) < rounding<T>);
  }
}

namespace {

/// The loss of a tied model without blocks, and its gradients into both tables.
template <class T>
T loss_and_gradients(GPT2Embeddings<T>& embeddings, const IdMatrix<std::int64_t>& input_ids,
                     const IdMatrix<std::int64_t>& labels, Reduction reduction) {
  const Tensor3<T> hidden = embeddings(input_ids);
  const CrossEntropy<T> result = cross_entropy(embeddings.wte, hidden, labels, {.reduction = reduction});
  embeddings.backward(input_ids, PastLength{0}, result.grad_hidden);
  return result.loss;
}

template <class T>
class Sgd {
 public:
  void step(const std::string& /*name*/, Embedding<T>& table) const {
    table.mutable_weight() -= T(0.5) * table.grad();
  }
};

/// torch.optim.AdamW with lr 0.01, betas 0.9 and 0.95, eps 1e-8 and weight_decay 0.1.
template <class T>
class AdamW {
 public:
  void step(const std::string& name, Embedding<T>& table) {
    State& state = states_[name];
    if (state.steps++ == 0) {
      state.mean.setZero(table.num_embeddings(), table.embedding_dim());
      state.square = state.mean;
    }
    const double lr = 0.01;
    table.mutable_weight() *= static_cast<T>(1 - lr * 0.1);
    state.mean += T(0.1) * (table.grad() - state.mean);
    state.square = T(0.95) * state.square + static_cast<T>(1 - 0.95) * table.grad().cwiseAbs2();
    const auto mean_scale = static_cast<T>(lr / (1 - std::pow(0.9, state.steps)));
    const auto root_scale = static_cast<T>(std::sqrt(1 - std::pow(0.95, state.steps)));
    const auto root = state.square.array().sqrt() / root_scale + T(1e-8);
    table.mutable_weight().array() -= mean_scale * (state.mean.array() / root);
  }

 private:
  struct State {
    Matrix<T> mean;
    Matrix<T> square;
    int steps = 0;
  };
  std::map<std::string, State> states_;
};

template <class T, class Optimizer>
void check_training(const std::string& name, Optimizer optimizer) {
  INFO(name);
  const std::string parent = prefix<T> + "training";
  const IdMatrix<std::int64_t> input_ids = ids(parent + ".input_ids");
  const IdMatrix<std::int64_t> labels = ids(parent + ".labels");
  const Matrix<T> losses = golden<T>(parent + "." + name + ".losses");
  REQUIRE(losses.size() == 10);
  const Index batch = input_ids.rows() / 10;
  GPT2Embeddings<T> embeddings = tables_of<T>(parent);
  for (Index step = 0; step < 10; ++step) {
    const T loss = loss_and_gradients<T>(embeddings, input_ids.middleRows(step * batch, batch),
                                         labels.middleRows(step * batch, batch), Reduction::mean);
    CHECK(static_cast<double>(std::abs(loss / losses(step) - 1)) < 1e-6);
    for (auto& [parameter, table] : embeddings.parameters()) {
      optimizer.step(std::string(parameter), *table);
      table->zero_grad();
    }
  }
  const double bound = std::is_same_v<T, float> ? 1e-6 : 1e-14;
  CHECK(difference(embeddings.wte.weight(), golden<T>(parent + "." + name + ".wte")) < bound);
  CHECK(difference(embeddings.wpe.weight(), golden<T>(parent + "." + name + ".wpe")) < bound);
}

}  // namespace

TEMPLATE_TEST_CASE("logits, the best of them and their gradients are PyTorch's", "[reference]", float,
                   double) {
  using T = TestType;
  const std::string parent = prefix<T> + "head";
  const Matrix<T> weight = golden<T>(parent + ".wte");
  const Matrix<T> hidden = golden<T>(parent + ".hidden");
  for (const std::string name : {"all", "words", "capped"}) {
    const std::string head = parent + "." + name;
    INFO(head);
    const HeadOptions options = head_options(head);
    Embedding<T> wte(weight);
    CHECK(difference(logits(wte, hidden, options), golden<T>(head + ".logits")) < rounding<T>);
    const Matrix<T> best = golden<T>(head + ".top_k_logits");
    const TopK<T> found = top_k(wte, hidden, best.cols(), options);
    CHECK(found.ids == ids(head + ".top_k_ids"));
    CHECK(difference(found.logits, best) < rounding<T>);
    const auto grad_hidden = logits_backward(wte, hidden, golden<T>(head + ".grad_logits"), options);
    CHECK(difference(grad_hidden, golden<T>(head + ".hidden_grad")) < rounding<T>);
    CHECK(difference(wte.grad(), golden<T>(head + ".wte_grad")) < rounding<T>);
  }
}

TEMPLATE_TEST_CASE("cross_entropy and its gradients are PyTorch's", "[reference]", float, double) {
  using T = TestType;
  const std::string parent = prefix<T> + "head";
  const Matrix<T> weight = golden<T>(parent + ".wte");
  const Matrix<T> hidden = golden<T>(parent + ".hidden");
  const IdVector<std::int64_t> labels = ids(parent + ".labels").transpose();
  const IdVector<std::int64_t> ignored = IdVector<std::int64_t>::Constant(labels.size(), -100);
  for (const auto& [reduced, reduction] :
       {std::pair<std::string, Reduction>{"mean", Reduction::mean}, {"sum", Reduction::sum}}) {
    for (const std::string name : {"all", "words", "capped"}) {
      const std::string head = parent + "." + name + "." + reduced;
      INFO(head);
      const CrossEntropyOptions options{.reduction = reduction, .head = head_options(parent + "." + name)};
      Embedding<T> wte(weight);
      const CrossEntropy<T> found = cross_entropy(wte, hidden, labels, options);
      CHECK(static_cast<double>(std::abs(found.loss / golden<T>(head + ".loss")(0) - 1)) < rounding<T>);
      CHECK(difference(found.grad_hidden, golden<T>(head + ".hidden_grad")) < rounding<T>);
      CHECK(difference(wte.grad(), golden<T>(head + ".wte_grad")) < rounding<T>);
      CHECK(cross_entropy_loss(wte, hidden, labels, options) == found.loss);
    }
    Embedding<T> wte(weight);
    const T loss = cross_entropy(wte, hidden, ignored, {.reduction = reduction}).loss;
    const T expected = golden<T>(parent + ".ignored." + reduced + ".loss")(0);
    CHECK((std::isnan(expected) ? std::isnan(loss) : loss == expected));
  }
}

TEMPLATE_TEST_CASE("a tied table gets the gradients of its head and of its lookups", "[reference]", float,
                   double) {
  using T = TestType;
  const std::string parent = prefix<T> + "tied";
  for (const auto& [name, reduction] :
       {std::pair<std::string, Reduction>{"mean", Reduction::mean}, {"sum", Reduction::sum}}) {
    INFO(parent << "." << name);
    GPT2Embeddings<T> embeddings = tables_of<T>(parent);
    const T loss =
        loss_and_gradients(embeddings, ids(parent + ".input_ids"), ids(parent + ".labels"), reduction);
    const std::string result = parent + "." + name;
    CHECK(static_cast<double>(std::abs(loss / golden<T>(result + ".loss")(0) - 1)) < rounding<T>);
    CHECK(difference(embeddings.wte.grad(), golden<T>(result + ".wte_grad")) < rounding<T>);
    CHECK(difference(embeddings.wpe.grad(), golden<T>(result + ".wpe_grad")) < rounding<T>);
  }
}

TEMPLATE_TEST_CASE("ten steps of training end as PyTorch's do", "[reference]", float, double) {
  check_training<TestType>("sgd", Sgd<TestType>());
  check_training<TestType>("adamw", AdamW<TestType>());
}

}  // namespace reference_gradients_tests
