"""expected.safetensors: GPT-2's hidden states before the first block, taken from the running model.

Tensors are named `<case>.<role>`. The roles `input_ids`, `inputs_embeds`, `position_ids`, `token_type_ids`,
`attention_mask` and `past_length` are the caller's. `effective_position_ids` are those that the model then
looked up in wpe, and `hidden` reached the first block. Half-precision checkpoints also have
`hidden_float32`: the same call on the same weights, widened to float32 before any arithmetic.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

from goldens.files import Tensors, write_goldens

BATCH_SIZE = 3
SEQ_LENGTH = 4
PAST_LENGTH = 5
SEED = 0

LEFT_PADDED = [[0, 0, 1, 1], [1, 1, 1, 1], [0, 0, 0, 1]]
RIGHT_PADDED = [[1, 1, 1, 0], [1, 1, 1, 1], [1, 0, 0, 0]]
INNER_PADDED = [[1, 0, 1, 1], [0, 1, 0, 1], [0, 1, 0, 0]]


@dataclass
class ForwardPass:
    """The inputs of the model's tables and of its first block in one forward pass."""

    wte_lookups: list[torch.Tensor] = field(default_factory=list)
    position_ids: torch.Tensor | None = None
    hidden: torch.Tensor | None = None


@torch.no_grad()
def write_embedding_layer_goldens(folder: Path) -> None:
    model = GPT2LMHeadModel.from_pretrained(folder, dtype="auto").eval()
    inputs = RandomInputs(model.config)
    goldens = _explicit_calls(model.transformer, inputs)
    goldens |= _calls_with_past(model.transformer, inputs)
    goldens |= _generated(model, inputs)
    if model.dtype in (torch.float16, torch.bfloat16):
        _add_float32_hidden_states(model.transformer, goldens)
    write_goldens(
        folder / "expected.safetensors",
        {f"{case}.{role}": tensor for case, tensors in goldens.items() for role, tensor in tensors.items()},
    )


class RandomInputs:
    """Draws ids and positions that fit a model, the first and the last legal one always among them."""

    def __init__(self, config: GPT2Config) -> None:
        self.config = config
        self._generator = torch.Generator().manual_seed(SEED)

    def token_ids(self, *shape: int) -> torch.Tensor:
        return self._integers(self.config.vocab_size, shape)

    def position_ids(self, *shape: int) -> torch.Tensor:
        return self._integers(self.config.n_positions, shape)

    def embeds(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, self.config.n_embd, generator=self._generator).to(self.config.dtype)

    def _integers(self, bound: int, shape: tuple[int, ...]) -> torch.Tensor:
        drawn = torch.randint(bound, shape, generator=self._generator)
        drawn.view(-1)[0] = bound - 1
        drawn.view(-1)[-1] = 0
        return drawn


def _explicit_calls(model: GPT2Model, inputs: RandomInputs) -> dict[str, Tensors]:
    """Calls that say everything in their arguments."""
    ids = inputs.token_ids(BATCH_SIZE, SEQ_LENGTH)
    types = inputs.token_ids(BATCH_SIZE, SEQ_LENGTH)
    positions = inputs.position_ids(BATCH_SIZE, SEQ_LENGTH)
    embeds = inputs.embeds(BATCH_SIZE, SEQ_LENGTH)
    calls: dict[str, Tensors] = {
        "ids": {"input_ids": ids[0]},
        "ids_positions": {"input_ids": ids[0], "position_ids": positions[0]},
        "ids_types": {"input_ids": ids[0], "token_type_ids": types[0]},
        "batch": {"input_ids": ids},
        "batch_positions_seq": {"input_ids": ids, "position_ids": positions[1]},
        "batch_positions_row": {"input_ids": ids, "position_ids": positions[1:2]},
        "batch_positions_batch": {"input_ids": ids, "position_ids": positions},
        "batch_types": {"input_ids": ids, "token_type_ids": types},
        "batch_types_positions": {"input_ids": ids, "token_type_ids": types, "position_ids": positions},
        "full_length": {"input_ids": inputs.token_ids(1, inputs.config.n_positions)},
        "embeds": {"inputs_embeds": embeds},
        "embeds_positions": {"inputs_embeds": embeds, "position_ids": positions},
        "embeds_types": {"inputs_embeds": embeds, "token_type_ids": types},
    }
    return {case: arguments | _embedding_layer(model, **arguments) for case, arguments in calls.items()}


