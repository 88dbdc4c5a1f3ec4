# SPDX-License-Identifier: MIT
#
# How tests and examples are compiled in a third of the time.

option(GPT2_EMBEDDINGS_QUICK_BUILD
  "Compile examples together, unit tests by rooms, and most of both with few optimisations: a third of the time" OFF)

# gpt2_embeddings_optimise_less(<target>): in a release build -Og (GCC), which compiles as fast as -O0 and runs faster, or
# -O1 (Clang). Not if CMAKE_CXX_FLAGS have -march=: such a build is there to test all optimisations.
function(gpt2_embeddings_optimise_less target)
  if(CMAKE_CXX_FLAGS MATCHES "-march=")
    return()
  endif()
  target_compile_options(${target} PRIVATE
    $<$<AND:$<CONFIG:Release>,$<CXX_COMPILER_ID:GNU>>:-Og>
    $<$<AND:$<CONFIG:Release>,$<CXX_COMPILER_ID:Clang,AppleClang>>:-O1>
    # GCC 12's analysis takes Eigen's uninitialised memory for a mistake where it optimises little.
    $<$<AND:$<CONFIG:Release>,$<CXX_COMPILER_ID:GNU>>:-Wno-maybe-uninitialized>)
endfunction()

# gpt2_embeddings_join_programs(<target> <file>...): one program of several, which does what the one does by whose name
# it is called (argv[0]): most of the time to compile them goes into templates that all of them instantiate.
#
# Each file becomes a namespace. What precedes it in the file, to the last line that begins with #include and an #endif
# in the next, stays outside. main() comes last in the file, and gets the return that only a program's own may lack.
function(gpt2_embeddings_join_programs target)
  set(includes)
  set(programs)
  set(calls)
  foreach(file IN LISTS ARGN)
    cmake_path(ABSOLUTE_PATH file)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    cmake_path(GET file STEM name)
    file(READ ${file} text)
    # The last of the includes, and the end of the condition under which it may stand.
    string(REGEX MATCH "^(.*\n)?#include [^\n]*\n(#endif[^\n]*\n)?" head "${text}")
    string(LENGTH "${head}" length)
    string(SUBSTRING "${text}" ${length} -1 program)
    if(NOT program MATCHES "\n}\n$" OR program MATCHES "[$]<")  # the latter would mean something to file(GENERATE)
      message(FATAL_ERROR "${file} cannot be joined with others: see gpt2_embeddings_join_programs")
    endif()
    string(REGEX REPLACE "}\n$" "  return 0;\n}\n" program "${program}")
    string(REGEX MATCHALL "\n" lines "${head}")
    list(LENGTH lines line)
    math(EXPR line "${line} + 1")
    string(APPEND includes "#line 1 \"${file}\"\n${head}")
    string(APPEND programs "namespace ${name} {\n#line ${line} \"${file}\"\n${program}}  // namespace ${name}\n\n")
    string(APPEND calls "  if (called == \"${name}\") return call(${name}::main, argc, argv);\n")
  endforeach()
  set(joined ${CMAKE_CURRENT_BINARY_DIR}/${target}.cpp)
  file(GENERATE OUTPUT ${joined} CONTENT "#include <filesystem>
#include <iostream>
#include <string>

${includes}
namespace {

${programs}
int call(int (*main)(), int, char**) { return main(); }
int call(int (*main)(int, char**), int argc, char** argv) { return main(argc, argv); }

}  // namespace

int main(int argc, char** argv) {
  const std::string called = std::filesystem::path(argv[0]).stem().string();
${calls}  std::cerr << called << \" is none of the programs in this file\\n\";
  return 2;
}
")
  add_executable(${target} ${joined})

  # Each name is a target still, but not one that can be built alone. In a folder of their own: what is in the usual
  # place is another build's.
  foreach(file IN LISTS ARGN)
    cmake_path(GET file STEM name)
    set(program ${CMAKE_CURRENT_BINARY_DIR}/${target}.dir/${name}${CMAKE_EXECUTABLE_SUFFIX})
    add_custom_command(TARGET ${target} POST_BUILD
      COMMAND ${CMAKE_COMMAND} -E copy $<TARGET_FILE:${target}> ${program})
    add_executable(${name} IMPORTED GLOBAL)
    set_target_properties(${name} PROPERTIES IMPORTED_LOCATION ${program})
  endforeach()
  file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/${target}.dir)
endfunction()
