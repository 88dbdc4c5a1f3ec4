# SPDX-License-Identifier: MIT
#
# Runs a program and checks that it succeeds, says nothing on stderr, and prints the text of a file, byte for byte.
#
#   cmake -DPROGRAM=FILE -DEXPECTED=FILE -P check.cmake

execute_process(COMMAND ${PROGRAM} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE errors)
file(READ ${EXPECTED} expected)
if(NOT output STREQUAL expected)
  message("--- expected, from ${EXPECTED}:\n${expected}--- found:\n${output}---")
  message(SEND_ERROR "The output is not the expected one.")
endif()
if(NOT status STREQUAL "0" OR NOT errors STREQUAL "")
  message("${errors}")
  message(SEND_ERROR "The exit status is ${status}, and its stderr is shown above.")
endif()
