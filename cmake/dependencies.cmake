# SPDX-License-Identifier: MIT
#
# Every dependency is, in this order: a target that the parent project has brought; the folder in
# FETCHCONTENT_SOURCE_DIR_<NAME>; an installed package; and, if GPT2_EMBEDDINGS_FETCH_DEPENDENCIES allows it, the
# pinned release below.
include(FetchContent)

# The packages are looked for without a version if their own version files would refuse a later major one.
FetchContent_Declare(Eigen3
  URL https://gitlab.com/libeigen/eigen/-/archive/3.4.0/eigen-3.4.0.tar.bz2
  URL_HASH SHA256=b4c198460eba6f28d34894e3a5710998818515104d6e74e5cc331ce31e46e626
  SOURCE_SUBDIR headers_only  # no such folder: the headers are all we want, not Eigen's own build
  FIND_PACKAGE_ARGS CONFIG GLOBAL)
FetchContent_Declare(nlohmann_json
  URL https://github.com/nlohmann/json/releases/download/v3.11.3/json.tar.xz
  URL_HASH SHA256=d6c65aca6b1ed68e7a182f4757257b107ae403032760ed6ef121c9d55e81757d
  SOURCE_SUBDIR headers_only
  FIND_PACKAGE_ARGS 3.11 CONFIG GLOBAL)
FetchContent_Declare(Catch2
  URL https://github.com/catchorg/Catch2/archive/refs/tags/v3.7.1.tar.gz
  URL_HASH SHA256=c991b247a1a0d7bb9c39aa35faf0fe9e19764213f28ffba3109388e62ee0269c
  FIND_PACKAGE_ARGS CONFIG)

# Makes the package NAME available; the further arguments are those of find_package. If nothing may be downloaded
# this is find_package with REQUIRED, whose message names the package to install or the variable to set.
macro(gpt2_embeddings_make_available name)
  string(TOUPPER ${name} upper_name)
  if(GPT2_EMBEDDINGS_FETCH_DEPENDENCIES OR FETCHCONTENT_SOURCE_DIR_${upper_name})
    FetchContent_MakeAvailable(${name})
  else()
    find_package(${name} ${ARGN} REQUIRED)
  endif()
endmacro()

# Sources that were unpacked become an imported target, as an installed package would be, so that gpt2::embeddings can
# be installed all the same.
function(gpt2_embeddings_import_headers target folder)
  if(NOT TARGET ${target})
    add_library(${target} INTERFACE IMPORTED GLOBAL)
    target_include_directories(${target} INTERFACE ${folder})
  endif()
endfunction()

function(gpt2_embeddings_find_eigen)
  if(TARGET Eigen3::Eigen)
    return()
  endif()
  gpt2_embeddings_make_available(Eigen3 CONFIG GLOBAL)
  if(Eigen3_VERSION AND Eigen3_VERSION VERSION_LESS 3.4)
    message(FATAL_ERROR "gpt2_embeddings needs Eigen 3.4 or later; ${Eigen3_DIR} has ${Eigen3_VERSION}")
  endif()
  gpt2_embeddings_import_headers(Eigen3::Eigen "${eigen3_SOURCE_DIR}")
endfunction()

function(gpt2_embeddings_find_nlohmann_json)
  if(TARGET nlohmann_json::nlohmann_json)
    return()
  endif()
  gpt2_embeddings_make_available(nlohmann_json 3.11 CONFIG GLOBAL)
  gpt2_embeddings_import_headers(nlohmann_json::nlohmann_json "${nlohmann_json_SOURCE_DIR}/include")
endfunction()

# Version 2.13 or 3, with a main function of its own.
macro(gpt2_embeddings_find_catch2)
  if(NOT TARGET Catch2::Catch2WithMain)
    gpt2_embeddings_make_available(Catch2 CONFIG)
  endif()
endmacro()
