// SPDX-License-Identifier: MIT
#include "gpt2/pretrained.hpp"

#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "catch.hpp"
#include "support.hpp"
#include "temporary_folder.hpp"

namespace pretrained_tests {

using namespace gpt2;
using test::contains;
using test::error_of;
using test::same_bits;
using test::TemporaryFolder;
using test::write_file;

namespace {

constexpr const char* config_text =
    R"({"model_type": "gpt2", "vocab_size": 3, "n_positions": 2, "n_embd": 4})";

GPT2Config small_config() { return parse_config(config_text); }

const GPT2Embeddings<float>& small_embeddings() {
  static const GPT2Embeddings<float> embeddings(small_config(), 1);
  return embeddings;
}

/// A tensor of a file, and the memory it lies in.
struct Tensor {
  std::string name;
  DType dtype;
  std::vector<std::uint64_t> shape;
  std::string bytes;
};

Tensor wte_tensor(std::string name = "wte.weight") {
  const auto weight = small_embeddings();
  return {std::move(name),
          DType::F32,
          {3, 4},
          test::bytes_of(std::vector<float>(weight.wte.weight().data(), weight.wte.weight().data() + 12))};
}
Tensor wpe_tensor(std::string name = "wpe.weight") {
  const auto weight = small_embeddings();
  return {std::move(name),
          DType::F32,
          {2, 4},
          test::bytes_of(std::vector<float>(weight.wpe.weight().data(), weight.wpe.weight().data() + 8))};
}

void write_tensors(const std::filesystem::path& path, const std::vector<Tensor>& tensors) {
  std::vector<NamedTensor> named;
  for (const Tensor& tensor : tensors) {
    named.push_back({tensor.name, {tensor.dtype, tensor.shape, std::as_bytes(std::span(tensor.bytes))}});
  }
  save_safetensors(path, named);
}

/// A folder with a config and those tensors.
void write_checkpoint(const TemporaryFolder& folder, const std::vector<Tensor>& tensors) {
  write_file(folder / "config.json", config_text);
  write_tensors(folder / "model.safetensors", tensors);
}

/// A folder with a config, and tensors in shards.
void write_shards(const TemporaryFolder& folder, const std::string& weight_map,
                  const std::map<std::string, std::vector<Tensor>>& shards) {
  write_file(folder / "config.json", config_text);
  write_file(folder / "model.safetensors.index.json",
             R"({"metadata": {"total_size": 80}, "weight_map": )" + weight_map + "}");
  for (const auto& [name, tensors] : shards) write_tensors(folder / name, tensors);
}

template <class E = GPT2Embeddings<float>>
CheckpointError load_error(const TemporaryFolder& folder) {
  const auto load = [&](LoadMode mode) {
    return error_of<CheckpointError>([&] { static_cast<void>(from_pretrained<E>(folder.path(), mode)); });
  };
  const CheckpointError error = load(LoadMode::mapped);
  CHECK(load(LoadMode::copied).what() == std::string(error.what()));
  return error;
}

template <class E = GPT2Embeddings<float>>
std::string load_kind(const TemporaryFolder& folder) {
  return load_error<E>(folder).kind();
}

void check_loads(const TemporaryFolder& folder) {
  const GPT2Embeddings<float> expected = small_embeddings();
  for (const LoadMode mode : {LoadMode::mapped, LoadMode::copied}) {
    const auto loaded = from_pretrained<GPT2Embeddings<float>>(folder.path(), mode);
    CHECK(same_bits(loaded.wte.weight(), expected.wte.weight()));
    CHECK(same_bits(loaded.wpe.weight(), expected.wpe.weight()));
    const auto positions = from_pretrained<GPT2PositionEmbeddings<float>>(folder.path(), mode);
    CHECK(same_bits(positions.wpe.weight(), expected.wpe.weight()));
  }
}

template <class T>
Matrix<T> cast_table(const Embedding<double>& table) {
  Matrix<T> result(table.num_embeddings(), table.embedding_dim());
  for (Index i = 0; i < result.size(); ++i) result.data()[i] = detail::convert<T>(table.weight().data()[i]);
  return result;
}

}  // namespace

TEST_CASE("tables load under any prefix", "[pretrained]") {
  for (const std::string prefix :
       {"", "transformer.", "model.", "_orig_mod.transformer.", "module.", "a.b.c."}) {
    const TemporaryFolder folder;
    write_checkpoint(folder, {wte_tensor(prefix + "wte.weight"), wpe_tensor(prefix + "wpe.weight")});
    check_loads(folder);
  }
}

TEST_CASE("tables under different prefixes are refused", "[pretrained]") {
  const TemporaryFolder folder;
  write_checkpoint(folder, {wte_tensor("transformer.wte.weight"), wpe_tensor()});
  const CheckpointError error = load_error(folder);
  CHECK(error.kind() == "TensorNotFound");
  CHECK(error.tensor() == "transformer.wpe.weight");
  CHECK(contains(error.what(), "beside transformer.wte.weight; wpe.weight, which is, has another prefix"));
}

TEST_CASE("tensors that are not asked for do not matter", "[pretrained]") {
  const TemporaryFolder folder;
  write_checkpoint(folder, {wte_tensor(),
                            wpe_tensor(),
                            {"lm_head.weight", DType::F32, {3, 4}, std::string(48, 'x')},
                            {"h.0.attn.bias", DType::BOOL, {1, 1, 2, 2}, "\1\1\1\1"},
                            {"q", DType::F4, {2}, "x"},
                            {"e.weight", DType::F8_E8M0, {0}, ""}});
  check_loads(folder);
}

TEST_CASE("tables load from shards", "[pretrained]") {
  const TemporaryFolder folder;
  write_shards(
      folder,
      R"({"wte.weight": "a.safetensors", "wpe.weight": "b.safetensors", "h.0.ln_1.weight": "missing"})",
      {{"a.safetensors", {wte_tensor()}}, {"b.safetensors", {wpe_tensor()}}});
  check_loads(folder);
}

#if !defined(_WIN32)  // where it takes rights to make links, and MinGW's library has none
TEST_CASE("a shard may be in a folder below, or a link out of the folder", "[pretrained]") {
  const TemporaryFolder blobs;
  write_tensors(blobs / "blob", {wte_tensor("transformer.wte.weight"), wpe_tensor("transformer.wpe.weight")});
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder / "sub");
  write_shards(folder, R"({"transformer.wte.weight": "link", "transformer.wpe.weight": "sub/link"})", {});
  std::filesystem::create_symlink(blobs / "blob", folder / "link");
  std::filesystem::create_symlink(blobs / "blob", folder / "sub" / "link");
  check_loads(folder);
}
#endif

