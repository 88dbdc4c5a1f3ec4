// SPDX-License-Identifier: MIT
#include "gpt2/checkpoint.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "catch.hpp"
#include "gpt2/config_json.hpp"
#include "gpt2/pretrained.hpp"
#include "gpt2/quantized_checkpoint.hpp"
#include "gpt2/safetensors.hpp"
#include "support.hpp"
#include "temporary_folder.hpp"

#if __has_include(<sys/resource.h>)
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace checkpoint_tests {

using namespace gpt2;
using test::contains;
using test::error_of;
using test::same_bits;
using test::TemporaryFolder;
using test::write_file;

namespace {

constexpr const char* config_text =
    R"({"model_type": "gpt2", "vocab_size": 3, "n_positions": 2, "n_embd": 4})";

const std::vector<float>& elements() {
  static const std::vector<float> numbers = [] {
    std::vector<float> list(12);
    for (std::size_t i = 0; i < list.size(); ++i) list[i] = 0.25F * static_cast<float>(i);
    return list;
  }();
  return numbers;
}

/// A tensor of the first elements.
NamedTensor tensor(std::string name, std::vector<std::uint64_t> shape) {
  std::size_t size = 1;
  for (const std::uint64_t extent : shape) size *= static_cast<std::size_t>(extent);
  return {std::move(name), {DType::F32, std::move(shape), std::as_bytes(std::span(elements()).first(size))}};
}
NamedTensor wte(std::string name = "wte.weight") { return tensor(std::move(name), {3, 4}); }
NamedTensor wpe(std::string name = "wpe.weight") { return tensor(std::move(name), {2, 4}); }

void write_model(const std::filesystem::path& folder, const std::vector<NamedTensor>& tensors,
                 const std::string& config = config_text) {
  write_file(folder / "config.json", config);
  save_safetensors(folder / "model.safetensors", tensors);
}

/// The same tensors, each in a shard of its own.
void write_shards(const std::filesystem::path& folder, const std::vector<NamedTensor>& tensors,
                  const std::string& config = config_text) {
  write_file(folder / "config.json", config);
  std::string map;
  for (const NamedTensor& tensor : tensors) {
    map += (map.empty() ? "\"" : ", \"") + tensor.name + "\": \"" + tensor.name + ".safetensors\"";
    save_safetensors(folder / (tensor.name + ".safetensors"), std::span(&tensor, 1));
  }
  write_file(folder / "model.safetensors.index.json", "{\"weight_map\": {" + map + "}}");
}

/// Runs a check on the tensors in one file and in shards, mapped and copied.
template <class Check>
void in_every_form(const std::vector<NamedTensor>& tensors, const Check& check,
                   const std::string& config = config_text) {
  for (const bool sharded : {false, true}) {
    for (const LoadMode mode : {LoadMode::mapped, LoadMode::copied}) {
      const TemporaryFolder folder;
      (sharded ? write_shards : write_model)(folder.path(), tensors, config);
      INFO((sharded ? "sharded" : "one file") << (mode == LoadMode::mapped ? ", mapped" : ", copied"));
      check(Checkpoint::open(folder.path(), mode));
    }
  }
}

void check_loads(const Checkpoint& checkpoint) {
  const auto loaded = from_pretrained<GPT2Embeddings<float>>(checkpoint);
  CHECK(same_bits(loaded.wte.weight(), Eigen::Map<const Matrix<float>>(elements().data(), 3, 4)));
  CHECK(same_bits(loaded.wpe.weight(), Eigen::Map<const Matrix<float>>(elements().data(), 2, 4)));
  const auto positions = from_pretrained<GPT2PositionEmbeddings<double>>(checkpoint);
  CHECK(positions.wpe.weight()(1, 3) == 1.75);
}

CheckpointError load_error(const Checkpoint& checkpoint) {
  return error_of<CheckpointError>([&] { (void)from_pretrained<GPT2Embeddings<float>>(checkpoint); });
}

}  // namespace

TEST_CASE("a checkpoint gives its config and its tensors by name", "[checkpoint]") {
  in_every_form({wte(), wpe(), tensor("h.0.ln_1.weight", {4})}, [](const Checkpoint& checkpoint) {
    CHECK(checkpoint.config().n_positions == 2);
    CHECK(&checkpoint.config() == &checkpoint.config());
    CHECK(checkpoint.names() == std::vector<std::string>{"h.0.ln_1.weight", "wpe.weight", "wte.weight"});
    CHECK(checkpoint.contains("h.0.ln_1.weight"));
    CHECK_FALSE(checkpoint.contains("h.0.ln_1"));
    const TensorView norm = checkpoint["h.0.ln_1.weight"];
    CHECK(norm.shape == std::vector<std::uint64_t>{4});
    CHECK(std::memcmp(norm.bytes.data(), elements().data(), 16) == 0);
    CHECK(contains(checkpoint.file_of("wte.weight"), ".safetensors"));
    check_loads(checkpoint);
  });
}

TEST_CASE("a name that is not there is an error that names some that are", "[checkpoint]") {
  std::vector<NamedTensor> tensors;
  for (int i = 0; i < 9; ++i) tensors.push_back(tensor("t" + std::to_string(i), {1}));
  in_every_form(tensors, [](const Checkpoint& checkpoint) {
    const auto check = [](const auto& ask) {
      const auto error = error_of<CheckpointError>(ask);
      CHECK(error.kind() == "TensorNotFound");
      CHECK(error.tensor() == "t9");
      CHECK(contains(error.what(), "which has t0, t1, t2, t3, t4, t5 and 3 more"));
    };
    check([&] { (void)checkpoint["t9"]; });
    check([&] { (void)checkpoint.table<float>("t9", 1, 1); });
    check([&] { (void)checkpoint.file_of("t9"); });
    CHECK(contains(load_error(checkpoint).what(),
                   "wte.weight: is not there under any prefix; there are t0, t1, t2, t3, t4, t5 and 3 more"));
  });
}

TEST_CASE("the prefix is what stands before wte.weight", "[checkpoint]") {
  for (const std::string prefix : {"", "transformer.", "model.", "_orig_mod.transformer.", "module.model."}) {
    in_every_form({wte(prefix + "wte.weight"), wpe(prefix + "wpe.weight"), tensor("xwte.weight", {1})},
                  [&](const Checkpoint& checkpoint) {
                    CHECK(checkpoint.prefix() == prefix);
                    CHECK(checkpoint.wte_name() == prefix + "wte.weight");
                    CHECK(checkpoint.wpe_name() == prefix + "wpe.weight");
                    check_loads(checkpoint);
                  });
  }
}

TEST_CASE("a head beside wte is a tensor like any other", "[checkpoint]") {
  in_every_form({wte(), wpe(), tensor("lm_head.weight", {1})}, check_loads);
}

TEST_CASE("two tensors that could be wte are ambiguous, and named", "[checkpoint]") {
  for (const std::string other : {"transformer.wte.weight", "decoder.wte.weight"}) {
    in_every_form({wte(), wte(other), wpe()}, [&](const Checkpoint& checkpoint) {
      const CheckpointError error = load_error(checkpoint);
      CHECK(error.kind() == "AmbiguousTensor");
      CHECK(error.tensor() == "wte.weight");
      CHECK(contains(error.what(), other + ", wte.weight"));
      CHECK(error_of<CheckpointError>([&] { (void)checkpoint.prefix(); }).kind() == "AmbiguousTensor");
      // There is one wpe.
      CHECK(checkpoint.wpe_name() == "wpe.weight");
    });
  }
  in_every_form({wte(), wpe(), wpe("transformer.wpe.weight")}, [](const Checkpoint& checkpoint) {
    CHECK(load_error(checkpoint).kind() == "AmbiguousTensor");
  });
}

TEST_CASE("a tied table is found under the head's name", "[checkpoint]") {
  const std::pair<std::string, std::string> names[] = {
      {"lm_head.weight", "transformer.wpe.weight"},
      {"lm_head.weight", "wpe.weight"},
      {"_orig_mod.lm_head.weight", "_orig_mod.transformer.wpe.weight"}};
  for (const auto& [head, positions] : names) {
    in_every_form({wte(head), wpe(positions)},
                  [&, &head = head, &positions = positions](const Checkpoint& checkpoint) {
                    CHECK(checkpoint.wte_name() == head);
                    CHECK(checkpoint.wpe_name() == positions);
                    CHECK(checkpoint.prefix() + "wpe.weight" == positions);
                    check_loads(checkpoint);
                  });
  }
  in_every_form({tensor("lm_head.weight", {2, 4}), wpe()}, [](const Checkpoint& checkpoint) {
    CHECK(load_error(checkpoint).kind() == "UnexpectedShape");
  });
  in_every_form({wte("lm_head.weight"), wpe("model.wpe.weight")}, [](const Checkpoint& checkpoint) {
    CHECK(load_error(checkpoint).kind() == "TensorNotFound");
  });
  in_every_form({wte("lm_head.weight"), wte("a.lm_head.weight"), wpe()}, [](const Checkpoint& checkpoint) {
    CHECK(load_error(checkpoint).kind() == "AmbiguousTensor");
  });
}

TEST_CASE("an untied head is not taken for wte, and the error says why", "[checkpoint]") {
  const std::string untied =
      R"({"vocab_size": 3, "n_positions": 2, "n_embd": 4, "tie_word_embeddings": false})";
  in_every_form(
      {wte("lm_head.weight"), wpe()},
      [](const Checkpoint& checkpoint) {
        const CheckpointError error = load_error(checkpoint);
        CHECK(error.kind() == "TensorNotFound");
        CHECK(contains(
            error.what(),
            "lm_head.weight is not taken for it, because config.json has tie_word_embeddings = false"));
      },
      untied);
}

TEST_CASE("tables ask the config for their own fields only", "[checkpoint]") {
  for (const std::string other :
       {R"("eos_token_id": [10])", R"("pad_token_id": -1)", R"("use_cache": null)", R"("resid_pdrop": null)",
        R"("layer_norm_epsilon": "1e-05")", R"("n_head": 0)", R"("tie_word_embeddings": "yes")"}) {
    in_every_form(
        {wte(), wpe()},
        [](const Checkpoint& checkpoint) {
          check_loads(checkpoint);
          CHECK(error_of<CheckpointError>([&] { (void)checkpoint.config(); }).kind() == "ConfigInvalid");
        },
        R"({"vocab_size": 3, "max_position_embeddings": 2, "n_embd": 4, )" + other + "}");
  }
  for (const std::string field : {R"("hidden_size": "4")", R"("n_embd": 4.0)", R"("n_ctx": -2)",
                                  R"("model_type": "bert")", R"("x": NaN)"}) {
    in_every_form(
        {wte(), wpe()},
        [](const Checkpoint& checkpoint) { CHECK(load_error(checkpoint).kind() == "ConfigInvalid"); },
        R"({"vocab_size": 3, )" + field + "}");
  }
}

TEST_CASE("a tensor becomes a table of its shape, a vector one of a single row", "[checkpoint]") {
  in_every_form(
      {tensor("a", {3, 4}), tensor("b", {5}), tensor("c", {1, 5}), tensor("e", {0, 4})},
      [](const Checkpoint& checkpoint) {
        const auto table = checkpoint.table<double>("a", 3, 4);
        CHECK(table.weight()(2, 3) == 2.75);
        const auto vector = checkpoint.vector<Eigen::half>("b", 5);
        CHECK(vector.num_embeddings() == 1);
        CHECK(static_cast<float>(vector.weight()(0, 4)) == 1);
        CHECK(checkpoint.table<float>("e", 0, 4).num_embeddings() == 0);
        const auto shape_error = [&](const auto& load) {
          const auto error = error_of<CheckpointError>(load);
          CHECK(error.kind() == "UnexpectedShape");
          return std::string(error.what());
        };
        CHECK(contains(shape_error([&] { (void)checkpoint.table<float>("a", 4, 3); }),
                       "a: is F32 of shape [3, 4], expected [4, 3]"));
        CHECK(contains(shape_error([&] { (void)checkpoint.table<float>("a", 3, 5, "[in, out]"); }),
                       "expected [in, out] = [3, 5]"));
        CHECK(contains(shape_error([&] { (void)checkpoint.table<float>("b", 1, 5); }), "expected [1, 5]"));
        CHECK(contains(shape_error([&] { (void)checkpoint.vector<float>("c", 5); }), "expected [5]"));
        CHECK(contains(shape_error([&] { (void)checkpoint.table<float>("a", -3, 4); }), "expected [-3, 4]"));
      });
}

TEST_CASE("a table outlives its checkpoint and the file", "[checkpoint]") {
  for (const LoadMode mode : {LoadMode::mapped, LoadMode::copied}) {
    auto folder = std::make_unique<TemporaryFolder>();
    write_model(folder->path(), {wte(), wpe()});
    const auto table = Checkpoint::open(folder->path(), mode).table<float>("wte.weight", 3, 4);
    folder.reset();
    CHECK(table.weight()(2, 3) == 2.75F);
  }
}

TEST_CASE("a checkpoint opens by its folder, by a file, and by an entry of the Hugging Face cache",
          "[checkpoint]") {
  const TemporaryFolder folder;
  const auto entry = folder / "models--org--name";
  const auto snapshot = entry / "snapshots" / "0123abc";
  std::filesystem::create_directories(snapshot);
  std::filesystem::create_directories(entry / "refs");
  write_model(snapshot, {wte(), wpe()});
  const auto refusal = [&] {
    const auto error = error_of<CheckpointError>([&] { (void)Checkpoint::open(entry); });
    CHECK(error.kind() == "IoError");
    return std::string(error.what());
  };
  CHECK(contains(refusal(), "without refs/main: give the path to one of its snapshots (0123abc)"));
  for (const std::string_view name : {"", "../snapshots/0123abc", "snapshots/0123abc", "..", "/"}) {
    write_file(entry / "refs" / "main", name);
    CHECK(contains(refusal(), "whose refs/main is no name of a snapshot"));
  }
  write_file(entry / "refs" / "main", "4567");
  CHECK(contains(refusal(), "whose refs/main names 4567, which is not there"));
  write_file(entry / "refs" / "main", "0123abc\n");
  for (const auto& path : {entry, snapshot, snapshot / "model.safetensors", snapshot / "config.json"}) {
    INFO(path);
    check_loads(Checkpoint::open(path));
    CHECK(from_pretrained<GPT2Config>(path).n_embd == 4);
  }

  const auto sharded = folder / "sharded";
  std::filesystem::create_directories(sharded);
  write_shards(sharded, {wte(), wpe()});
  check_loads(Checkpoint::open(sharded / "model.safetensors.index.json"));
  CHECK(from_pretrained<GPT2Config>(sharded / "model.safetensors.index.json").n_embd == 4);
  // A file of another name, and only that.
  const Checkpoint one = Checkpoint::open(sharded / "wte.weight.safetensors");
  CHECK(one.names() == std::vector<std::string>{"wte.weight"});
}

TEST_CASE("a folder without a model says what it has in its place", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto open = [&] {
    return std::string(error_of<CheckpointError>([&] { (void)Checkpoint::open(folder.path()); }).what());
  };
  CHECK(contains(open(), "config.json: cannot be opened"));
  CHECK(contains(
      error_of<CheckpointError>([&] { (void)Checkpoint::open(folder / "x.safetensors").names(); }).what(),
      "x.safetensors: cannot be opened"));
  write_file(folder / "config.json", config_text);
  CHECK(contains(open(), "has neither model.safetensors nor model.safetensors.index.json ["));
  write_file(folder / "pytorch_model.bin", "");
  CHECK(contains(open(), ", but pytorch_model.bin, which is not read: load the folder with transformers"));
}

TEST_CASE("files that are none of a checkpoint's say what they are", "[checkpoint]") {
  const std::pair<std::string_view, std::string_view> files[] = {
      {"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 548105171\n", "run \"git lfs pull\""},
      {"<!DOCTYPE html>\n<html>...</html>", "is an HTML or XML page"},
      {"GGUF\3\0\0\0aaaaaaaaaaaaaaaa", "is a GGUF file"},
      {"PK\3\4aaaaaaaaaaaaaaaaaaaaaaaa", "is a zip archive"},
      {"\x80\2}aaaaaaaaaaaaaaaaaaaaaaaa", "is a pickle"}};
  for (const auto& [bytes, text] : files) {
    const TemporaryFolder folder;
    write_file(folder / "config.json", config_text);
    write_file(folder / "model.safetensors", bytes);
    CHECK(contains(load_error(Checkpoint::open(folder.path())).what(), std::string(text)));
    write_model(folder.path(), {wte(), wpe()}, std::string(bytes));
    const CheckpointError error = load_error(Checkpoint::open(folder.path()));
    CHECK(error.kind() == "ConfigInvalid");
    CHECK(contains(error.what(), std::string(text)));
    std::filesystem::remove(folder / "model.safetensors");
    write_shards(folder.path(), {wte(), wpe()});
    write_file(folder / "model.safetensors.index.json", bytes);
    CHECK(load_error(Checkpoint::open(folder.path())).kind() == "IndexInvalid");
  }
}

TEST_CASE("paths and shards are named in any script", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto named = folder.path() / std::u8string_view(u8"mod\u00e8le \u6a21\u578b \u0416");
  std::filesystem::create_directories(named);
  write_model(named, {wte(), wpe()});
  check_loads(Checkpoint::open(named));
  const auto again = from_pretrained<GPT2Embeddings<float>>(named);
  save_pretrained(named, parse_config(config_text), again);
  check_loads(Checkpoint::open(named));

  std::filesystem::remove(named / "model.safetensors");
  const std::string shard = "\xE6\xA8\xA1\xD0\x96.safetensors";
  save_safetensors(named / std::u8string(shard.begin(), shard.end()), std::vector{wte(), wpe()});
  write_file(named / "model.safetensors.index.json",
             R"({"weight_map": {"wte.weight": ")" + shard + R"(", "wpe.weight": ")" + shard + "\"}}");
  const Checkpoint checkpoint = Checkpoint::open(named);
  check_loads(checkpoint);
  CHECK(contains(checkpoint.file_of("wte.weight"), shard));
}

