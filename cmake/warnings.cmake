# SPDX-License-Identifier: MIT

# Turns on the warnings that our own code keeps. For the tests and examples; a library has no say in how its users
# compile. CMAKE_COMPILE_WARNING_AS_ERROR, CMake's own switch, makes them errors.
function(gpt2_embeddings_warnings target)
  if(MSVC)
    target_compile_options(${target} PRIVATE /W4 /permissive- /utf-8)
  else()
    target_compile_options(${target} PRIVATE
      -Wall -Wextra -Wpedantic
      -Wcast-align -Wcast-qual -Wconversion -Wextra-semi -Wformat=2 -Wmissing-declarations
      -Wnon-virtual-dtor -Wold-style-cast -Woverloaded-virtual -Wshadow -Wsign-conversion -Wundef -Wunused
      # Clang's also objects to `const double x = a_float`.
      $<$<CXX_COMPILER_ID:GNU>:-Wdouble-promotion>)
  endif()
endfunction()