TEST_CASE("model.safetensors wins over an index", "[pretrained]") {
  const TemporaryFolder folder;
  write_shards(folder, "\"nonsense\"", {});
  write_checkpoint(folder, {wte_tensor(), wpe_tensor()});
  check_loads(folder);
}

#if !defined(_WIN32)
TEST_CASE("a model.safetensors that leads nowhere is an error, not a reason to look elsewhere",
          "[pretrained]") {
  const TemporaryFolder folder;
  write_shards(folder, R"({"wte.weight": "a", "wpe.weight": "a"})", {{"a", {wte_tensor(), wpe_tensor()}}});
  std::filesystem::create_symlink("nowhere", folder / "model.safetensors");
  CHECK(load_kind(folder) == "IoError");
}
#endif

TEMPLATE_TEST_CASE("every floating-point dtype becomes every scalar, rounded once", "[pretrained]", float,
                   double, Eigen::half, Eigen::bfloat16) {
  const GPT2Embeddings<double> exact(small_config(), 7);
  const auto check = [&](const auto& saved) {
    const TemporaryFolder folder;
    save_pretrained(folder.path(), small_config(), saved);
    for (const LoadMode mode : {LoadMode::mapped, LoadMode::copied}) {
      const auto loaded = from_pretrained<GPT2Embeddings<TestType>>(folder.path(), mode);
      // Every value of the file is exact in double, so expected values are given in double.
      const Matrix<double> wte = saved.wte.weight().template cast<double>();
      const Matrix<double> wpe = saved.wpe.weight().template cast<double>();
      CHECK(same_bits(loaded.wte.weight(), cast_table<TestType>(Embedding<double>(wte))));
      CHECK(same_bits(loaded.wpe.weight(), cast_table<TestType>(Embedding<double>(wpe))));
    }
  };
  check(exact);
  check(GPT2Embeddings<float>(Embedding<float>(cast_table<float>(exact.wte)),
                              Embedding<float>(cast_table<float>(exact.wpe))));
  check(GPT2Embeddings<Eigen::half>(Embedding<Eigen::half>(cast_table<Eigen::half>(exact.wte)),
                                    Embedding<Eigen::half>(cast_table<Eigen::half>(exact.wpe))));
  check(GPT2Embeddings<Eigen::bfloat16>(Embedding<Eigen::bfloat16>(cast_table<Eigen::bfloat16>(exact.wte)),
                                        Embedding<Eigen::bfloat16>(cast_table<Eigen::bfloat16>(exact.wpe))));
}

