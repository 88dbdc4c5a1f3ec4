# SPDX-License-Identifier: MIT
#
# How tests and examples are compiled in a third of the time.

option(GPT2_EMBEDDINGS_QUICK_BUILD
  "Compile examples together, unit tests by rooms, and most of both with few optimisations: a third of the time" OFF)

# gpt2_embeddings_optimise_less(<target>): as little as is still sooner to run than to compile where a release has more,
# unless it is made for a processor.
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

# gpt2_embeddings_join_programs(<target> <file>...): one program of the files, each of which has a main(), that runs the
# one by whose name it is called: most of the time to compile them goes into templates that all of them instantiate.
#
# Each file has a namespace, before which stands what it includes. Only a program's own main() may end without a return:
# these get one.
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
      COMMAND ${CMAKE_COMMAND} -E create_hardlink $<TARGET_FILE:${target}> ${program})
    add_executable(${name} IMPORTED GLOBAL)
    set_target_properties(${name} PROPERTIES IMPORTED_LOCATION ${program})
  endforeach()
  file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/${target}.dir)
endfunction()
