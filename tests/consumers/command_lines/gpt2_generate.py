#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs examples/gpt2_generate with good and bad input, from a folder of its own.

    gpt2_generate.py GPT2_GENERATE REPOSITORY
"""

import json
import re
import sys
from pathlib import Path

from command_line import CommandLine, main, write_byte_vocabulary, write_tensors

# Arguments, and the text that the one line on stderr must contain.
BAD_INPUT = [
    (["--ids", "0,99"], "wte: prompts[0, 1] = 99 is outside [0, 26)"),
    (["--ids", "0;-1"], "prompts[1, 0] = -1"),
    (["--ids"], "--ids needs a value"),
    (["--ids", ""], "is not a whole number"),
    (["--ids", "0;;1"], "is not a whole number"),
    (["--ids", "99999999999999999999"], "does not fit 64 bits"),
    (["--ids", "0", "--max-new-tokens", "-1"], "-1"),
    (["--ids", "0", "--max-new-tokens", "34"], "prompts[0] has 1 tokens, to be followed by 34"),
    (["--ids", "0", "--max-new-tokens", "x"], '"x" is not a whole number'),
    (["--ids", "0,1", "--attention-mask", "0,2"], "neither 0 nor 1"),
    (["--ids", "0,1", "--attention-mask", "0,0"], "leaves nothing"),
    (["--ids", "0,1", "--attention-mask", "1"], "has 1 numbers"),
    (["--ids", "0;1", "--attention-mask", "1"], "a row for every prompt"),
    (["--attention-mask", "1"], "--ids is missing"),
    (["--attention-mask", "1", "--prompt", "dog"], "--ids is missing"),
    (["some-folder"], "--prompt or --ids is missing"),
    (["--prompt"], "--prompt needs a value"),
    (["--prompt", "dog", "--ids", "0"], "give one of --prompt and --ids"),
    (["--prompt", "dog bites men"], '"men" is none of the 26 words in'),
    (["--prompt", "dog", "--prompt", " "], "--prompt: the text is empty"),
    (["--prompt", "dog", "--max-new-tokens", "34"], "prompts[0] has 1 tokens, to be followed by 34"),
    (["--unknown"], "unknown option --unknown"),
    (["one", "two"], "two checkpoints"),
    (["no-such-folder", "--ids", "0"], "no-such-folder"),
]


def write_reciter(folder: Path, recited: bytes) -> None:
    """A checkpoint that says the bytes, whatever it is asked: at each position, the logit of one byte is largest."""
    folder.mkdir()
    rows, positions, width = 257, len(recited), len(recited) + 1
    config = {"vocab_size": rows, "n_positions": positions, "n_embd": width, "n_layer": 1, "n_head": 1,
              "eos_token_id": 256}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    write_byte_vocabulary(folder)

    wte, wpe = [[0.0] * width for _ in range(rows)], [[0.0] * width for _ in range(positions)]
    for position, byte in enumerate(recited):
        wte[byte][position] = 1.0
        wpe[position][position] = 100.0
    # The block adds nothing.
    tensors = {"wte.weight": wte, "wpe.weight": wpe, "ln_f.weight": [[1.0] * width], "ln_f.bias": [[0.0] * width]}
    for name in ["ln_1", "ln_2"]:
        tensors |= {f"h.0.{name}.weight": [[1.0] * width], f"h.0.{name}.bias": [[0.0] * width]}
    linear = {"attn.c_attn": (1, 3), "attn.c_proj": (1, 1), "mlp.c_fc": (1, 4), "mlp.c_proj": (4, 1)}
    for name, (inputs, outputs) in linear.items():
        tensors[f"h.0.{name}.weight"] = [[0.0] * outputs * width] * (inputs * width)
        tensors[f"h.0.{name}.bias"] = [[0.0] * outputs * width]
    write_tensors(folder / "model.safetensors", tensors)


def check_texts(command: CommandLine, bundled: str) -> None:
    question = "<|endoftext|> dog bites man. who bites man?"
    if command.succeed(bundled, "--prompt", question) != f"{question} dog .\n":
        command.fault("who bites man? The text is not that of the ids")
    statement = "<|endoftext|> girl follows boy ."
    batch = command.succeed(bundled, "--prompt", statement, "--prompt", question)
    answers = [f"sequence 0\n{statement} who is followed ? boy .\n", f"sequence 1\n{question} dog .\n"]
    if batch != "".join(answers):
        command.fault(f"a batch of texts:\n{batch}")
    if command.succeed(bundled, "--prompt", question, "--max-new-tokens", "0") != f"{question}\n":
        command.fault("no new tokens are not the prompt")
    watched = command.run(bundled, "--prompt", statement, "--progress", "--time")
    if watched.returncode != 0 or "7 of 20 tokens" not in watched.stderr or watched.stdout.count("tokens/s\n") != 2:
        command.fault(f"--prompt --progress --time prints {watched}")

    # Characters are written when they are complete; bytes of none are U+FFFD.
    write_reciter(command.folder / "reciter", "?é€😀".encode() + b"\xff \xe2\x82" + "日\n€".encode()[:-1])
    folder = str(command.folder / "reciter")
    if "libpcre2-dev" in command.run(folder, "--prompt", "a").stderr:
        command.refuse([folder, "--prompt", "a"], "text needs PCRE2")
    else:
        found = command.succeed(folder, "--prompt", "a", "--max-new-tokens", "20").encode()
        if found != "a?é€😀\ufffd \ufffd日\n\ufffd\n".encode():
            command.fault(f"the reciter says {found}")
        first = command.succeed(folder, "--prompt", "a", "--max-new-tokens", "4").encode()
        if first != "a?é\ufffd\n".encode():
            command.fault(f"the reciter begins with {first}")
    by_ids = command.succeed(folder, "--ids", "97", "--max-new-tokens", "4")
    if '  new     63,195,169,226\n          "?é\\xE2"\n' not in by_ids:
        command.fault(f"the reciter's ids:\n{by_ids}")


def check(command: CommandLine, repository: Path) -> None:
    checkpoints = repository / "tests/reference/checkpoints"
    bundled = str(checkpoints / "gpt2-tiny")

    def new_tokens(*arguments: str) -> list[str]:
        return re.findall(r"^  new +([0-9,]*)$", command.succeed(bundled, *arguments), re.MULTILINE)

    # "dog bites man . who bites man ?": "dog . <|endoftext|>". In a batch, after padding, or alone.
    alone = new_tokens("--ids", "25,0,10,1,23,22,10,1,24")
    if alone != ["0,23,25"]:
        command.fault(f"who bites man? {alone}")
    padded = new_tokens("--ids", "7,7,25,0,10,1,23,22,10,1,24", "--attention-mask", "0,0,1,1,1,1,1,1,1,1,1")
    batch = new_tokens("--ids", "25,4,14,5,23;25,0,10,1,23,22,10,1,24")
    if padded != alone or batch[1:] != alone:
        command.fault(f"{alone} alone, {padded} padded, {batch} in a batch")
    for size in range(3):
        cut = new_tokens("--ids", "25,0,10,1,23,22,10,1,24", "--max-new-tokens", str(size))
        if cut != [",".join(alone[0].split(",")[:size])]:
            command.fault(f"--max-new-tokens {size}: {cut}")

    timed = command.succeed(bundled, "--ids", "25,4,14,5,23", "--time")
    if len(re.findall(r"^.+: \d+ tokens in \d+\.\d+ s, \d+\.\d tokens/s$", timed, re.MULTILINE)) != 2:
        command.fault(f"--time prints\n{timed}")
    watched = command.run(bundled, "--ids", "25,4,14,5,23", "--progress")
    if watched.returncode != 0 or "7 of 20 tokens, " not in watched.stderr:
        command.fault(f"--progress prints {watched.stderr!r}")

    check_texts(command, bundled)

    # Any checkpoint with all of a model's tensors will do: in shards, under either names.
    if "sequence 0" not in command.succeed(str(checkpoints / "lm-head-f32-sharded"), "--ids", "1,2,3"):
        command.fault("a checkpoint in shards generates nothing")


if __name__ == "__main__":
    sys.exit(main(BAD_INPUT, check))
