"""gradients.safetensors: gradients by PyTorch and a transformers GPT-2, and the results of training.

Tensors are named `<dtype>.<case>.<role>`. The model is a GPT2LMHeadModel without blocks, so that its embeddings reach
its tied head as they are: every gradient there is comes from these layers alone.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy, embedding
from transformers import GPT2Config, GPT2LMHeadModel

from goldens.files import Tensors, write_goldens

DTYPES = (torch.float32, torch.float64)

# No two sizes are alike, and the last part of a vectorised loop is never a full one. WORDS are the rows of a padded
# table that are words.
VOCAB_SIZE = 13
WORDS = 11
N_POSITIONS = 6
N_EMBD = 5
BATCH_SIZE = 3
SEQ_LENGTH = 4

IGNORED = -100
NORM_TYPES = (0.0, 0.5, 1.0, 2.0, 3.0, float("inf"))
TRAINING_STEPS = 10

# Two logits closer than this could change places by rounding alone.
SMALLEST_MARGIN = 1e-4

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.5),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1),
}


def write_gradient_goldens(path: Path) -> None:
    goldens: Tensors = {}
    for dtype in DTYPES:
        draw = Draw(dtype)
        cases = dict(_tables(draw)) | dict(_renorm(draw)) | dict(_layers(draw)) | dict(_heads(draw))
        cases |= dict(_tied(draw)) | dict(_training(draw))
        prefix = str(dtype).removeprefix("torch.")
        goldens |= {f"{prefix}.{case}.{role}": value for case, roles in cases.items() for role, value in roles.items()}
    write_goldens(path, goldens)


class Draw:
    """Random inputs of one dtype; values that float32 has, so that both dtypes get the same."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype
        self._generator = torch.Generator().manual_seed(0)

    def ids(self, bound: int, *shape: int) -> torch.Tensor:
        return torch.randint(bound, shape, generator=self._generator)

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self._generator).to(self.dtype)

    def model(self) -> GPT2LMHeadModel:
        config = GPT2Config(
            vocab_size=VOCAB_SIZE,
            n_positions=N_POSITIONS,
            n_embd=N_EMBD,
            n_layer=0,
            n_head=1,
            embd_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
        )
        model = GPT2LMHeadModel(config).to(self.dtype)
        model.transformer.ln_f = nn.Identity()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(self.normal(*parameter.shape))
        return model


def _tables(draw: Draw) -> Iterator[tuple[str, Tensors]]:
    """torch.nn.Embedding by itself, each with the gradient of two calls. Row 4 often occurs, row 5 never."""
    ids = draw.ids(VOCAB_SIZE, 2, BATCH_SIZE, SEQ_LENGTH)
    ids[ids == 5] = 4
    ids[:, :, :2] = 4
    grad_output = draw.normal(*ids.shape, N_EMBD)
    options: dict[str, dict[str, Any]] = {
        "plain": {},
        "padding": {"padding_idx": 4},
        "by_freq": {"scale_grad_by_freq": True},
        "padding_by_freq": {"padding_idx": 4 - VOCAB_SIZE, "scale_grad_by_freq": True},
    }
    inputs = {"ids": ids, "grad_output": grad_output}
    yield "table", inputs
    for name, arguments in options.items():
        table = nn.Embedding(VOCAB_SIZE, N_EMBD, dtype=draw.dtype, **arguments)
        for call in range(2):
            table(ids[call]).backward(grad_output[call])
        yield f"table.{name}", {"grad": _gradient(table.weight)}
        if "scale_grad_by_freq" not in arguments:  # which PyTorch has not for sparse gradients
            sparse = nn.Embedding(VOCAB_SIZE, N_EMBD, dtype=draw.dtype, sparse=True, **arguments)
            sparse(ids[0]).backward(grad_output[0])
            coalesced = _gradient(sparse.weight).coalesce()
            yield f"table.{name}.sparse", {"rows": coalesced.indices()[0], "values": coalesced.values()}


