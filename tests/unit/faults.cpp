// SPDX-License-Identifier: MIT
//
// Failures of the system: files that cannot be opened, read, mapped, written or renamed, reads that are
// interrupted or short, a file cut off while it is being loaded, and memory that runs out at any allocation. Each
// time there is a typed error or std::bad_alloc, nothing is leaked, no file is half written, and objects keep their
// state.
//
// The calls of the C library that the library makes are defined here, to fail on request and else to be forwarded.
// That takes glibc.

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <functional>
#include <iterator>
#include <map>
#include <new>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "counted_memory.hpp"
#include "gpt2/embeddings.hpp"
#include "gpt2/position_ids.hpp"
#include "gpt2/pretrained.hpp"
#include "gpt2/quantized_checkpoint.hpp"
#include "gpt2/safetensors.hpp"
#include "support.hpp"
#include "temporary_folder.hpp"

#if defined(__GLIBC__)
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdarg>
#endif

namespace {

/// The call that is to fail, if any.
struct Fault {
  const char* call = nullptr;
  int calls_until_failure = 0;  // 0 once it has failed
  int error = 0;
};
constinit Fault fault;

using Hook = void (*)(int fd);
constinit Hook after_examination = nullptr;  // called once a file's size is known
constinit bool interrupting_reads = false;   // every other one; the rest gives a few bytes at a time

}  // namespace

#if defined(__GLIBC__)
namespace {

constexpr bool injecting = true;

bool fails(const char* call) {
  if (fault.call == nullptr || std::strcmp(fault.call, call) != 0 || fault.calls_until_failure == 0)
    return false;
  if (--fault.calls_until_failure > 0) return false;
  errno = fault.error;
  return true;
}

/// The C library's own function.
template <class F>
F* forwarded(const char* name) {
  return reinterpret_cast<F*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  static const auto real = forwarded<int(const char*, int, ...)>("open");
  std::va_list arguments;
  va_start(arguments, flags);
  const auto mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, ::mode_t) : 0;
  va_end(arguments);
  return fails("open") ? -1 : real(path, flags, mode);
}
int fstat(int fd, struct stat* status) noexcept {
  static const auto real = forwarded<int(int, struct stat*)>("fstat");
  if (fails("fstat")) return -1;
  const int result = real(fd, status);
  if (after_examination != nullptr) std::exchange(after_examination, nullptr)(fd);
  return result;
}
void* mmap(void* address, std::size_t size, int protection, int flags, int fd, ::off_t offset) noexcept {
  static const auto real = forwarded<void*(void*, std::size_t, int, int, int, ::off_t)>("mmap");
  return fails("mmap") ? MAP_FAILED : real(address, size, protection, flags, fd, offset);
}
::ssize_t pread(int fd, void* out, std::size_t size, ::off_t offset) {
  static const auto real = forwarded<::ssize_t(int, void*, std::size_t, ::off_t)>("pread");
  static bool interrupt = false;
  if (fails("pread")) return -1;
  if (!interrupting_reads) return real(fd, out, size, offset);
  interrupt = !interrupt;
  if (!interrupt) return real(fd, out, std::min(size, std::size_t{3}), offset);
  errno = EINTR;
  return -1;
}
::ssize_t write(int fd, const void* bytes, std::size_t size) {
  static const auto real = forwarded<::ssize_t(int, const void*, std::size_t)>("write");
  if (!fails("write")) return real(fd, bytes, size);
  static_cast<void>(real(fd, bytes, size / 2));  // as far as there was room on the disk
  errno = fault.error;
  return -1;
}
int fsync(int fd) {
  static const auto real = forwarded<int(int)>("fsync");
  return fails("fsync") ? -1 : real(fd);
}
int close(int fd) {
  static const auto real = forwarded<int(int)>("close");
  const int result = real(fd);  // gone, even if it fails
  return fails("close") ? -1 : result;
}
int fchmod(int fd, ::mode_t mode) noexcept {
  static const auto real = forwarded<int(int, ::mode_t)>("fchmod");
  return fails("fchmod") ? -1 : real(fd, mode);
}
int rename(const char* from, const char* to) noexcept {
  static const auto real = forwarded<int(const char*, const char*)>("rename");
  return fails("rename") ? -1 : real(from, to);
}
}