TEST_CASE("a table is saved as a tensor, a quantised one as three", "[checkpoint]") {
  const TemporaryFolder folder;
  const Embedding<double> table(test::drawn<double>(3, 4));
  const QuantizedEmbedding quantized(table);
  const NamedTensor named = named_tensor("a.weight", table);
  CHECK(named.name == "a.weight");
  CHECK(named.tensor.dtype == DType::F64);
  std::vector<NamedTensor> tensors{named};
  for (NamedTensor& part : named_tensor("q", quantized)) tensors.push_back(std::move(part));
  save_safetensors(folder / "tables.safetensors", tensors);
  const Checkpoint checkpoint = Checkpoint::open(folder / "tables.safetensors");
  const auto loaded = checkpoint.table<double>("a.weight", 3, 4);
  CHECK(same_bits(loaded.weight(), table.weight()));
  const QuantizedEmbedding loaded_quantized = load_quantized(checkpoint, "q");
  CHECK(loaded_quantized.values() == quantized.values());
  CHECK(checkpoint.names().size() == 4);
}

namespace {
template <class C>
concept GivesConfig = requires(C&& c) {
  std::forward<C>(c).config();
};
template <class C>
concept GivesTensors = requires(C&& c) {
  std::forward<C>(c)["wte.weight"];
};
template <class C>
concept GivesMetadata = requires(C&& c) {
  std::forward<C>(c).metadata();
};
template <class E>
concept IsNamed = requires(E&& e) {
  named_tensor("a", std::forward<E>(e));
};
}  // namespace

