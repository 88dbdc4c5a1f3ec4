# SPDX-License-Identifier: MIT
#
# Builds and runs the consumer of tests/consumers/install, which any installation must satisfy.

import os
from pathlib import Path

from conan import ConanFile
from conan.tools.build import can_run
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout


class Consumer(ConanFile):
    settings = "os", "arch", "compiler", "build_type"
    generators = "CMakeDeps"

    @property
    def _top(self):
        return Path(self.recipe_folder).parents[3]

    def requirements(self):
        self.requires(self.tested_reference_str)

    def layout(self):
        cmake_layout(self, build_folder=str(self._top / "build/conan"))

    def generate(self):
        toolchain = CMakeToolchain(self)
        version = self.dependencies["gpt2-embeddings"].ref.version
        toolchain.cache_variables["VERSION"] = str(version)
        toolchain.generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure(build_script_folder=self._top / "tests/consumers/install/find_package")
        cmake.build()

    def test(self):
        if can_run(self):
            self.run(os.path.join(self.cpp.build.bindir, "consumer"), env="conanrun")