def _calls_with_past(model: GPT2Model, inputs: RandomInputs) -> dict[str, Tensors]:
    """The second of two calls, which continues the first through its key-value cache."""
    tail = 3
    return {
        "past": _continued_call(model, inputs, PAST_LENGTH, SEQ_LENGTH),
        "past_to_the_end": _continued_call(model, inputs, inputs.config.n_positions - tail, tail),
    }


def _continued_call(model: GPT2Model, inputs: RandomInputs, past_length: int, seq_length: int) -> Tensors:
    prefix = inputs.token_ids(BATCH_SIZE, past_length)
    ids = inputs.token_ids(BATCH_SIZE, seq_length)
    past = model(input_ids=prefix, use_cache=True).past_key_values
    seen = _embedding_layer(model, input_ids=ids, past_key_values=past)
    return {"past_length": torch.tensor(past_length), "input_ids": ids} | seen


def _generated(model: GPT2LMHeadModel, inputs: RandomInputs) -> dict[str, Tensors]:
    """The prompts of padded batches and, for left padding, the steps after them, as `generate` embeds them."""
    ids = inputs.token_ids(BATCH_SIZE, SEQ_LENGTH)
    left_padded = _generate(model, ids, LEFT_PADDED, new_tokens=3)
    return {
        "left_padded": left_padded[0],
        "left_padded_step_1": left_padded[1],
        "left_padded_step_2": left_padded[2],
        "right_padded": _generate(model, ids, RIGHT_PADDED, new_tokens=1)[0],
        "inner_padded": _generate(model, ids, INNER_PADDED, new_tokens=1)[0],
    }


def _generate(model: GPT2LMHeadModel, ids: torch.Tensor, mask: list[list[int]], new_tokens: int) -> list[Tensors]:
    attention_mask = torch.tensor(mask)
    pad = model.config.vocab_size - 1
    with _recording(model.transformer) as passes:
        model.generate(
            input_ids=ids.masked_fill(attention_mask == 0, pad),
            attention_mask=attention_mask,
            pad_token_id=pad,
            eos_token_id=None,
            use_cache=True,
            do_sample=False,
            max_new_tokens=new_tokens,
        )
    steps = []
    for forward_pass in passes:
        steps.append({"input_ids": forward_pass.wte_lookups[0], "attention_mask": attention_mask} | _seen(forward_pass))
        # Each new token is a real one.
        attention_mask = torch.cat((attention_mask, torch.ones_like(attention_mask[:, :1])), dim=1)
    return steps


def _add_float32_hidden_states(model: GPT2Model, goldens: dict[str, Tensors]) -> None:
    widened = model.float()
    for tensors in goldens.values():
        call: dict[str, Any] = {
            role: tensors[role] for role in ("input_ids", "inputs_embeds", "token_type_ids") if role in tensors
        }
        if "inputs_embeds" in call:
            call["inputs_embeds"] = call["inputs_embeds"].float()
        # The positions are given as the half-precision model had them: this needs no cache and no mask.
        seen = _embedding_layer(widened, position_ids=tensors["effective_position_ids"], **call)
        tensors["hidden_float32"] = seen["hidden"]


def _embedding_layer(model: GPT2Model, **call: Any) -> Tensors:
    with _recording(model) as passes:
        model(**call)
    (only_pass,) = passes
    seen = _seen(only_pass)
    if "input_ids" in call and call["input_ids"].ndim == 1:
        # Inside, the model makes a batch of one of rank-1 ids, and gives the caller a result without it.
        seen["hidden"] = seen["hidden"].squeeze(0)
    return seen


def _seen(forward_pass: ForwardPass) -> Tensors:
    assert forward_pass.position_ids is not None and forward_pass.hidden is not None
    return {"effective_position_ids": forward_pass.position_ids, "hidden": forward_pass.hidden}


@contextmanager
def _recording(model: GPT2Model) -> Iterator[list[ForwardPass]]:
    """Listens to wte, wpe and the first block; their inputs are in the list, one entry per forward pass."""
    passes: list[ForwardPass] = []

    def start(_module: torch.nn.Module, _arguments: tuple[Any, ...]) -> None:
        passes.append(ForwardPass())

    def note_wte(_module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        passes[-1].wte_lookups.append(arguments[0].clone())

    def note_wpe(_module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        passes[-1].position_ids = arguments[0].clone()

    def note_hidden(_module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        passes[-1].hidden = arguments[0].clone()

    listeners = [
        module.register_forward_pre_hook(note)
        for module, note in ((model, start), (model.wte, note_wte), (model.wpe, note_wpe), (model.h[0], note_hidden))
    ]
    try:
        yield passes
    finally:
        for listener in listeners:
            listener.remove()
