# SPDX-License-Identifier: MIT
#
# Checks that a source file is refused, in the words it expects, with GPT2_COMPILE_FAIL defined.
#
#   cmake -DSOURCE=FILE -P check.cmake -- COMPILER [FLAGS...]
#
# The words are a regular expression in the file's own line `// expect: …`.

set(command)
set(reading FALSE)
math(EXPR last "${CMAKE_ARGC} - 1")
foreach(i RANGE ${last})
  if(reading)
    list(APPEND command ${CMAKE_ARGV${i}})
  elseif(CMAKE_ARGV${i} STREQUAL "--")
    set(reading TRUE)
  endif()
endforeach()

file(STRINGS ${SOURCE} expected REGEX "^// expect: " LIMIT_COUNT 1)
string(REGEX REPLACE "^// expect: " "" expected "${expected}")
if(expected STREQUAL "")
  message(FATAL_ERROR "${SOURCE} has no line '// expect: …'")
endif()

set(ENV{LC_ALL} C)  # the compiler's messages in English, with ASCII quotes
execute_process(COMMAND ${command} -DGPT2_COMPILE_FAIL -fsyntax-only ${SOURCE}
  RESULT_VARIABLE status ERROR_VARIABLE output)
if(status EQUAL 0)
  message(FATAL_ERROR "The wrong version compiles.")
endif()
if(NOT output MATCHES "${expected}")
  message("${output}")
  message(FATAL_ERROR "The wrong version is refused, but not with '${expected}'.")
endif()
