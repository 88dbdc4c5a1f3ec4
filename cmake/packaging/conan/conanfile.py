# SPDX-License-Identifier: MIT
#
# For Conan 2, of these sources as they stand:
#
#   conan create cmake/packaging/conan --settings compiler.cppstd=20 --build missing

import re
from pathlib import Path

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.files import copy, load

required_conan_version = ">=2.0"


class Gpt2Embeddings(ConanFile):
    name = "gpt2-embeddings"
    description = "GPT-2's embedding layers for C++20 and Eigen"
    license = "MIT"
    topics = ("gpt-2", "embeddings", "eigen", "safetensors", "header-only")
    package_type = "header-library"
    settings = "os", "arch", "compiler", "build_type"
    no_copy_source = True

    @property
    def _top(self):
        return Path(self.recipe_folder).parents[2]

    def set_version(self):
        # The version is written once, in a header.
        header = load(self, self._top / "include/gpt2/version.hpp")
        self.version = ".".join(re.findall(r"^#define GPT2_EMBEDDINGS_VERSION_\w+ (\d+)$", header, re.MULTILINE))

    def export_sources(self):
        copy(self, "include/*.hpp", self._top, self.export_sources_folder)
        copy(self, "LICENSE", self._top, self.export_sources_folder)

    def requirements(self):
        self.requires("eigen/3.4.0")
        self.requires("nlohmann_json/[~3.11]")

    def validate(self):
        check_min_cppstd(self, 20)

    def package_id(self):
        self.info.clear()

    def package(self):
        copy(self, "include/*", self.source_folder, self.package_folder)
        copy(self, "LICENSE", self.source_folder, Path(self.package_folder) / "licenses")

    def package_info(self):
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
        # As installed without Conan: find_package(gpt2_embeddings), and below 1.0 a minor step may break.
        self.cpp_info.set_property("cmake_file_name", "gpt2_embeddings")
        self.cpp_info.set_property("cmake_target_name", "gpt2::embeddings")
        self.cpp_info.set_property("cmake_config_version_compat", "SameMinorVersion")
        self.cpp_info.set_property("pkg_config_name", "gpt2_embeddings")
