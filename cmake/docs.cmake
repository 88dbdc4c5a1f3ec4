# SPDX-License-Identifier: MIT
#
# The target `docs`, if Doxygen and awk are installed: the reference in build/<preset>/docs/html/index.html. It needs
# nothing from the network, neither to be built nor to be read.

find_package(Doxygen 1.9.4 QUIET)
find_program(GPT2_EMBEDDINGS_AWK awk)
mark_as_advanced(GPT2_EMBEDDINGS_AWK)
if(NOT DOXYGEN_FOUND OR NOT GPT2_EMBEDDINGS_AWK)
  return()
endif()

set(pages ${CMAKE_CURRENT_LIST_DIR}/docs)

set(DOXYGEN_PROJECT_NAME gpt2-embeddings)
set(DOXYGEN_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/docs)
set(DOXYGEN_USE_MDFILE_AS_MAINPAGE README.md)
set(DOXYGEN_RECURSIVE YES)
set(DOXYGEN_EXCLUDE include/gpt2/detail)
set(DOXYGEN_EXCLUDE_SYMBOLS detail detail::* gpt2::detail gpt2::detail::*)
set(DOXYGEN_EXAMPLE_PATH examples)
set(DOXYGEN_IMAGE_PATH ${PROJECT_SOURCE_DIR})
set(DOXYGEN_STRIP_FROM_PATH . include)
set(DOXYGEN_STRIP_FROM_INC_PATH include)

# The headers keep their plain comments; this gives their blocks a heading each, and overloads a common entry.
set(DOXYGEN_INPUT_FILTER "${GPT2_EMBEDDINGS_AWK} -f ${pages}/filter.awk")
set(DOXYGEN_ALIASES [[block{1}=\par \1^^]] [[overloads=^^\par Overloads^^\code{.cpp}]])
set(DOXYGEN_JAVADOC_AUTOBRIEF YES)  # the first sentence is the summary

# A name without a comment is an error, a parameter without one is not: the blocks cover them.
set(DOXYGEN_WARN_AS_ERROR FAIL_ON_WARNINGS)
set(DOXYGEN_WARN_IF_UNDOCUMENTED YES)
set(DOXYGEN_WARN_NO_PARAMDOC NO)
set(DOXYGEN_WARN_IF_INCOMPLETE_DOC NO)
set(DOXYGEN_QUIET YES)

set(DOXYGEN_STRIP_CODE_COMMENTS NO)

set(DOXYGEN_GENERATE_LATEX NO)
set(DOXYGEN_HAVE_DOT NO)
set(DOXYGEN_CLASS_GRAPH NO)
set(DOXYGEN_VERBATIM_HEADERS NO)
set(DOXYGEN_SORT_MEMBER_DOCS NO)
set(DOXYGEN_SHOW_USED_FILES NO)
set(DOXYGEN_HIDE_SCOPE_NAMES YES)
set(DOXYGEN_GENERATE_TREEVIEW YES)
set(DOXYGEN_HTML_EXTRA_STYLESHEET ${pages}/style.css)
set(DOXYGEN_HTML_DYNAMIC_SECTIONS NO)
set(DOXYGEN_TOC_INCLUDE_HEADINGS 0)

doxygen_add_docs(docs README.md include/gpt2 ${pages}
  WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
  COMMENT "Writing the reference to ${DOXYGEN_OUTPUT_DIRECTORY}/html/index.html")