TEST_CASE("a double becomes a half or a bfloat16 without a stop at float", "[pretrained]") {
  const auto half = [](double value) { return static_cast<double>(detail::convert<Eigen::half>(value)); };
  const auto bfloat16 = [](double value) {
    return static_cast<double>(detail::convert<Eigen::bfloat16>(value));
  };
  const double infinity = std::numeric_limits<double>::infinity();
  // A little more, and a little less, than the middle between two halves. As floats they are the middle.
  CHECK(half(1 + std::ldexp(1, -11) + std::ldexp(1, -40)) == 1 + std::ldexp(1, -10));
  CHECK(half(1 + std::ldexp(3, -11) - std::ldexp(1, -40)) == 1 + std::ldexp(1, -10));
  CHECK(half(-1 - std::ldexp(1, -11) - std::ldexp(1, -40)) == -1 - std::ldexp(1, -10));
  CHECK(bfloat16(1 + std::ldexp(1, -8) + std::ldexp(1, -40)) == 1 + std::ldexp(1, -7));
  CHECK(bfloat16(1 + std::ldexp(3, -8) - std::ldexp(1, -40)) == 1 + std::ldexp(1, -7));
  // The middle itself goes to the even neighbour.
  CHECK(half(1 + std::ldexp(1, -11)) == 1);
  CHECK(half(1 + std::ldexp(3, -11)) == 1 + std::ldexp(1, -9));
  // The ends of the range.
  CHECK(half(65519.999999) == 65504);
  CHECK(half(65520) == infinity);
  CHECK(half(-1e300) == -infinity);
  CHECK(half(std::ldexp(1, -25)) == 0);
  CHECK(half(std::ldexp(1, -25) * (1 + 1e-12)) == std::ldexp(1, -24));
  CHECK(half(1e-300) == 0);
  CHECK(std::signbit(half(-1e-300)));
  CHECK(bfloat16(1e300) == infinity);
  CHECK(bfloat16(1e-300) == 0);
  CHECK(half(infinity) == infinity);
  CHECK(std::isnan(half(std::numeric_limits<double>::quiet_NaN())));
  CHECK(std::isnan(bfloat16(std::numeric_limits<double>::quiet_NaN())));
}

TEST_CASE("a mapped table is the file, a copied one is not", "[pretrained]") {
  const TemporaryFolder folder;
  save_pretrained(folder.path(), small_config(), small_embeddings());
  const auto mapped = from_pretrained<GPT2Embeddings<float>>(folder.path());
  const auto copied = from_pretrained<GPT2Embeddings<float>>(folder.path(), LoadMode::copied);
  const auto widened = from_pretrained<GPT2Embeddings<double>>(folder.path());
  const float before = test::weight_of(small_embeddings().wte)(2, 3);
  {
    // In place, which one should not do. The last tensor in the file is wte.
    std::fstream file(folder / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-4, std::ios::end);
    const float nine = 9;
    file.write(reinterpret_cast<const char*>(&nine), 4);
  }
  CHECK(copied.wte.weight()(2, 3) == before);
  CHECK(widened.wte.weight()(2, 3) == static_cast<double>(before));
  CHECK(mapped.wte.weight()(2, 3) == 9);
}

