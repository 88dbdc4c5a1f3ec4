# SPDX-License-Identifier: MIT
#
# With GPT2_EMBEDDINGS_COVERAGE, for Clang, the unit tests count the lines they run, and the target `coverage` reports
# those of the headers:
#
#   cmake --preset sanitize -DCMAKE_CXX_COMPILER=clang++ -DGPT2_EMBEDDINGS_COVERAGE=ON
#   cmake --build --preset sanitize && ctest --preset sanitize && cmake --build --preset sanitize --target coverage
#
# In builds that are not optimised, or lines that the compiler has left out do not count.
option(GPT2_EMBEDDINGS_COVERAGE "Count the lines that the unit tests run, and report them" OFF)
set(GPT2_EMBEDDINGS_LEAST_COVERAGE 97 CACHE STRING "Percent of the headers' lines below which `coverage` fails")
mark_as_advanced(GPT2_EMBEDDINGS_LEAST_COVERAGE)

# Has the programs that a folder of tests builds counted.
function(gpt2_embeddings_report_coverage folder)
  if(NOT GPT2_EMBEDDINGS_COVERAGE)
    return()
  endif()
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "GPT2_EMBEDDINGS_COVERAGE takes Clang; the compiler is ${CMAKE_CXX_COMPILER_ID}")
  endif()
  # The tools read the profiles of their own version of the compiler.
  string(REGEX MATCH "^[0-9]+" version ${CMAKE_CXX_COMPILER_VERSION})
  cmake_path(GET CMAKE_CXX_COMPILER PARENT_PATH beside_compiler)
  foreach(tool IN ITEMS profdata cov)
    find_program(GPT2_EMBEDDINGS_LLVM_${tool} NAMES llvm-${tool}-${version} llvm-${tool} HINTS ${beside_compiler} REQUIRED)
    mark_as_advanced(GPT2_EMBEDDINGS_LLVM_${tool})
  endforeach()

  # One file for all runs of a program.
  set(profiles ${PROJECT_BINARY_DIR}/coverage)
  set(counted -fprofile-instr-generate=${profiles}/%m.profraw -fcoverage-mapping)
  get_property(programs DIRECTORY ${folder} PROPERTY BUILDSYSTEM_TARGETS)
  set(files)
  foreach(program IN LISTS programs)
    get_target_property(type ${program} TYPE)
    if(type STREQUAL "INTERFACE_LIBRARY")
      continue()
    endif()
    target_compile_options(${program} PRIVATE ${counted})
    target_link_options(${program} PRIVATE ${counted})
    if(type STREQUAL "EXECUTABLE")
      list(APPEND files $<TARGET_FILE:${program}>)
    endif()
  endforeach()
  add_custom_target(coverage
    COMMAND Python3::Interpreter ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/report.py
      --tools ${GPT2_EMBEDDINGS_LLVM_profdata} ${GPT2_EMBEDDINGS_LLVM_cov}
      --profiles ${profiles} --include ${PROJECT_SOURCE_DIR}/include --at-least ${GPT2_EMBEDDINGS_LEAST_COVERAGE}
      ${files}
    VERBATIM)
endfunction()
