"""generation.safetensors: results of whole GPT-2 models, from ids to logits and to generated ids.

Tensors are named `<checkpoint>.<case>.<role>`, or `<checkpoint>.<field>=<value>.<case>.<role>` if one field of the
configuration was changed before the checkpoint was loaded. The model computes in float32, base-f64's in float64.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache, GPT2LMHeadModel

from goldens.files import Tensors, write_goldens
from goldens.word_order_model import TOKEN_IDS

SEED = 0
MASKS = {
    "unpadded": [[1, 1, 1, 1, 1], [1, 1, 1, 1, 1]],
    "left_padded": [[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]],
    "right_padded": [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]],
    "inner_padded": [[1, 0, 1, 0, 1], [0, 1, 1, 1, 1]],
}
# With a cache, the first tokens come in one call and the others one by one.
FIRST_CALL = 3

# The cases for which a checkpoint's logits are stored.
LOGITS = {
    "gpt2-tiny": tuple(MASKS),
    "lm-head-f32": ("unpadded", "left_padded"),
    "base-f64": ("unpadded", "left_padded"),
    "base-f32": ("left_padded",),
    "base-f16": ("left_padded",),
    "hub-f32": ("left_padded",),
    "lm-head-bf16": ("left_padded",),
    "lm-head-f32-sharded": ("left_padded",),
}

# Of all checkpoints, the trained one feels such changes most.
CHANGED_CHECKPOINT = "gpt2-tiny"
CHANGED_FIELDS: tuple[tuple[str, Any], ...] = (
    ("scale_attn_weights", False),
    ("scale_attn_by_inverse_layer_idx", True),
    ("layer_norm_epsilon", 0.1),
    ("n_head", 3),
    ("activation_function", "gelu"),
    ("activation_function", "relu"),
    ("activation_function", "silu"),
    ("activation_function", "tanh"),
)

QUESTIONS = (
    "<|endoftext|> dog bites man . who bites man ?",
    "<|endoftext|> cat sees bird . who is seen ?",
    "<|endoftext|> girl follows boy .",
    "<|endoftext|> fox",
)
# Two logits closer than this, measured by the largest one, could change places by rounding alone.
SMALLEST_MARGIN = 1e-3


@torch.no_grad()
def write_generation_goldens(path: Path, checkpoints: Path) -> None:
    goldens: Tensors = {}
    for name, cases in LOGITS.items():
        model = _load(checkpoints / name)
        for case in cases:
            _add(goldens, f"{name}.{case}", _logits(model, MASKS[case]))
    for field, value in CHANGED_FIELDS:
        model = _load(checkpoints / CHANGED_CHECKPOINT, **{field: value})
        text = str(value).lower() if isinstance(value, bool) else str(value)
        _add(goldens, f"{CHANGED_CHECKPOINT}.{field}={text}.left_padded", _logits(model, MASKS["left_padded"]))

    questions = [[TOKEN_IDS[word] for word in question.split()] for question in QUESTIONS]
    _add(goldens, "gpt2-tiny.questions", _generate(_load(checkpoints / "gpt2-tiny"), questions, new_tokens=8))
    for name in ("lm-head-f32", "base-f64"):
        model = _load(checkpoints / name)
        # The last token of the longest row is generated at the model's last position, and not embedded any more.
        longest = model.config.n_positions - 7
        prompts = [_random_ids(model, seed, length) for seed, length in enumerate((3, longest, 1))]
        _add(goldens, f"{name}.to_the_end", _generate(model, prompts, new_tokens=8))
    write_goldens(path, goldens)


def _load(folder: Path, **changes: Any) -> GPT2LMHeadModel:
    dtype = torch.float64 if folder.name.endswith("f64") else torch.float32
    return GPT2LMHeadModel.from_pretrained(folder, dtype=dtype, **changes).eval()


def _add(goldens: Tensors, case: str, tensors: Tensors) -> None:
    goldens.update({f"{case}.{role}": tensor for role, tensor in tensors.items()})


def _logits(model: GPT2LMHeadModel, mask: list[list[int]]) -> Tensors:
    attention_mask = torch.tensor(mask)
    seq_length = attention_mask.shape[1]
    ids = torch.tensor([_random_ids(model, SEED + row, seq_length) for row in range(len(mask))])
    position_ids = (attention_mask.cumsum(-1) - 1).clamp(min=0)
    whole = model(input_ids=ids, attention_mask=attention_mask, position_ids=position_ids, use_cache=False)

    cache = DynamicCache(config=model.config)
    calls = []
    begin = 0
    for end in range(FIRST_CALL, seq_length + 1):
        calls.append(
            model(
                input_ids=ids[:, begin:end],
                attention_mask=attention_mask[:, :end],
                position_ids=position_ids[:, begin:end],
                past_key_values=cache,
                use_cache=True,
            )
        )
        begin = end
    return {
        "input_ids": ids,
        "attention_mask": attention_mask,
        "logits": whole.logits,
        "logits_cached": torch.cat([call.logits for call in calls[1:]], dim=1),
    }


def _generate(model: GPT2LMHeadModel, prompts: list[list[int]], new_tokens: int) -> Tensors:
    pad = model.config.eos_token_id
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])
    attention_mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    generated = model.generate(
        input_ids=ids,
        attention_mask=attention_mask,
        pad_token_id=pad,
        do_sample=False,
        max_new_tokens=new_tokens,
        return_dict_in_generate=True,
        output_logits=True,
    )
    for logits in generated.logits:
        best, second = logits.topk(2).values.unbind(-1)
        if ((best - second) < SMALLEST_MARGIN * logits.abs().amax(-1)).any():
            raise RuntimeError("two tokens are so nearly alike that rounding decides: take other prompts")
    return {"input_ids": ids, "attention_mask": attention_mask, "generated": generated.sequences[:, longest:]}


def _random_ids(model: GPT2LMHeadModel, seed: int, length: int) -> list[int]:
    return torch.randint(model.config.vocab_size, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
