#!/usr/bin/env python3
"""Makes the data the C++ tests compare with, by running PyTorch, transformers and MAX themselves.

    generate_reference.py [--out DIR] [--max-python PYTHON]   write checkpoints and goldens
    generate_reference.py --check DIR --against DIR           read a folder our save_pretrained wrote, compare it
    generate_reference.py --full-size DIR                     write a 548 MB GPT-2 of random weights

README.md beside this file says what each data file holds.
"""

import argparse
import sys
from pathlib import Path

from goldens.checkpoints import write_full_size_checkpoint, write_random_checkpoints
from goldens.embedding_layer import write_embedding_layer_goldens
from goldens.functions import write_function_goldens
from goldens.generation import write_generation_goldens
from goldens.gradients import write_gradient_goldens
from goldens.head_errors import write_head_errors
from goldens.max_reference import write_max_goldens
from goldens.reproducibility import make_torch_repeatable
from goldens.round_trip import differences_after_round_trip
from goldens.word_order_model import write_word_order_checkpoint

DATA_FOLDER = Path(__file__).resolve().parent

# MAX is asked about a table of random weights, which is the same on every machine; trained weights need not be.
CHECKPOINT_FOR_MAX = "base-f32"


def generate(out: Path, max_python: Path | None) -> None:
    checkpoints = out / "checkpoints"
    folders = write_random_checkpoints(checkpoints)
    folders.append(write_word_order_checkpoint(checkpoints / "gpt2-tiny"))
    for folder in folders:
        write_embedding_layer_goldens(folder)
    write_function_goldens(out / "functions.safetensors")
    write_generation_goldens(out / "generation.safetensors", checkpoints)
    write_gradient_goldens(out / "gradients.safetensors")
    write_head_errors(out / "head_errors.safetensors")
    write_max_goldens(out / "max.safetensors", checkpoints / CHECKPOINT_FOR_MAX, max_python)


def check(written: Path, reference: Path) -> int:
    differences = differences_after_round_trip(written, reference)
    for difference in differences:
        print(f"DIFFERENT: {difference}")
    print(f"{written} against {reference}: {len(differences)} differences")
    return 1 if differences else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--check", type=Path, metavar="DIR", help="a folder written by our save_pretrained")
    mode.add_argument("--full-size", type=Path, metavar="DIR", help="write the full-size checkpoint here")
    parser.add_argument("--against", type=Path, metavar="DIR", help="with --check: the folder to compare with")
    parser.add_argument("--out", type=Path, default=DATA_FOLDER, metavar="DIR", help="where the data goes (here)")
    parser.add_argument("--max-python", type=Path, metavar="PYTHON", help="a Python that has max (this one, if it has)")
    arguments = parser.parse_args()
    if (arguments.check is None) != (arguments.against is None):
        parser.error("--check and --against go together")
    return arguments


def main() -> int:
    arguments = parse_arguments()
    make_torch_repeatable()
    if arguments.check:
        return check(arguments.check, arguments.against)
    if arguments.full_size:
        write_full_size_checkpoint(arguments.full_size)
    else:
        generate(arguments.out, arguments.max_python)
    return 0


if __name__ == "__main__":
    sys.exit(main())
