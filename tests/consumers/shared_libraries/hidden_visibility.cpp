// SPDX-License-Identifier: MIT
//
// An error that a library throws is caught by its type, though both are compiled to hide all that can be hidden.

#include <cstdio>
#include <gpt2/error.hpp>

extern "C" void look_up_hidden(int id);

int main() {
  int caught = 0;
  try {
    look_up_hidden(7);
  } catch (const gpt2::IndexError& error) {
    caught += error.value() == 7 && error.bound() == 3;
  } catch (...) {
    std::puts("caught, but not as an IndexError");
  }
  try {
    look_up_hidden(-1);
  } catch (const gpt2::Error& error) {
    std::puts(error.what());
    ++caught;
  } catch (...) {
    std::puts("caught, but not as an Error");
  }
  return caught == 2 ? 0 : 1;
}
