// SPDX-License-Identifier: MIT
//
// Times every operation that has a goal beside the memory traffic it cannot avoid, and beside its peers: the
// plain loop that llm.c uses, plain Eigen expressions, and libtorch if it is installed. Times are reported,
// never asserted.
//
//   benchmark RESULTS.json [--benchmark_filter=REGEX] [Google Benchmark's other options...]
//
// How it measures. The contestants of a group do the same operation on the same tables and ids, in one
// process, and write to existing buffers if they can. Google Benchmark takes their samples in random order, so
// that other load on the machine affects all of them alike. Before each sample there are three untimed calls of
// the same contestant: the caches are as it left them itself, and its memory has its pages. Reported are medians
// of 15 samples: of processor time for one thread, which excludes other programs; of wall-clock time for two. The
// program is built twice, with -O2 and with -O3 -march=native; plain.cpp is the latter in both. run.sh does
// all of it.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <exception>
#include <fstream>
#include <iterator>
#include <regex>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "groups.hpp"
#include "heap.hpp"
#include "libtorch.hpp"

#ifdef EIGEN_USE_BLAS
extern "C" void openblas_set_num_threads(int threads);
#endif

namespace {

/// One file for all groups, and a line for each contestant. Google Benchmark's own reporters are for one run.
class Reporter : public benchmark::BenchmarkReporter {
 public:
  explicit Reporter(const std::string& path) : file_(path) {
    if (!file_) throw std::runtime_error("cannot write " + path);
    json_.SetOutputStream(&file_);
  }

  bool ReportContext(const Context& context) override {
    if (started_) return true;
    started_ = true;
    return json_.ReportContext(context);
  }

  void ReportRuns(const std::vector<Run>& runs) override {
    json_.ReportRuns(runs);
    for (const Run& run : runs) {
      if (!run.aggregate_name.empty() && run.aggregate_name != "median") continue;
      const double bytes = run.counters.at("peak_bytes").value;
      std::printf("%-48s %12.2f us %10.2f MB\n", run.run_name.function_name.c_str(),
                  run.GetAdjustedRealTime(), bytes / 1e6);
      std::fflush(stdout);
    }
  }

  /// After the last group; Finalize() is called after each.
  void close() {
    if (started_) json_.Finalize();
  }

 private:
  std::ofstream file_;
  benchmark::JSONReporter json_;
  bool started_ = false;
};

/// Seconds since some time.
double now(bool of_this_thread) {
#ifdef CLOCK_THREAD_CPUTIME_ID
  timespec time{};
  if (of_this_thread && clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time) == 0) {
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  }
#endif
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// All contestants may use this many threads; Eigen's pools are the groups'.
void set_threads(int threads) {
  libtorch::set_threads(threads);
#ifdef EIGEN_USE_BLAS
  openblas_set_num_threads(threads);
#endif
}

void measure(benchmark::State& state, const Group& group, const Contestant& contestant) {
  const bool alone = group.threads == 1;
  set_threads(group.threads);
  double peak = 0;
  for (auto _ : state) {  // NOLINT(clang-analyzer-deadcode.DeadStores)
    // Idle threads look for work for a while; not while others are timed.
    if (group.threads > 1) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    if (group.untimed > 0) peak = heap::peak_during(contestant.call);
    for (int i = 1; i < group.untimed; ++i) contestant.call();
    const double start = now(alone);
    if (group.untimed == 0) {  // one call for everything
      peak = heap::peak_during(contestant.call);
    } else {
      for (int i = 0; i < group.calls; ++i) contestant.call();
    }
    state.SetIterationTime((now(alone) - start) / group.calls);
  }
  state.counters["peak_bytes"] = std::max(0.0, peak + contestant.kept_bytes);
}

void run(const Group& group, Reporter& reporter) {
  const std::vector<Contestant> contestants = group.contestants();
  for (const Contestant& contestant : contestants) {
    if (!contestant.call) continue;
    auto* registered = benchmark::RegisterBenchmark(
        (group.name + '/' + contestant.name).c_str(),
        [&group, &contestant](benchmark::State& state) { measure(state, group, contestant); });
    registered->Iterations(1)->UseManualTime()->Unit(benchmark::kMicrosecond);
    if (group.samples > 0) registered->Repetitions(group.samples);
  }
  benchmark::RunSpecifiedBenchmarks(&reporter, nullptr, "all");
  benchmark::ClearRegisteredBenchmarks();
}

std::vector<Group> all_groups() {
  std::vector<Group> groups;
  for (auto* some :
       {sum_groups, lookup_groups, growth_groups, gradient_groups, head_groups, checkpoint_groups}) {
    std::ranges::move(some(), std::back_inserter(groups));
  }
  return groups;
}

/// Ours come first, so that the caller's options overrule them.
std::vector<char*> arguments(int argc, char** argv, std::vector<std::string>& ours) {
  std::vector<char*> result{argv[0]};
  for (std::string& argument : ours) result.push_back(argument.data());
  result.insert(result.end(), argv + 2, argv + argc);
  return result;
}

void run_all(int argc, char** argv) {
  if (argc < 2 || argv[1][0] == '-')
    throw std::invalid_argument("usage: benchmark RESULTS.json [OPTIONS...]");
  std::vector<std::string> ours{"--benchmark_enable_random_interleaving=true", "--benchmark_repetitions=15",
                                "--benchmark_report_aggregates_only=true"};
  std::vector<char*> options = arguments(argc, argv, ours);
  int count = static_cast<int>(options.size());
  benchmark::Initialize(&count, options.data());
  if (benchmark::ReportUnrecognizedArguments(count, options.data())) {
    throw std::invalid_argument("unknown option");
  }
  benchmark::AddCustomContext("libtorch", libtorch::version());
  Reporter reporter(argv[1]);
  const std::string filter = benchmark::GetBenchmarkFilter();
  const std::regex wanted(filter.empty() || filter == "all" ? "." : filter);
  for (const Group& group : all_groups()) {
    if (std::regex_search(group.name, wanted)) run(group, reporter);
  }
  reporter.close();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    run_all(argc, argv);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "benchmark: %s\n", error.what());
    return 1;
  }
}