#else
namespace {

constexpr bool injecting = false;

}  // namespace
#endif

namespace faults_tests {

using namespace gpt2;
using test::error_of;
using test::read_file;
using test::TemporaryFolder;

namespace {

const GPT2Config config{.vocab_size = 20, .n_positions = 8, .n_embd = 6};

/// The number of files that the process has open; 0 if that is unknown.
std::size_t open_files() {
  std::error_code error;
  const std::filesystem::directory_iterator files("/proc/self/fd", error);
  return error ? 0 : static_cast<std::size_t>(std::distance(begin(files), end(files)));
}

/// The files of a folder and their bytes.
std::map<std::string, std::string> contents(const std::filesystem::path& folder) {
  std::map<std::string, std::string> contents;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    contents[entry.path().filename().string()] = read_file(entry.path());
  }
  return contents;
}

/// Something that is read or written, by name. It returns whether that was done well.
struct Operation {
  const char* name;
  std::function<bool()> run;
};

/// A checkpoint, the same in shards and in half precision, and a quantised table.
struct Files {
  TemporaryFolder folder;
  GPT2Embeddings<float> embeddings{config};
  QuantizedEmbedding quantized{embeddings.wte};

  Files() {
    save_pretrained(folder / "model", config, embeddings);
    save_quantized(folder / "quantized", "wte", quantized);
    std::filesystem::create_directory(folder / "shards");
    std::filesystem::copy(folder / "model" / "config.json", folder / "shards");
    std::filesystem::copy(folder / "model" / "model.safetensors", folder / "shards" / "1");
    test::write_file(folder / "shards" / "model.safetensors.index.json",
                     R"({"weight_map":{"wte.weight":"1","wpe.weight":"1"}})");
  }

  [[nodiscard]] std::vector<Operation> loads() const {
    const auto open = [this](LoadMode mode) {
      return [=, this] { return SafeTensors::open(folder / "quantized", mode).size() == 3; };
    };
    const auto load = [this](const char* name, LoadMode mode) {
      return [=, this] {
        const auto loaded = from_pretrained<GPT2Embeddings<float>>(folder / name, mode);
        return test::same_bits(loaded.wte.weight(), embeddings.wte.weight()) &&
               test::same_bits(loaded.wpe.weight(), embeddings.wpe.weight());
      };
    };
    const auto load_halves = [this] {
      const auto loaded =
          from_pretrained<GPT2PositionEmbeddings<Eigen::half>>(folder / "model", LoadMode::copied);
      return test::same_bits(loaded.wpe.weight(), embeddings.wpe.weight().cast<Eigen::half>());
    };
    const auto load_bytes = [this] {
      const QuantizedEmbedding loaded = load_quantized(folder / "quantized", "wte");
      return test::same_bits(loaded.values(), quantized.values());
    };
    const auto load_config = [this] { return from_pretrained<GPT2Config>(folder / "model") == config; };
    return {{"a file, mapped", open(LoadMode::mapped)},
            {"a file, copied", open(LoadMode::copied)},
            {"a quantised table", load_bytes},
            {"a config", load_config},
            {"a checkpoint, mapped", load("model", LoadMode::mapped)},
            {"a checkpoint, copied", load("model", LoadMode::copied)},
            {"a checkpoint, converted", load_halves},
            {"shards", load("shards", LoadMode::mapped)}};
  }

