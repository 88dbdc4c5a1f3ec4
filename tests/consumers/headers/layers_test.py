#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Tests layers.py: a small tree that keeps the laws, and each way to break one."""

import tempfile
import unittest
from pathlib import Path

import layers

SOUND = {
    "version.hpp": "",
    "error.hpp": '#include "gpt2/version.hpp"\n',
    "scalar.hpp": '#include <Eigen/Core>\n#include "gpt2/version.hpp"\n',
    "ids.hpp": '#include "gpt2/scalar.hpp"\n',
    "types.hpp": '#include "gpt2/ids.hpp"\n',
    "safetensors.hpp": '#include "gpt2/detail/files/json.hpp"\n',
    "embedding.hpp": '#include "gpt2/types.hpp"\n#include "gpt2/detail/embedding.hpp"\n',
    "embeddings.hpp": '#include "gpt2/embedding.hpp"\n',
    "checkpoint.hpp": '#include "gpt2/safetensors.hpp"\n',
    "mpi.hpp": '#include <mpi.h>\n#include "gpt2/checkpoint.hpp"\n#include "gpt2/detail/mpi/ranks.hpp"\n',
    "gpt2.hpp": "".join(f'#include "gpt2/{name}.hpp"\n' for name in (
        "version", "error", "scalar", "ids", "types", "safetensors", "embedding", "embeddings", "checkpoint")),
    "detail/embedding.hpp": '#include "gpt2/embedding.hpp"\n#include "gpt2/detail/arguments/ids.hpp"\n'
                            '#include "gpt2/detail/kernels/sums.hpp"\n',
    "detail/arguments/ids.hpp": '#include "gpt2/error.hpp"\n#include "gpt2/ids.hpp"\n',
    "detail/kernels/sums.hpp": '#include "gpt2/scalar.hpp"\n',
    "detail/files/json.hpp": '#include <nlohmann/json.hpp>\n#include "gpt2/error.hpp"\n',
    "detail/mpi/ranks.hpp": '#include "gpt2/mpi.hpp"\n#include "gpt2/error.hpp"\n',
}  # fmt: skip


class Laws(unittest.TestCase):
    def faults(self, added, replaced=None):
        """The faults of the sound tree with lines added to some headers."""
        with tempfile.TemporaryDirectory() as folder:
            for name, text in {**dict.fromkeys(added, ""), **SOUND, **(replaced or {})}.items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text + added.get(name, ""), encoding="utf-8")
            return layers.check(Path(folder))

    def refused(self, words, header, line):
        found = self.faults({header: line + "\n"})
        self.assertTrue(any(words in fault for fault in found), found)

    def test_a_sound_tree_has_no_faults(self):
        self.assertEqual(self.faults({}), [])

    def test_the_table_has_every_row_once(self):
        self.assertEqual(len(layers.ROWS), 10)
        self.assertEqual(len(layers.LAYER), sum(len(step.split()) for steps in layers.ROWS for step in steps))

    def test_includes_go_downward(self):
        self.refused("does not stand before it", "ids.hpp", '#include "gpt2/types.hpp"')
        self.refused("does not stand before it", "embedding.hpp", '#include "gpt2/embeddings.hpp"')
        self.refused("(through detail/arguments/ids.hpp)", "detail/arguments/ids.hpp", '#include "gpt2/embeddings.hpp"')

    def test_definitions_are_not_reached_from_below(self):
        self.refused("definitions of a later row", "types.hpp", '#include "gpt2/detail/embedding.hpp"')
        self.assertEqual(self.faults({"embeddings.hpp": '#include "gpt2/detail/embedding.hpp"\n'}), [])

    def test_arguments_know_no_kernel(self):
        self.refused("arguments know no kernel", "detail/arguments/ids.hpp", '#include "gpt2/detail/kernels/sums.hpp"')
        self.refused("arguments know no kernel", "ids.hpp", '#include "gpt2/detail/kernels/sums.hpp"')

    def test_kernels_throw_nothing(self):
        self.refused("kernels throw nothing", "detail/kernels/sums.hpp", '#include "gpt2/error.hpp"')
        self.refused("kernels throw nothing", "scalar.hpp", '#include "gpt2/error.hpp"')

    def test_files_know_no_eigen(self):
        self.refused("files know no Eigen", "detail/files/json.hpp", "#include <Eigen/Core>")
        self.refused("files know no Eigen", "detail/files/json.hpp", '#include "gpt2/scalar.hpp"')
        self.refused("files know no Eigen", "detail/files/json.hpp", "#include <unsupported/Eigen/CXX11/Tensor>")

    def test_who_only_embeds_parses_no_json(self):
        self.refused("which parses JSON", "embedding.hpp", '#include "gpt2/safetensors.hpp"')
        self.refused("is not one that parses JSON", "detail/embedding.hpp", "#include <nlohmann/json.hpp>")
        self.refused("includes <iostream>", "detail/embedding.hpp", "#  include <iostream>")

    def test_mpi_stands_apart(self):
        self.refused("stands apart", "gpt2.hpp", '#include "gpt2/mpi.hpp"')
        self.refused("stands apart", "detail/embedding.hpp", '#include "gpt2/communicator.hpp"')
        self.refused("which is mpi.hpp's", "checkpoint.hpp", '#include "gpt2/detail/mpi/ranks.hpp"')

    def test_the_umbrella_has_all_others(self):
        faults = self.faults({}, {"gpt2.hpp": ""})
        self.assertIn("gpt2.hpp does not include embedding.hpp", faults)
        self.assertFalse(any("mpi" in fault for fault in faults))

    def test_headers_have_a_place_and_exist(self):
        self.refused("is in no row", "nowhere.hpp", "")
        self.refused("does not exist", "types.hpp", '#include "gpt2/detail/nothing.hpp"')
        self.refused("are named", "types.hpp", '#include "ids.hpp"')

    def test_public_headers_are_short(self):
        self.refused(f"more than {layers.LONGEST}", "types.hpp", "\n" * layers.LONGEST)
        self.assertEqual(self.faults({"types.hpp": "\n" * (layers.LONGEST - 1), "detail/embedding.hpp": "\n" * 1000}), [])


if __name__ == "__main__":
    unittest.main()
