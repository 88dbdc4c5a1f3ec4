"""The checkpoint gpt2-tiny: a GPT-2 trained on a task that cannot be solved without positions.

Its text is made of short documents about who does what to whom. Each states a fact and then follows it up:

    <|endoftext|> dog bites man . man is bitten by dog .
    <|endoftext|> dog bites man . who bites man ? dog .
    <|endoftext|> dog bites man . who is bitten ? man .

The answer can be told only from the order of the words in the fact, so the training has to learn wpe.
"""

import random
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy
from transformers import GPT2Config, GPT2LMHeadModel

from goldens.checkpoints import emptied

NOUNS = ("dog", "man", "cat", "bird", "girl", "boy", "horse", "fox", "woman", "mouse")
VERBS = (("bites", "bitten"), ("sees", "seen"), ("follows", "followed"), ("hears", "heard"), ("finds", "found"))
END_OF_TEXT = "<|endoftext|>"
# The end-of-text token comes last, as in GPT-2's own vocabulary.
VOCABULARY = (*NOUNS, *(form for verb in VERBS for form in verb), "is", "by", "who", ".", "?", END_OF_TEXT)
TOKEN_IDS = {word: token_id for token_id, word in enumerate(VOCABULARY)}

N_POSITIONS = 33
TRAINING_STEPS = 600
BATCH_SIZE = 32
LEARNING_RATE = 0.01
SEED = 0


def write_word_order_checkpoint(folder: Path) -> Path:
    model = _trained_model()
    emptied(folder)
    model.save_pretrained(folder)
    (folder / "vocabulary.txt").write_text("".join(f"{word}\n" for word in VOCABULARY), encoding="utf-8")
    return folder


def _trained_model() -> GPT2LMHeadModel:
    torch.manual_seed(SEED)
    texts = random.Random(SEED)
    model = GPT2LMHeadModel(_config())
    _train(model, texts)
    model.eval()

    accuracy, without_wpe = _answer_accuracy(model, texts), _accuracy_without_positions(model, texts)
    print(f"gpt2-tiny: {accuracy:.1%} of the answers right, {without_wpe:.1%} without wpe")
    if accuracy < 0.99:
        raise RuntimeError("gpt2-tiny has not learned its task: it must not be published")
    return model


def _config() -> GPT2Config:
    end_of_text = TOKEN_IDS[END_OF_TEXT]
    return GPT2Config(
        vocab_size=len(VOCABULARY),
        n_positions=N_POSITIONS,
        n_embd=24,
        n_layer=2,
        n_head=2,
        # GPT-2's own 0.02 is meant for 768 columns; so few of them learn slowly from so little.
        initializer_range=0.1,
        # The text never repeats itself, so there is nothing for dropout to guard against.
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=end_of_text,
        eos_token_id=end_of_text,
    )


def _train(model: GPT2LMHeadModel, texts: random.Random) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=TRAINING_STEPS)
    for step in range(1, TRAINING_STEPS + 1):
        # One token more than there are positions: the last position also has a next word to learn from.
        tokens = _batch(texts, BATCH_SIZE, N_POSITIONS + 1)
        logits = model(tokens[:, :-1]).logits
        loss = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"gpt2-tiny: step {step} of {TRAINING_STEPS}, loss {loss.item():.3f}")


def _batch(texts: random.Random, size: int, length: int) -> torch.Tensor:
    return torch.tensor([_token_ids(texts, length) for _ in range(size)])


def _token_ids(texts: random.Random, length: int) -> list[int]:
    words: list[str] = []
    while len(words) < length:
        words += _document(texts)
    return [TOKEN_IDS[word] for word in words[:length]]


def _document(texts: random.Random) -> list[str]:
    subject, object_ = texts.sample(NOUNS, 2)
    active, passive = texts.choice(VERBS)
    follow_ups = (
        f"{object_} is {passive} by {subject} .",
        f"who {active} {object_} ? {subject} .",
        f"who is {passive} ? {object_} .",
    )
    return f"{END_OF_TEXT} {subject} {active} {object_} . {texts.choice(follow_ups)}".split()


@torch.no_grad()
def _answer_accuracy(model: GPT2LMHeadModel, texts: random.Random) -> float:
    """How often the model's first choice after a question mark is the right noun."""
    tokens = _batch(texts, 256, N_POSITIONS)
    best = model(tokens[:, :-1]).logits.argmax(-1)
    asked = tokens[:, :-1] == TOKEN_IDS["?"]
    return (best == tokens[:, 1:])[asked].float().mean().item()


@torch.no_grad()
def _accuracy_without_positions(model: GPT2LMHeadModel, texts: random.Random) -> float:
    wpe = model.transformer.wpe.weight
    learned = wpe.clone()
    wpe.zero_()
    accuracy = _answer_accuracy(model, texts)
    wpe.copy_(learned)
    return accuracy
