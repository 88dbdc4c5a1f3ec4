// SPDX-License-Identifier: MIT
//
// Each of two libraries must run the version that it was compiled with. The linker unites inline functions of one name.

#include <cstdio>
#include <exception>
#include <string>

extern "C" {
void look_up_here(int id);
void look_up_in_other_version(int id);
}

namespace {

std::string message_of(void (*look_up)(int)) {
  try {
    look_up(7);
  } catch (const std::exception& error) {
    return error.what();
  }
  return "no error";
}

}  // namespace

int main() {
  const std::string here = message_of(look_up_here);
  const std::string other = message_of(look_up_in_other_version);
  std::printf("%s\n%s\n", here.c_str(), other.c_str());
  const std::string rest = " embedding: ids[0] = 7 is outside [0, 3)";
  return here == "[gpt2.index_error]" + rest && other == "[gpt2.other_index_error]" + rest ? 0 : 1;
}