  [[nodiscard]] std::vector<Operation> saves() const {
    const auto save_bytes = [this] {
      save_quantized(folder / "model" / "model.safetensors", "wte", quantized);
      return true;
    };
    const auto save = [this] {
      save_pretrained(folder / "model", config, embeddings);
      return true;
    };
    return {{"a quantised table", save_bytes}, {"a checkpoint", save}};
  }
};

/// Runs an operation while the n-th call of a name fails. Returns whether there was such a call; and the kind of the
/// error, empty if all was done well.
std::pair<bool, std::string> kind_with_fault(const char* call, int n, int error, const Operation& operation) {
  fault = {call, n, error};
  std::string kind;
  try {
    if (!operation.run()) kind = "none, but not well done";
  } catch (const CheckpointError& caught) {
    kind = caught.kind();
  }
  const bool failed = fault.calls_until_failure == 0;
  fault = {};
  return {failed, kind};
}

}  // namespace

TEST_CASE("a system call that fails while a file is loaded is an IoError, and nothing stays open",
          "[faults]") {
  const Files files;
  std::size_t failures = 0;
  for (const Operation& load : files.loads()) {
    for (const char* const call : {"open", "fstat", "mmap", "pread"}) {
      for (int n = 1; injecting; ++n) {
        INFO(load.name << ": " << call << ", call " << n);
        const std::size_t open_before = open_files();
        const auto [failed, kind] = kind_with_fault(call, n, EIO, load);
        CHECK(open_files() == open_before);
        CHECK(kind == (failed ? "IoError" : ""));
        if (!failed) break;
        ++failures;
      }
    }
  }
  CHECK(failures >= (injecting ? 40U : 0U));
}

TEST_CASE("a file system that cannot map is read", "[faults]") {
  const Files files;
  for (const Operation& load : files.loads()) {
    for (const int error : {ENODEV, ENOTSUP, ENOSYS}) {
      for (int n = 1; injecting; ++n) {
        INFO(load.name << ": call " << n);
        const auto [failed, kind] = kind_with_fault("mmap", n, error, load);
        CHECK(kind.empty());
        if (!failed) break;
      }
    }
  }
}

TEST_CASE("a file system without permissions is written to", "[faults]") {
  const Files files;
  CHECK(kind_with_fault("fchmod", 1, EPERM, files.saves()[0]) == std::pair(injecting, std::string()));
}

TEST_CASE("interrupted calls are made again, and short reads go on", "[faults]") {
  const Files files;
  for (const Operation& load : files.loads()) {
    INFO(load.name);
    CHECK(kind_with_fault("open", 1, EINTR, load) == std::pair(injecting, std::string()));
    interrupting_reads = true;
    const bool well = load.run();
    interrupting_reads = false;
    CHECK(well);
  }
}

TEST_CASE("a system call that fails while a file is written leaves the old file, and nothing beside it",
          "[faults]") {
  std::size_t failures = 0;
  for (const char* const call : {"open", "write", "fsync", "close", "rename"}) {
    for (const std::size_t which : {0U, 1U}) {
      for (int n = 1; injecting; ++n) {
        const Files files;
        const Operation save = files.saves()[which];
        INFO(save.name << ": " << call << ", call " << n);
        test::write_file(files.folder / "model" / "model.safetensors", "old");
        test::write_file(files.folder / "model" / "config.json", "old");
        const std::size_t open_before = open_files();
        const auto [failed, kind] = kind_with_fault(call, n, ENOSPC, save);
        CHECK(open_files() == open_before);
        const auto after = contents(files.folder / "model");
        CHECK(after.size() == 2);
        if (!failed) {
          CHECK(kind.empty());
          break;
        }
        ++failures;
        if (kind.empty()) {
          // The folder is synchronised as well as it can be, when the file is already in place.
          CHECK((std::string_view(call) != "write" && std::string_view(call) != "rename" && n > 1));
          CHECK(after.at("model.safetensors") != "old");
        } else {
          CHECK(kind == "IoError");
          CHECK(after.at("config.json") == "old");
          // Of a checkpoint, the first file may have been replaced, as a whole.
          const std::string& tensors = after.at("model.safetensors");
          CHECK(
              (tensors == "old" ||
               (which == 1 && SafeTensors::open(files.folder / "model" / "model.safetensors").size() == 2)));
        }
      }
    }
  }
  CHECK(failures >= (injecting ? 25U : 0U));
}