def _renorm(draw: Draw) -> Iterator[tuple[str, Tensors]]:
    """The table after a lookup with max_norm; one of its rows is zero, one has just max_norm."""
    weight = draw.normal(6, N_EMBD)
    weight[2] = 0
    weight[3] = 0
    weight[3, 1] = -1.5
    ids = torch.tensor([[0, 2, 3], [0, 1, 5]])
    yield "renorm", {"weight": weight, "ids": ids, "max_norm": torch.tensor(1.5, dtype=torch.float64)}
    for norm_type in NORM_TYPES:
        renormed = weight.clone()
        embedding(ids, renormed, max_norm=1.5, norm_type=norm_type)
        yield f"renorm.{norm_type:g}", {"weight": renormed}


def _layers(draw: Draw) -> Iterator[tuple[str, Tensors]]:
    """The sum of a GPT2Model, whose hidden states are given a gradient."""
    model = draw.model()
    tables = {"wte": model.transformer.wte.weight, "wpe": model.transformer.wpe.weight}
    yield "layer", {name: table.clone() for name, table in tables.items()}
    ids = draw.ids(VOCAB_SIZE, BATCH_SIZE, SEQ_LENGTH)
    types = draw.ids(3, BATCH_SIZE, SEQ_LENGTH)
    positions = draw.ids(N_POSITIONS, BATCH_SIZE, SEQ_LENGTH)
    embeds = draw.normal(BATCH_SIZE, SEQ_LENGTH, N_EMBD)
    calls: dict[str, Tensors] = {
        "ids": {"input_ids": ids},
        "positions_seq": {"input_ids": ids, "position_ids": positions[0]},
        "positions_row": {"input_ids": ids, "position_ids": positions[:1]},
        "positions_batch": {"input_ids": ids, "position_ids": positions},
        "types": {"input_ids": ids, "token_type_ids": types},
        "types_positions": {"input_ids": ids, "token_type_ids": types, "position_ids": positions},
        "embeds": {"inputs_embeds": embeds},
        "embeds_types_positions": {"inputs_embeds": embeds, "token_type_ids": types, "position_ids": positions},
    }
    for name, arguments in calls.items():
        grad_output = draw.normal(BATCH_SIZE, SEQ_LENGTH, N_EMBD)
        model.zero_grad()
        given = {role: value.clone().requires_grad_(role == "inputs_embeds") for role, value in arguments.items()}
        hidden = model.transformer(**given).last_hidden_state
        hidden.backward(grad_output)
        gradients = {f"{role}_grad": table.grad for role, table in tables.items() if table.grad is not None}
        if "inputs_embeds" in given:
            gradients["inputs_embeds_grad"] = _gradient(given["inputs_embeds"])
        yield f"layer.{name}", arguments | {"hidden": hidden, "grad_output": grad_output} | gradients


def _heads(draw: Draw) -> Iterator[tuple[str, Tensors]]:
    """A head by itself: of all rows, of those that are words, and with its logits capped, as Gemma 2's."""
    wte = draw.normal(VOCAB_SIZE, N_EMBD)
    hidden = draw.normal(BATCH_SIZE * SEQ_LENGTH, N_EMBD)
    labels = draw.ids(WORDS, BATCH_SIZE * SEQ_LENGTH)
    labels[1::4] = IGNORED
    yield "head", {"wte": wte, "hidden": hidden, "labels": labels}
    for name, vocab_size, cap in (("all", VOCAB_SIZE, 0.0), ("words", WORDS, 0.0), ("capped", WORDS, 2.5)):
        grad_logits = draw.normal(len(hidden), vocab_size)
        logits, *_ = _head(wte, hidden, vocab_size, cap)
        best = logits.topk(4)
        _refuse_near_ties(logits.topk(5).values)
        yield (
            f"head.{name}",
            {"vocab_size": torch.tensor(vocab_size), "logit_soft_cap": torch.tensor(cap, dtype=torch.float64)}
            | {"logits": logits, "top_k_ids": best.indices, "top_k_logits": best.values, "grad_logits": grad_logits}
            | _head_gradients(wte, hidden, vocab_size, cap, lambda logits, grad=grad_logits: (logits * grad).sum()),
        )
        for reduction in ("mean", "sum"):
            yield f"head.{name}.{reduction}", _head_loss(wte, hidden, vocab_size, cap, labels, reduction)
    for reduction in ("mean", "sum"):
        ignored = torch.full_like(labels, IGNORED)
        roles = _head_loss(wte, hidden, VOCAB_SIZE, 0.0, ignored, reduction)
        yield f"head.ignored.{reduction}", {"loss": roles["loss"]}


