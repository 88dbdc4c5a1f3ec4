# SPDX-License-Identifier: MIT
#
# An overlay port, of these sources as they stand:
#
#   vcpkg install gpt2-embeddings --overlay-ports=cmake/packaging/vcpkg
#
# A registry would have vcpkg_from_git or its like in place of the next line.
cmake_path(SET SOURCE_PATH NORMALIZE "${CURRENT_PORT_DIR}/../../..")

set(VCPKG_BUILD_TYPE release)  # header-only

vcpkg_cmake_configure(
  SOURCE_PATH "${SOURCE_PATH}"
  OPTIONS
    -DGPT2_EMBEDDINGS_BUILD_TESTS=OFF
    -DGPT2_EMBEDDINGS_BUILD_EXAMPLES=OFF
    -DGPT2_EMBEDDINGS_FETCH_DEPENDENCIES=OFF)
vcpkg_cmake_install()
vcpkg_cmake_config_fixup(PACKAGE_NAME gpt2_embeddings CONFIG_PATH share/cmake/gpt2_embeddings)
vcpkg_fixup_pkgconfig()

# The licence goes to vcpkg's usual place.
file(REMOVE_RECURSE "${CURRENT_PACKAGES_DIR}/share/doc")
vcpkg_install_copyright(FILE_LIST "${SOURCE_PATH}/LICENSE")
file(INSTALL "${CURRENT_PORT_DIR}/usage" DESTINATION "${CURRENT_PACKAGES_DIR}/share/${PORT}")