TEST_CASE("a file system that has nothing to synchronise is no error", "[faults]") {
  const Files files;
  for (const int error : {EINVAL, ENOTSUP}) {
    CHECK(kind_with_fault("fsync", 1, error, files.saves()[0]) == std::pair(injecting, std::string()));
  }
}

TEST_CASE("a file that is cut off when its size is known is an IoError when it is read", "[faults]") {
  if (!injecting) return;
  const auto kind = [](LoadMode mode, Hook cut) {
    const Files files;
    after_examination = cut;
    return error_of<CheckpointError>([&] { (void)SafeTensors::open(files.folder / "quantized", mode); })
        .kind();
  };
  // A file that is open for reading cannot be cut off by its descriptor, but by its name there.
  static const auto truncate_to = [](int fd, ::off_t size) {
    REQUIRE(::truncate(("/proc/self/fd/" + std::to_string(fd)).c_str(), size) == 0);
  };
  for (const LoadMode mode : {LoadMode::mapped, LoadMode::copied}) {
    CHECK(kind(mode, [](int fd) { truncate_to(fd, 0); }) == "IoError");
    CHECK(kind(mode, [](int fd) { truncate_to(fd, 20); }) == "IoError");
  }
  CHECK(kind(LoadMode::copied, [](int fd) { truncate_to(fd, 350); }) == "IoError");
}

namespace {

/// Makes a state and acts on it, again and again: first the first allocation of the action fails, then the second,
/// until all succeed. Each time the action may only throw std::bad_alloc or an error of the library's, and the state
/// that check_unchanged checks must be as it was. Returns the number of allocations.
template <class Make, class Action, class CheckUnchanged>
std::size_t fail_each_allocation(const Make& make, const Action& action,
                                 const CheckUnchanged& check_unchanged) {
  {
    auto state = make();
    action(state);  // memory that is allocated once and kept
  }
  for (std::size_t block = 1; test::counting; ++block) {
    const std::size_t open_before = open_files();
    const std::size_t live_before = test::memory.live_blocks;
    bool failed = false;
    bool all_went_well = false;
    bool unchanged = true;
    {
      auto state = make();
      test::memory.failing_block = block;
      try {
        action(state);
      } catch (const std::bad_alloc&) {
        failed = true;
      } catch (const Error&) {
        failed = true;
      }
      all_went_well = test::memory.failing_block != 0;
      test::memory.failing_block = 0;
      if (failed) unchanged = check_unchanged(state);
    }
    const bool balanced = test::memory.live_blocks == live_before;
    const bool closed = open_files() == open_before;
    INFO("allocation " << block);
    CHECK(balanced);
    CHECK(closed);
    CHECK(unchanged);
    if (all_went_well) {
      CHECK_FALSE(failed);
      return block - 1;
    }
  }
  return 0;
}

}  // namespace

TEST_CASE("memory that runs out while a file is loaded leaks nothing", "[faults]") {
  const Files files;
  for (const Operation& load : files.loads()) {
    INFO(load.name);
    const auto nothing = [] { return 0; };
    const std::size_t failures = fail_each_allocation(
        nothing, [&](int) { (void)load.run(); }, [](int) { return true; });
    CHECK(failures >= (test::counting ? 8U : 0U));
  }
}

TEST_CASE("memory that runs out while a file is written leaves the old file, and nothing beside it",
          "[faults]") {
  const Files files;
  const std::filesystem::path folder = files.folder / "model";
  for (const Operation& save : files.saves()) {
    INFO(save.name);
    const auto make = [&] {
      test::write_file(folder / "model.safetensors", "old");
      test::write_file(folder / "config.json", "old");
      return 0;
    };
    const auto is_old = [&](int) {
      const auto after = contents(folder);
      return after.size() == 2 && after.at("config.json") == "old" &&
             (after.at("model.safetensors") == "old" ||
              (save.name == std::string_view("a checkpoint") &&
               SafeTensors::open(folder / "model.safetensors").size() == 2));
    };
    CHECK(fail_each_allocation(
              make, [&](int) { (void)save.run(); }, is_old) >= (test::counting ? 20U : 0U));
  }
}

