# SPDX-License-Identifier: MIT
#
# `cpack` in the build folder makes libgpt2-embeddings-dev, the package for Debian and its derivatives.
find_program(GPT2_EMBEDDINGS_GZIP gzip)
mark_as_advanced(GPT2_EMBEDDINGS_GZIP)
set(changelog ${PROJECT_SOURCE_DIR}/.github/CHANGELOG.md)  # archives of sources may be without it
if(NOT GPT2_EMBEDDINGS_GZIP OR NOT EXISTS ${changelog})
  return()
endif()

set(package libgpt2-embeddings-dev)
set(revision 1)
# Whoever publishes packages answers for them under an address of their own: -DCPACK_PACKAGE_CONTACT="Name <address>".
if(NOT CPACK_PACKAGE_CONTACT)
  set(CPACK_PACKAGE_CONTACT "The gpt2-embeddings authors <authors@gpt2-embeddings.invalid>")
endif()

# Debian's documents, made of ours: the licence, the changelog, and the changelog of the package, whose date is that of
# the configuration or SOURCE_DATE_EPOCH.
set(documents ${PROJECT_BINARY_DIR}/packaging)
file(READ LICENSE license)
string(REGEX MATCH "Copyright \\(c\\) ([^\n]+)\n\n(.+)" license "${license}")
set(copyright ${CMAKE_MATCH_1})
string(STRIP "${CMAKE_MATCH_2}" license)
string(REPLACE "\n" "\n " license "${license}")
string(REPLACE "\n \n" "\n .\n" license "${license}")
configure_file(cmake/packaging/debian/copyright.in ${documents}/copyright @ONLY)
string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC)
configure_file(cmake/packaging/debian/changelog.Debian.in ${documents}/changelog.Debian @ONLY)
configure_file(${changelog} ${documents}/changelog COPYONLY)
foreach(name IN ITEMS changelog changelog.Debian)
  execute_process(
    COMMAND ${GPT2_EMBEDDINGS_GZIP} -9 --no-name --stdout ${documents}/${name}
    OUTPUT_FILE ${documents}/${name}.gz
    COMMAND_ERROR_IS_FATAL ANY)
endforeach()
install(FILES ${documents}/copyright ${documents}/changelog.gz ${documents}/changelog.Debian.gz
  DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/doc/${package}
  COMPONENT gpt2_embeddings_debian
  EXCLUDE_FROM_ALL)
install(FILES cmake/packaging/debian/lintian-overrides
  DESTINATION ${CMAKE_INSTALL_DATAROOTDIR}/lintian/overrides
  RENAME ${package}
  COMPONENT gpt2_embeddings_debian
  EXCLUDE_FROM_ALL)

# Headers need no build before they are packed.
set(CMAKE_SKIP_INSTALL_ALL_DEPENDENCY YES)
set(CMAKE_SKIP_PACKAGE_ALL_DEPENDENCY YES)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
  OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
# One package of two components. The third, the licence by itself, is part of Debian's file of copyrights.
set(CPACK_COMPONENTS_ALL gpt2_embeddings_development gpt2_embeddings_debian)
set(CPACK_COMPONENTS_GROUPING ALL_COMPONENTS_IN_ONE)
set(CPACK_DEB_COMPONENT_INSTALL YES)

set(CPACK_DEBIAN_PACKAGE_NAME ${package})
set(CPACK_DEBIAN_PACKAGE_SOURCE gpt2-embeddings)
set(CPACK_DEBIAN_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_DEBIAN_PACKAGE_RELEASE ${revision})
set(CPACK_DEBIAN_PACKAGE_ARCHITECTURE all)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libeigen3-dev (>= 3.4), nlohmann-json3-dev (>= 3.11)")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS pkgconf)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION YES)
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION [[
gpt2-embeddings has what stands at both ends of a GPT-2: token and position
embeddings, and the output head that shares their table. Its sums are bit for
bit those of Hugging Face transformers; checkpoints are mapped into memory as
they are; every id is checked before it is used.

Included are gradients, cross-entropy and top-k without all logits in memory,
half and int8 tables, and position ids for padded and packed batches.

The library is header-only. CMake finds it as gpt2_embeddings, with the target
gpt2::embeddings, and pkg-config as gpt2_embeddings.]])
include(CPack)