TEST_CASE("a mapped table outlives its file, and may be changed", "[pretrained]") {
  auto folder = std::make_unique<TemporaryFolder>();
  save_pretrained(folder->path(), small_config(), small_embeddings());
  auto loaded = from_pretrained<GPT2Embeddings<float>>(folder->path());
  folder.reset();
  CHECK(same_bits(loaded.wte.weight(), test::weight_of(small_embeddings().wte)));
  loaded.wte.mutable_weight()(0, 0) = 5;
  CHECK(loaded.wte.weight()(0, 0) == 5);
}

TEST_CASE("a table at an odd address is copied", "[pretrained]") {
  const TemporaryFolder folder;
  write_file(folder / "config.json", config_text);
  for (int shift = 0; shift < 8; ++shift) {
    const std::string header = R"({"wte.weight":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]},)"
                               R"("wpe.weight":{"dtype":"F32","shape":[2,4],"data_offsets":[48,80]}})";
    write_file(folder / "model.safetensors",
               test::safetensors_file(header + std::string(static_cast<std::size_t>(shift), ' '),
                                      wte_tensor().bytes + wpe_tensor().bytes));
    check_loads(folder);
  }
}

TEST_CASE("a table of another dtype is refused", "[pretrained]") {
  for (const DType dtype : {DType::I32, DType::U32}) {
    const TemporaryFolder folder;
    Tensor wte = wte_tensor();
    wte.dtype = dtype;
    write_checkpoint(folder, {wte, wpe_tensor()});
    const CheckpointError error = load_error(folder);
    CHECK(error.kind() == "UnexpectedDType");
    CHECK(error.tensor() == "wte.weight");
    CHECK(contains(error.what(), "wte.weight: is " + std::string(to_string(dtype)) +
                                     " of shape [3, 4], expected F64, F32, F16 or BF16"));
    CHECK(from_pretrained<GPT2PositionEmbeddings<float>>(folder.path()).wpe.num_embeddings() == 2);
  }
}

TEST_CASE("a table of another shape than the config's is refused", "[pretrained]") {
  for (const std::vector<std::uint64_t>& shape :
       std::vector<std::vector<std::uint64_t>>{{4, 3}, {12}, {3, 4, 1}, {1, 3, 4}, {6, 2}}) {
    const TemporaryFolder folder;
    Tensor wte = wte_tensor("transformer.wte.weight");
    wte.shape = shape;
    write_checkpoint(folder, {wte, wpe_tensor()});
    const CheckpointError error = load_error(folder);
    CHECK(error.kind() == "UnexpectedShape");
    CHECK(error.tensor() == "transformer.wte.weight");
    CHECK(error.path() == (folder / "model.safetensors").string());
    CHECK(contains(error.what(), "expected [vocab_size, n_embd] = [3, 4]"));
  }
  const TemporaryFolder folder;
  Tensor wpe = wpe_tensor();
  wpe.shape = {4, 2};
  write_checkpoint(folder, {wte_tensor(), wpe});
  CHECK(contains(load_error<GPT2PositionEmbeddings<float>>(folder).what(),
                 "wpe.weight: is F32 of shape [4, 2], expected [n_positions, n_embd] = [2, 4]"));
}