TEST_CASE("nothing that would dangle is given by a temporary", "[checkpoint]") {
  CHECK(GivesConfig<const Checkpoint&>);
  CHECK_FALSE(GivesConfig<Checkpoint>);
  CHECK(GivesTensors<const Checkpoint&>);
  CHECK_FALSE(GivesTensors<Checkpoint>);
  CHECK(GivesTensors<const SafeTensors&>);
  CHECK_FALSE(GivesTensors<SafeTensors>);
  CHECK(GivesMetadata<const SafeTensors&>);
  CHECK_FALSE(GivesMetadata<SafeTensors>);
  CHECK(IsNamed<const Embedding<float>&>);
  CHECK_FALSE(IsNamed<Embedding<float>>);
}

#if __has_include(<sys/resource.h>)
TEST_CASE("saving over a file keeps its permission bits, a new one follows the umask", "[checkpoint]") {
  const TemporaryFolder folder;
  const auto path = folder / "x.safetensors";
  const auto bits_of = [&] {
    struct stat status {};
    REQUIRE(::stat(path.c_str(), &status) == 0);
    return status.st_mode & 07777U;
  };
  const auto save = [&] { save_safetensors(path, std::vector{wte()}); };
  const ::mode_t before = ::umask(027);
  save();
  const auto fresh = bits_of();
  std::vector<unsigned> kept;
  for (const ::mode_t mode : {0600U, 0664U, 0666U, 0400U, 0777U}) {
    REQUIRE(::chmod(path.c_str(), mode) == 0);
    save();
    kept.push_back(bits_of());
  }
  ::umask(before);
  CHECK(fresh == 0640);
  CHECK(kept == std::vector<unsigned>{0600, 0664, 0666, 0400, 0777});
}

