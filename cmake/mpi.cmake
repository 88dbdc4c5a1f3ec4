# SPDX-License-Identifier: MIT
#
# The MPIs that tests and examples of mpi.hpp are built for: each that is installed, if any. Debian has Open MPI and
# MPICH side by side, under names with a suffix.

# Makes an imported target of the options that an MPI's compiler wrapper adds, by its own account.
function(gpt2_embeddings_import_mpi name wrapper)
  execute_process(COMMAND ${wrapper} -show OUTPUT_VARIABLE command RESULT_VARIABLE failed ERROR_QUIET
    OUTPUT_STRIP_TRAILING_WHITESPACE)
  if(failed)
    return()
  endif()
  separate_arguments(words UNIX_COMMAND "${command}")
  add_library(mpi_${name} INTERFACE IMPORTED GLOBAL)
  foreach(word IN LISTS words)
    if(word MATCHES "^-I(.+)")
      target_include_directories(mpi_${name} SYSTEM INTERFACE ${CMAKE_MATCH_1})
    elseif(word MATCHES "^-L(.+)")
      target_link_directories(mpi_${name} INTERFACE ${CMAKE_MATCH_1})
    elseif(word MATCHES "^-l.+")
      target_link_libraries(mpi_${name} INTERFACE ${word})
    endif()
  endforeach()
  target_compile_definitions(mpi_${name} INTERFACE OMPI_SKIP_MPICXX MPICH_SKIP_MPICXX)
endfunction()

find_package(Threads REQUIRED)

set(gpt2_embeddings_mpis "")
foreach(name IN ITEMS openmpi mpich)
  find_program(GPT2_EMBEDDINGS_${name}_WRAPPER mpicxx.${name})
  find_program(GPT2_EMBEDDINGS_${name}_RUN mpirun.${name})
  mark_as_advanced(GPT2_EMBEDDINGS_${name}_WRAPPER GPT2_EMBEDDINGS_${name}_RUN)
  if(GPT2_EMBEDDINGS_${name}_WRAPPER AND GPT2_EMBEDDINGS_${name}_RUN)
    gpt2_embeddings_import_mpi(${name} ${GPT2_EMBEDDINGS_${name}_WRAPPER})
    if(TARGET mpi_${name})
      list(APPEND gpt2_embeddings_mpis ${name})
    endif()
  endif()
endforeach()
if(gpt2_embeddings_mpis STREQUAL "")
  find_program(GPT2_EMBEDDINGS_mpi_WRAPPER mpicxx)
  find_program(GPT2_EMBEDDINGS_mpi_RUN mpirun)
  mark_as_advanced(GPT2_EMBEDDINGS_mpi_WRAPPER GPT2_EMBEDDINGS_mpi_RUN)
  if(GPT2_EMBEDDINGS_mpi_WRAPPER AND GPT2_EMBEDDINGS_mpi_RUN)
    gpt2_embeddings_import_mpi(mpi ${GPT2_EMBEDDINGS_mpi_WRAPPER})
    if(TARGET mpi_mpi)
      set(gpt2_embeddings_mpis mpi)
    endif()
  endif()
endif()

# More ranks than processors, and root, are refused by Open MPI unless it is told otherwise. It is told by variables,
# which others do not know.
set(gpt2_embeddings_mpi_environment OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1)
if(CMAKE_CXX_FLAGS MATCHES "-fsanitize=[a-z,]*address")
  # Both MPIs keep memory to the end of the process. The other options are the preset's.
  list(APPEND gpt2_embeddings_mpi_environment
    ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=1:strict_string_checks=1)
endif()

# gpt2_embeddings_mpi_program(NAME FILE): a program for each MPI, NAME_openmpi and NAME_mpich.
function(gpt2_embeddings_mpi_program name file)
  foreach(mpi IN LISTS gpt2_embeddings_mpis)
    add_executable(${name}_${mpi} ${file})
    # Our headers not by the imported target, whose headers are the system's: those have no warnings, nor lines to count.
    target_link_libraries(${name}_${mpi} PRIVATE gpt2::embeddings mpi_${mpi} Threads::Threads)
    gpt2_embeddings_warnings(${name}_${mpi})
    gpt2_embeddings_optimise_less(${name}_${mpi})
  endforeach()
endfunction()

# gpt2_embeddings_mpi_test(NAME MPI RANKS SECONDS PROGRAM ARGUMENTS...): a run of PROGRAM_MPI.
function(gpt2_embeddings_mpi_test name mpi ranks seconds program)
  add_test(NAME ${name} COMMAND ${GPT2_EMBEDDINGS_${mpi}_RUN} -np ${ranks} $<TARGET_FILE:${program}_${mpi}> ${ARGN})
  # Ranks that wait keep a processor busy: beside other tests they would be as slow as those are long.
  set_tests_properties(${name} PROPERTIES TIMEOUT ${seconds} RUN_SERIAL ON LABELS mpi
    ENVIRONMENT "${gpt2_embeddings_mpi_environment}")
endfunction()
