# SPDX-License-Identifier: MIT
#
# gpt2_tokenizer.hpp splits texts into words with PCRE2 if that is installed (Debian: libpcre2-dev): the target
# gpt2_examples_tokenizer, for the examples and for the tests of it.
if(TARGET gpt2_examples_tokenizer)
  return()
endif()

add_library(gpt2_examples_tokenizer INTERFACE)
target_link_libraries(gpt2_examples_tokenizer INTERFACE gpt2::embeddings)

find_path(GPT2_EMBEDDINGS_PCRE2_INCLUDE pcre2.h)
find_library(GPT2_EMBEDDINGS_PCRE2_LIBRARY NAMES pcre2-8)
mark_as_advanced(GPT2_EMBEDDINGS_PCRE2_INCLUDE GPT2_EMBEDDINGS_PCRE2_LIBRARY)
if(GPT2_EMBEDDINGS_PCRE2_INCLUDE AND GPT2_EMBEDDINGS_PCRE2_LIBRARY)
  target_include_directories(gpt2_examples_tokenizer SYSTEM INTERFACE ${GPT2_EMBEDDINGS_PCRE2_INCLUDE})
  target_link_libraries(gpt2_examples_tokenizer INTERFACE ${GPT2_EMBEDDINGS_PCRE2_LIBRARY})
  target_compile_definitions(gpt2_examples_tokenizer INTERFACE GPT2_EXAMPLES_HAVE_PCRE2)
endif()