def _head(
    wte: torch.Tensor, hidden: torch.Tensor, vocab_size: int, cap: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    weight = wte.clone().requires_grad_()
    states = hidden.clone().requires_grad_()
    logits = states @ weight[:vocab_size].T
    return (cap * torch.tanh(logits / cap) if cap > 0 else logits), weight, states


def _head_gradients(
    wte: torch.Tensor, hidden: torch.Tensor, vocab_size: int, cap: float, loss: Callable[..., torch.Tensor]
) -> Tensors:
    logits, weight, states = _head(wte, hidden, vocab_size, cap)
    loss(logits).backward()
    return {"wte_grad": _gradient(weight), "hidden_grad": _gradient(states)}


def _head_loss(
    wte: torch.Tensor, hidden: torch.Tensor, vocab_size: int, cap: float, labels: torch.Tensor, reduction: str
) -> Tensors:
    def loss(logits: torch.Tensor) -> torch.Tensor:
        return cross_entropy(logits, labels, ignore_index=IGNORED, reduction=reduction)

    value = loss(_head(wte, hidden, vocab_size, cap)[0])
    return {"loss": value} | _head_gradients(wte, hidden, vocab_size, cap, loss)


def _tied(draw: Draw) -> Iterator[tuple[str, Tensors]]:
    """From ids to the loss of a GPT2LMHeadModel and back: wte gets the gradients of its head and its lookups."""
    model = draw.model()
    wte, wpe = model.transformer.wte.weight, model.transformer.wpe.weight
    ids = draw.ids(VOCAB_SIZE, BATCH_SIZE, SEQ_LENGTH)
    labels = draw.ids(VOCAB_SIZE, BATCH_SIZE, SEQ_LENGTH)
    labels[0, 1:3] = IGNORED
    yield "tied", {"wte": wte.clone(), "wpe": wpe.clone(), "input_ids": ids, "labels": labels}
    for reduction in ("mean", "sum"):
        model.zero_grad()
        loss = _loss(model, ids, labels, reduction)
        loss.backward()
        yield f"tied.{reduction}", {"loss": loss, "wte_grad": _gradient(wte), "wpe_grad": _gradient(wpe)}


def _training(draw: Draw) -> Iterator[tuple[str, Tensors]]:
    """Ten steps, each with ids of its own."""
    ids = draw.ids(VOCAB_SIZE, TRAINING_STEPS, BATCH_SIZE, SEQ_LENGTH)
    labels = draw.ids(VOCAB_SIZE, TRAINING_STEPS, BATCH_SIZE, SEQ_LENGTH)
    labels[:, 0, :2] = IGNORED
    model = draw.model()
    wte, wpe = model.transformer.wte.weight, model.transformer.wpe.weight
    begin = {"wte": wte.detach().clone(), "wpe": wpe.detach().clone()}
    yield "training", begin | {"input_ids": ids, "labels": labels}
    for name, make_optimizer in OPTIMIZERS.items():
        with torch.no_grad():
            wte.copy_(begin["wte"])
            wpe.copy_(begin["wpe"])
        # Only the tables: transformers' list of parameters has nothing else to train here.
        optimizer = make_optimizer([wte, wpe])
        losses = []
        for step in range(TRAINING_STEPS):
            optimizer.zero_grad()
            loss = _loss(model, ids[step], labels[step], "mean")
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        yield f"training.{name}", {"wte": wte.clone(), "wpe": wpe.clone(), "losses": torch.stack(losses)}


def _loss(model: GPT2LMHeadModel, ids: torch.Tensor, labels: torch.Tensor, reduction: str) -> torch.Tensor:
    # Not the model's own loss, which shifts the labels.
    logits = model(input_ids=ids).logits
    return cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, reduction=reduction)


def _gradient(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.grad is None:
        raise RuntimeError("nothing has reached this tensor")
    return tensor.grad


def _refuse_near_ties(best: torch.Tensor) -> None:
    if (best[:, :-1] - best[:, 1:] < SMALLEST_MARGIN * best.abs().amax()).any():
        raise RuntimeError("two logits are so nearly alike that rounding decides: draw others")