TEST_CASE("memory that runs out in lookups, gradients and their like changes nothing", "[faults]") {
  const GPT2Embeddings<float> fresh(config);
  const IdMatrix<std::int64_t> ids = test::random_ids(2, 5, 20);
  const Matrix<float> grad = test::drawn<float>(10, 6);
  const auto tables = [&] { return GPT2Embeddings<float>(fresh); };
  const auto no_gradient = [&](const GPT2Embeddings<float>& embeddings) {
    const auto untouched = [](const Embedding<float>& table) {
      return !table.has_grad() || table.grad().isZero(0);
    };
    return untouched(embeddings.wte) && untouched(embeddings.wpe) &&
           test::same_bits(embeddings.wte.weight(), fresh.wte.weight());
  };
  const std::size_t least = test::counting ? 1 : 0;
  const auto forward = [&](const GPT2Embeddings<float>& embeddings) {
    (void)embeddings(ids, PastLength{}, ids);
    (void)embeddings.wte(ids);
    (void)embeddings.embed(grad, position_ids_like(ids));
  };
  CHECK(fail_each_allocation(tables, forward, no_gradient) >= 3 * least);
  const auto backward = [&](GPT2Embeddings<float>& embeddings) {
    embeddings.backward(ids, PastLength{}, grad, ids);
  };
  CHECK(fail_each_allocation(tables, backward, no_gradient) >= 2 * least);
  // The rows of one table are changed before those of the other if terms are divided by frequencies.
  const auto by_frequency = [&] {
    return GPT2Embeddings<float>(Embedding<float>(fresh.wte.weight(), {.scale_grad_by_freq = true}),
                                 fresh.wpe);
  };
  CHECK(fail_each_allocation(by_frequency, backward, no_gradient) >= 3 * least);
  const auto sparse = [&](const GPT2Embeddings<float>& embeddings) {
    (void)embeddings.wte.sparse_backward(ids, grad);
  };
  CHECK(fail_each_allocation(tables, sparse, no_gradient) >= 4 * least);

  const auto borrowed = [&] { return Embedding<float>::view(fresh.wte.weight(), nullptr); };
  const auto is_borrowed = [&](const Embedding<float>& table) {
    return table.weight().data() == fresh.wte.weight().data();
  };
  const auto write = [](Embedding<float>& table) { table.mutable_weight().setZero(); };
  CHECK(fail_each_allocation(borrowed, write, is_borrowed) >= least);
  const auto renorm = [&](Embedding<float>& table) { table.renorm(ids, 0.001); };
  CHECK(fail_each_allocation(borrowed, renorm, is_borrowed) >= 2 * least);
  const auto quantize = [](const Embedding<float>& table) { (void)QuantizedEmbedding(table); };
  CHECK(fail_each_allocation(borrowed, quantize, is_borrowed) >= 3 * least);
}

TEST_CASE("memory that runs out while sparse gradients are merged leaves them as they were", "[faults]") {
  const Embedding<float> table(20, 6);
  const Matrix<float> grad = test::drawn<float>(3, 6);
  const SparseGradient<float> other = table.sparse_backward(std::vector<int>{1, 5, 7}, grad);
  for (const SparseGradient<float>& before :
       {SparseGradient<float>{}, table.sparse_backward(std::vector<int>{2, 5, 9}, grad)}) {
    const auto make = [&] { return before; };
    const auto merge = [&](SparseGradient<float>& gradient) { gradient.merge(other); };
    const auto unchanged = [&](const SparseGradient<float>& gradient) {
      return test::same_bits(gradient.rows, before.rows) && test::same_bits(gradient.values, before.values);
    };
    CHECK(fail_each_allocation(make, merge, unchanged) >= (test::counting ? 2U : 0U));
  }
}

}  // namespace faults_tests
