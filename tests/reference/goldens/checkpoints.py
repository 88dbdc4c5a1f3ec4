"""GPT-2 checkpoints of random weights, in the forms in which people have them."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

from goldens.files import Tensors

Gpt2 = GPT2Model | GPT2LMHeadModel

# No two sizes are alike, so that a transposed or swapped table cannot go unnoticed. Ten columns are a whole vector
# register and a remainder, on every processor.
SMALL_CONFIG: dict[str, Any] = {
    "vocab_size": 97,
    "n_positions": 31,
    "n_embd": 10,
    "n_layer": 1,
    "n_head": 2,
    "bos_token_id": 96,
    "eos_token_id": 96,
}

# Values other than the defaults, so that a field that is dropped or misread shows. Two fields have to stay: with a
# pad_token_id transformers refuses rank-1 ids, and an untied head would not be in the file of a GPT2Model.
UNUSUAL_CONFIG: dict[str, Any] = {
    "n_inner": 20,
    "activation_function": "gelu",
    "resid_pdrop": 0.05,
    "embd_pdrop": 0.2,
    "attn_pdrop": 0.0,
    "layer_norm_epsilon": 1e-6,
    "initializer_range": 0.5,
    "summary_type": "mean",
    "summary_use_proj": False,
    "summary_activation": "tanh",
    "summary_proj_to_labels": False,
    "summary_first_dropout": 0.25,
    "scale_attn_weights": False,
    "use_cache": False,
    "bos_token_id": 3,
    "eos_token_id": 5,
    "scale_attn_by_inverse_layer_idx": True,
    "reorder_and_upcast_attn": True,
}


@dataclass(frozen=True)
class RandomCheckpoint:
    name: str
    model_class: type[Gpt2] = GPT2Model
    dtype: torch.dtype = torch.float32
    config: dict[str, Any] = field(default_factory=dict)
    max_shard_size: str = "1GB"


RANDOM_CHECKPOINTS = (
    RandomCheckpoint("base-f32"),
    RandomCheckpoint("base-f16", dtype=torch.float16),
    RandomCheckpoint("base-f64", dtype=torch.float64, config=UNUSUAL_CONFIG),
    RandomCheckpoint("lm-head-f32", model_class=GPT2LMHeadModel, config={"n_layer": 2}),
    RandomCheckpoint("lm-head-bf16", model_class=GPT2LMHeadModel, dtype=torch.bfloat16),
    RandomCheckpoint("lm-head-f32-sharded", model_class=GPT2LMHeadModel, max_shard_size="3KB"),
)


def write_random_checkpoints(parent: Path) -> list[Path]:
    """Writes every checkpoint below `parent`, each from its own seed, and returns their folders."""
    folders = []
    for seed, checkpoint in enumerate(RANDOM_CHECKPOINTS):
        folder = emptied(parent / checkpoint.name)
        model = random_model(checkpoint, seed)
        model.save_pretrained(folder, max_shard_size=checkpoint.max_shard_size)
        folders.append(folder)
    folders.append(_write_hub_form(emptied(parent / "hub-f32"), seed=len(RANDOM_CHECKPOINTS)))
    return folders


def random_model(checkpoint: RandomCheckpoint, seed: int) -> Gpt2:
    torch.manual_seed(seed)
    # The default dtype rather than a cast afterwards: a float64 model must hold values that float32 cannot.
    with _default_dtype(checkpoint.dtype):
        model = checkpoint.model_class(GPT2Config(**(SMALL_CONFIG | checkpoint.config)))
        _randomise_biases_and_layer_norms(model)
    return model.eval()


def write_full_size_checkpoint(folder: Path) -> None:
    """A GPT-2 base checkpoint of the hub's size and layout: 124M parameters and the attention masks, float32."""
    torch.manual_seed(0)
    _save_as_on_the_hub(GPT2Model(GPT2Config(architectures=["GPT2LMHeadModel"])), emptied(folder))
    size = (folder / "model.safetensors").stat().st_size
    print(f"{folder}/model.safetensors: {size} bytes ({size / 1e6:.0f} MB)")


def emptied(folder: Path) -> Path:
    """`folder`, made anew: no file of an earlier run stays in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _write_hub_form(folder: Path, seed: int) -> Path:
    """The published GPT-2 files are of 2019: keys without prefix, attention masks stored, config with n_ctx."""
    config = {"architectures": ["GPT2LMHeadModel"], "n_ctx": SMALL_CONFIG["n_positions"]}
    _save_as_on_the_hub(random_model(RandomCheckpoint("hub-f32", config=config), seed), folder)
    return folder


def _save_as_on_the_hub(model: Gpt2, folder: Path) -> None:
    save_file(model.state_dict() | _attention_masks(model.config), folder / "model.safetensors", {"format": "pt"})
    model.config.save_pretrained(folder)


def _attention_masks(config: GPT2Config) -> Tensors:
    n = config.n_positions
    return {f"h.{layer}.attn.bias": torch.ones(n, n).tril().view(1, 1, n, n) for layer in range(config.n_layer)}


@torch.no_grad()
def _randomise_biases_and_layer_norms(model: Gpt2) -> None:
    """A fresh model has only zeros and ones there, which would hide a bias that is forgotten."""
    for parameter in model.parameters():
        if parameter.ndim == 1:
            parameter.add_(0.1 * torch.randn_like(parameter))


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
