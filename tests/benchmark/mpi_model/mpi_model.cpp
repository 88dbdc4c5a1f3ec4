// SPDX-License-Identifier: MIT
//
// Prints the costs of the operations of mpi.hpp, by their formulas.
//
//     mpi_model [ranks=N] [tokens=N] [width=N] [vocabulary=N] [latency=SECONDS] [bandwidth=BYTES_PER_SECOND]
//
// Ids are as frequent as words, a share of 1 / (id + 1) each.

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "model.hpp"

int main(int argc, char** argv) {
  model::Setting setting;
  setting.ranks = 64;
  setting.tokens = 8192;
  const std::map<std::string, double*> names{
      {"ranks", &setting.ranks},           {"tokens", &setting.tokens},   {"width", &setting.width},
      {"vocabulary", &setting.vocabulary}, {"latency", &setting.latency}, {"bandwidth", &setting.bandwidth}};
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const std::size_t equals = argument.find('=');
    const auto name = names.find(argument.substr(0, equals));
    char* end = nullptr;
    const double value = equals == argument.npos ? 0 : std::strtod(argument.c_str() + equals + 1, &end);
    if (name == names.end() || end == nullptr || *end != '\0' || !(value > 0)) {
      std::fprintf(stderr,
                   "%s: expected a name of ranks, tokens, width, vocabulary, latency, bandwidth, '=' and a "
                   "positive number\n",
                   argv[i]);
      return 2;
    }
    *name->second = value;
  }
  setting.different = model::different_ids(setting.tokens, setting.vocabulary);
  setting.different_of_all = model::different_ids(setting.tokens * setting.ranks, setting.vocabulary);
  std::printf("%.0f ranks of %.0f tokens, %.0f different; table %.0f x %.0f; latency %g s, %g bytes/s\n",
              setting.ranks, setting.tokens, setting.different, setting.vocabulary, setting.width,
              setting.latency, setting.bandwidth);
  std::printf("%-24s %14s %10s %12s\n", "operation", "bytes/rank", "messages", "ms");
  for (const model::Cost& cost : model::costs(setting)) {
    std::printf("%-24s %14.0f %10.0f %12.4f\n", cost.operation.c_str(), cost.bytes, cost.messages,
                1e3 * model::seconds(cost, setting));
  }
}