TEST_CASE("a table that is missing, or there twice, is refused", "[pretrained]") {
  const TemporaryFolder folder;
  write_checkpoint(folder, {wpe_tensor(), wte_tensor("model.wte.weight")});
  CHECK(load_kind(folder) == "TensorNotFound");
  CHECK(load_error(folder).tensor() == "model.wpe.weight");
  write_checkpoint(folder, {wpe_tensor(), wte_tensor(), wte_tensor("transformer.wte.weight")});
  CHECK(load_error(folder).tensor() == "wte.weight");
  CHECK(contains(load_error(folder).what(), "could be any of 2 tensors: transformer.wte.weight, wte.weight"));
  CHECK(load_kind(folder) == "AmbiguousTensor");
  CHECK(from_pretrained<GPT2PositionEmbeddings<float>>(folder.path()).wpe.num_embeddings() == 2);

  const TemporaryFolder sharded;
  write_shards(sharded, R"({"wte.weight": "a", "wpe.weight": "a", "transformer.wte.weight": "b"})",
               {{"a", {wte_tensor(), wpe_tensor()}}});
  CHECK(load_kind(sharded) == "AmbiguousTensor");
  write_shards(sharded, R"({"wte.weight": "a"})", {{"a", {wte_tensor(), wpe_tensor()}}});
  CHECK(load_kind(sharded) == "TensorNotFound");
  CHECK(load_error(sharded).path() == (sharded / "model.safetensors.index.json").string());
  write_shards(sharded, R"({"wte.weight": "a", "wpe.weight": "a"})", {{"a", {wte_tensor()}}});
  CHECK(load_kind(sharded) == "TensorNotFound");
  CHECK(load_error(sharded).path() == (sharded / "a").string());
  write_shards(sharded, R"({"wte.weight": "a", "wpe.weight": "missing"})", {});
  CHECK(load_kind(sharded) == "IoError");
}

TEST_CASE("a shard's name stays in the folder", "[pretrained]") {
  for (const std::string name : {"", ".", "..", "../a", "a/..", "a/../b", "./a", "a/./b", "/a", "//a", "a//b",
                                 "a/", "a\\\\b", "..\\\\a", "a\\u0000", "\\u0000", "a\\nb", "C:\\\\a"}) {
    INFO(name);
    // For the tables, and also for tensors that are never accessed.
    for (const std::string tensor : {"wte.weight", "h.0.ln_1.weight"}) {
      const TemporaryFolder folder;
      write_shards(folder, R"({"wpe.weight": "a", ")" + tensor + R"(": ")" + name + "\"}",
                   {{"a", {wte_tensor(), wpe_tensor()}}});
      const CheckpointError error = load_error(folder);
      CHECK(error.kind() == "IndexInvalid");
      CHECK(error.tensor() == tensor);
    }
  }
}

TEST_CASE("an index that is not one is refused", "[pretrained]") {
  const TemporaryFolder folder;
  write_file(folder / "config.json", config_text);
  for (const std::string_view text :
       {"", "{", "[]", "null", "{}", "{\"weight_map\": null}", "{\"weight_map\": []}", "{\"weight_map\": 1}",
        R"({"weight_map": {"a": 1}})", R"({"weight_map": {"a": null}})", R"({"weight_map": {"a": ["b"]}})",
        R"({"weight_map": {"a": {}}})", R"({"weight_map": {"a": "b", "a": "b"}})",
        R"({"weight_map": {}, "weight_map": {}})", R"({"weight_map": {}} x)",
        R"({"metadata": {"weight_map": {}}})", R"({"metadata": {"total_size": Infinity}, "weight_map": {}})",
        R"({"metadata": 1e999, "weight_map": {}})"}) {
    INFO(text);
    write_file(folder / "model.safetensors.index.json", text);
    CHECK(load_kind(folder) == "IndexInvalid");
  }
  write_file(folder / "model.safetensors.index.json",
             R"({"weight_map": {}, "x": {"weight_map": [{"a": []}]}})");
  CHECK(load_kind(folder) == "TensorNotFound");
  // It is not read: there is nothing in it.
  std::filesystem::resize_file(folder / "model.safetensors.index.json", 100'000'001);
  CHECK(load_kind(folder) == "IndexInvalid");
  CHECK(test::contains(load_error(folder).what(), "is larger than 100000000 bytes"));
}

TEST_CASE("a folder without a config or a model is refused", "[pretrained]") {
  const TemporaryFolder folder;
  CHECK(load_kind(folder) == "IoError");
  CHECK(load_error(folder).path() == (folder / "config.json").string());
  write_file(folder / "config.json", config_text);
  CHECK(load_kind(folder) == "IoError");
  CHECK(load_error(folder).path() == folder.path().string());
  write_file(folder / "config.json", R"({"n_embd": "4"})");
  CHECK(load_kind(folder) == "ConfigInvalid");
}

