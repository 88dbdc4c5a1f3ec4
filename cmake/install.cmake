# SPDX-License-Identifier: MIT
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

# Nothing here depends on the architecture, so it goes to share/.
set(package_dir ${CMAKE_INSTALL_DATADIR}/cmake/gpt2_embeddings)
set(pkgconfig_dir ${CMAKE_INSTALL_DATADIR}/pkgconfig)

# Components by which a parent project, or a package of this one, may take a part; without their names all is installed.
set(component COMPONENT gpt2_embeddings_development)

install(TARGETS gpt2_embeddings EXPORT gpt2_embeddings FILE_SET HEADERS ${component})
install(EXPORT gpt2_embeddings
  NAMESPACE gpt2::
  FILE gpt2_embeddings-targets.cmake
  DESTINATION ${package_dir}
  ${component})

# The component `mpi`: its headers are always installed, its target is made for those who ask for it.
install(TARGETS gpt2_embeddings_mpi EXPORT gpt2_embeddings_mpi FILE_SET HEADERS ${component})
install(EXPORT gpt2_embeddings_mpi
  NAMESPACE gpt2::
  FILE gpt2_embeddings-mpi-targets.cmake
  DESTINATION ${package_dir}
  ${component})

configure_package_config_file(
  cmake/gpt2_embeddings-config.cmake.in gpt2_embeddings-config.cmake
  INSTALL_DESTINATION ${package_dir}
  NO_SET_AND_CHECK_MACRO)
# Below 1.0 a minor step may break.
write_basic_package_version_file(gpt2_embeddings-config-version.cmake
  COMPATIBILITY SameMinorVersion
  ARCH_INDEPENDENT)
install(FILES
  ${CMAKE_CURRENT_BINARY_DIR}/gpt2_embeddings-config.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/gpt2_embeddings-config-version.cmake
  DESTINATION ${package_dir}
  ${component})

# Relative to the .pc file itself, so that the tree can be moved; an absolute include folder stays absolute.
cmake_path(IS_RELATIVE CMAKE_INSTALL_INCLUDEDIR movable)
if(movable)
  cmake_path(RELATIVE_PATH CMAKE_INSTALL_INCLUDEDIR BASE_DIRECTORY ${pkgconfig_dir} OUTPUT_VARIABLE pkgconfig_includedir)
  string(PREPEND pkgconfig_includedir "\${pcfiledir}/")
else()
  set(pkgconfig_includedir ${CMAKE_INSTALL_INCLUDEDIR})
endif()
configure_file(cmake/gpt2_embeddings.pc.in gpt2_embeddings.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/gpt2_embeddings.pc DESTINATION ${pkgconfig_dir} ${component})

install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT gpt2_embeddings_license)