// Sanitizers reserve terabytes of address space.
#if defined(__SANITIZE_ADDRESS__)
#define HAS_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ADDRESS_SANITIZER
#endif
#endif
#ifndef HAS_ADDRESS_SANITIZER
TEST_CASE("of a file larger than the address space, what is needed is mapped", "[checkpoint]") {
  const TemporaryFolder folder;
  constexpr std::uint64_t large = std::uint64_t{6} << 30U;
  const std::string header = R"({"filler":{"dtype":"U8","shape":[)" + std::to_string(large) +
                             R"(],"data_offsets":[0,)" + std::to_string(large) +
                             R"(]},"wte.weight":{"dtype":"F32","shape":[3,4],"data_offsets":[)" +
                             std::to_string(large) + "," + std::to_string(large + 48) +
                             R"(]},"wpe.weight":{"dtype":"F32","shape":[2,4],"data_offsets":[)" +
                             std::to_string(large + 48) + "," + std::to_string(large + 80) + "]}}";
  write_file(folder / "config.json", config_text);
  const auto path = folder / "model.safetensors";
  write_file(path, test::safetensors_file(header));
  std::filesystem::resize_file(path, 8 + header.size() + large);
  {
    std::ofstream file(path, std::ios::binary | std::ios::app);
    file.write(reinterpret_cast<const char*>(elements().data()), 48);
    file.write(reinterpret_cast<const char*>(elements().data()), 32);
    REQUIRE(file.flush().good());
  }
  const ::pid_t child = ::fork();
  if (child == 0) {
    int status = 1;
    try {
      const ::rlimit limit{1U << 30U, 1U << 30U};
      if (::setrlimit(RLIMIT_AS, &limit) == 0) {
        bool well = true;
        for (const LoadMode mode : {LoadMode::mapped, LoadMode::copied}) {
          const auto loaded = from_pretrained<GPT2Embeddings<float>>(folder.path(), mode);
          well = well && loaded.wte.weight()(2, 3) == 2.75F && loaded.wpe.weight()(1, 3) == 1.75F;
        }
        const SafeTensors file = SafeTensors::open(path);
        well = well && file["wpe.weight"].bytes.size() == 32;
        status = well ? 0 : 2;
      }
    } catch (const std::exception& error) {
      static_cast<void>(std::fputs(error.what(), stderr));
    }
    ::_exit(status);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
}
#endif
#endif

}  // namespace checkpoint_tests
