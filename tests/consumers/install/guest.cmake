# SPDX-License-Identifier: MIT
#
# Checks that the library, added to a project, has stayed a guest.

foreach(variable IN ITEMS CMAKE_CXX_STANDARD CMAKE_BUILD_TYPE CMAKE_CXX_EXTENSIONS)
  if(DEFINED ${variable} AND NOT DEFINED CACHE{${variable}})
    message(FATAL_ERROR "gpt2_embeddings has set ${variable} for its parent project")
  endif()
endforeach()
foreach(option IN ITEMS BUILD_TESTS BUILD_EXAMPLES INSTALL FETCH_DEPENDENCIES)
  if(GPT2_EMBEDDINGS_${option})
    message(FATAL_ERROR "GPT2_EMBEDDINGS_${option} is on in a project that has not asked for it")
  endif()
endforeach()
get_cmake_property(variables CACHE_VARIABLES)
list(FILTER variables INCLUDE REGEX "gpt2|GPT2")
list(FILTER variables EXCLUDE REGEX "^GPT2_EMBEDDINGS_|^gpt2_embeddings_(BINARY_DIR|SOURCE_DIR|IS_TOP_LEVEL)$|^FETCHCONTENT_")
if(variables)
  message(FATAL_ERROR "cache variables without the library's prefix: ${variables}")
endif()