TEMPLATE_TEST_CASE("saved tables are loaded, bit for bit", "[pretrained]", float, double, Eigen::half,
                   Eigen::bfloat16) {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "a" / "b";
  GPT2Config config = small_config();
  config.n_inner = 17;
  const GPT2Embeddings<TestType> embeddings(config, 3);
  save_pretrained(path, config, embeddings);
  const auto loaded = from_pretrained<GPT2Embeddings<TestType>>(path);
  CHECK(same_bits(loaded.wte.weight(), embeddings.wte.weight()));
  CHECK(same_bits(loaded.wpe.weight(), embeddings.wpe.weight()));
  CHECK(from_pretrained<GPT2Config>(path) == config);
  const SafeTensors file = SafeTensors::open(path / "model.safetensors");
  CHECK(file.names() == std::vector<std::string>{"wpe.weight", "wte.weight"});
  CHECK(file["wte.weight"].dtype == detail::dtype_of<TestType>);
  CHECK(file.metadata() == std::map<std::string, std::string>{{"format", "pt"}});
}

TEST_CASE("a checkpoint may be saved over the one it is mapped from", "[pretrained]") {
  const TemporaryFolder folder;
  save_pretrained(folder.path(), small_config(), small_embeddings());
  {
    auto loaded = from_pretrained<GPT2Embeddings<float>>(folder.path());
    loaded.wpe.mutable_weight().setConstant(4);
    save_pretrained(folder.path(), small_config(), loaded);
    CHECK(same_bits(loaded.wte.weight(), small_embeddings().wte.weight()));
    // Once more, with the one that was replaced still mapped.
    save_pretrained(folder.path(), small_config(), loaded);
  }
  // On Windows the old file exists as long as it is mapped.
  const auto again = from_pretrained<GPT2Embeddings<float>>(folder.path());
  CHECK(same_bits(again.wte.weight(), test::weight_of(small_embeddings().wte)));
  CHECK(again.wpe.weight().minCoeff() == 4);
  CHECK(folder.names().size() == 2);
}

TEST_CASE("a config that JSON cannot hold is not saved, nor are its tables", "[pretrained]") {
  const TemporaryFolder folder;
  GPT2Config config = small_config();
  config.activation_function = "\xff";
  const auto error = test::error_of<ConfigError>(
      [&] { save_pretrained(folder.path() / "new", config, small_embeddings()); });
  CHECK(error.field() == "activation_function");
  CHECK_FALSE(std::filesystem::exists(folder.path() / "new"));
}

TEST_CASE("tables that are not the config's are not saved", "[pretrained]") {
  const TemporaryFolder folder;
  const std::filesystem::path path = folder / "x";
  const auto save = [&](const GPT2Config& config) {
    return error_of<ShapeError>([&] { save_pretrained(path, config, small_embeddings()); });
  };
  GPT2Config config = small_config();
  config.vocab_size = 4;
  CHECK(std::string(save(config).what()) ==
        "[gpt2.shape_error] wte is [3, 4], expected [vocab_size, n_embd] = [4, 4]");
  config = small_config();
  config.n_positions = 1;
  CHECK(std::string(save(config).what()) ==
        "[gpt2.shape_error] wpe is [2, 4], expected [n_positions, n_embd] = [1, 4]");
  config = small_config();
  config.n_embd = 5;
  CHECK(save(config).name() == "wte");
  config = small_config();
  config.n_head = 0;
  CHECK(error_of<ConfigError>([&] { save_pretrained(path, config, small_embeddings()); }).field() ==
        "n_head");
  CHECK(folder.names().empty());
}

TEST_CASE("a folder that cannot be made is a CheckpointError", "[pretrained]") {
  const TemporaryFolder folder;
  write_file(folder / "file", "");
  for (const std::filesystem::path& path : {folder / "file", folder / "file" / "x"}) {
    CHECK(error_of<CheckpointError>([&] {
            save_pretrained(path, small_config(), small_embeddings());
          }).kind() == "IoError");
  }
}

}  // namespace pretrained_tests
