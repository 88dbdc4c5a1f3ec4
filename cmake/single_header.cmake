# SPDX-License-Identifier: MIT
#
# The target gpt2_embeddings_single_header makes gpt2.hpp of all headers, and gpt2_embeddings_only.hpp of those that
# parse no JSON, in the build folder's single_header. Beside them are folders of headers under their usual names, each of
# which includes one of the two.
find_package(Python3 3.9 COMPONENTS Interpreter QUIET)
if(NOT Python3_Interpreter_FOUND)
  return()
endif()

set(single_header_dir ${PROJECT_BINARY_DIR}/single_header)
set(amalgamate ${PROJECT_SOURCE_DIR}/cmake/amalgamate.py)
add_custom_command(OUTPUT ${single_header_dir}/gpt2.hpp
  COMMAND Python3::Interpreter ${amalgamate} --forward ${single_header_dir}/forward
    ${PROJECT_SOURCE_DIR}/include ${single_header_dir}/gpt2.hpp
  DEPENDS ${amalgamate} ${headers} VERBATIM)
add_custom_command(OUTPUT ${single_header_dir}/gpt2_embeddings_only.hpp
  COMMAND Python3::Interpreter ${amalgamate} --without-json --forward ${single_header_dir}/forward_only
    ${PROJECT_SOURCE_DIR}/include ${single_header_dir}/gpt2_embeddings_only.hpp
  DEPENDS ${amalgamate} ${headers} VERBATIM)
add_custom_target(gpt2_embeddings_single_header
  DEPENDS ${single_header_dir}/gpt2.hpp ${single_header_dir}/gpt2_embeddings_only.hpp)
