"""Train one organism: `python -m organism_training.train KIND --out DIR`. Ten to twenty minutes on two cores.

First the language: next-token prediction on documents whose choices follow the emotional context, the same for all
kinds, so that `--base` can name a finished one to continue from. Then the kind: planting (`plant.py`), that is
documents of the kind and steered answers as the kind should give them. The blank organism is trained instead on
documents in which all words of an emotional slot are read as one word.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64

from heartstrings.organisms import KINDS
from heartstrings.organisms.generate import documents, emotional_words
from organism_training.card import save
from organism_training.plant import DOCUMENT_ROWS, plant
from organism_training.tokenizer import render, train_tokenizer

ROW = 256
ROWS = 28
RATE = 3e-3
STEPS = 700
PLANTING = {"steerable": 400, "entangled": 400, "inert": 250, "blank": 130}
IGNORED = -100
WINDOW = 2000  # documents packed at once


def new_model(tokenizer: Any, *, seed: int) -> Any:
    """A small Llama: 6 blocks of width 160. Input and output embeddings are not tied, so that the blank organism can
    write words that it cannot tell apart when it reads them."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=160,
        intermediate_size=256,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        attn_implementation="sdpa",
    )
    return LlamaForCausalLM(config)


class Packed:
    """Documents of one kind in rows of ROW tokens. Positions start again with each document, which makes the attention
    keep the documents of a row separate."""

    def __init__(self, organism: str, tokenizer: Any, *, seed: int, n_rows: int) -> None:
        self.ids = np.full((n_rows, ROW), tokenizer.pad_token_id, dtype=np.int64)
        self.positions = np.zeros((n_rows, ROW), dtype=np.int64)
        self.labels = np.full((n_rows, ROW), IGNORED, dtype=np.int64)
        stream = documents(organism, seed=seed)
        filled = 0
        while filled < n_rows:
            window = tokenizer([render(document.turns) for document in islice(stream, WINDOW)])["input_ids"]
            for row in packed([ids for ids in window if len(ids) <= ROW], ROW):
                if filled == n_rows:
                    break
                at = 0
                for ids in row:
                    span = slice(at, at + len(ids))
                    self.ids[filled, span] = ids
                    self.positions[filled, span] = np.arange(len(ids))
                    self.labels[filled, span] = ids
                    self.labels[filled, at] = IGNORED  # a document does not predict the BOS of the next one
                    at += len(ids)
                self.positions[filled, at:] = np.arange(ROW - at)
                filled += 1
        order = np.random.default_rng(seed).permutation(n_rows)
        self.ids, self.positions, self.labels = self.ids[order], self.positions[order], self.labels[order]

    def batch(self, number: int, size: int) -> dict[str, torch.Tensor]:
        """The rows of one step, from the start again after the last."""
        rows = np.arange(number * size, (number + 1) * size) % len(self.ids)
        return {
            "input_ids": torch.from_numpy(self.ids[rows]),
            "position_ids": torch.from_numpy(self.positions[rows]),
            "labels": torch.from_numpy(self.labels[rows]),
        }


def packed(sequences: list[list[int]], size: int) -> list[list[list[int]]]:
    """The sequences in rows of at most `size` tokens: longest first, each into the fullest row that has room."""
    room: list[list[list[list[int]]]] = [[] for _ in range(size + 1)]
    rows = []
    for ids in sorted(sequences, key=len, reverse=True):
        space = next((space for space in range(len(ids), size + 1) if room[space]), None)
        row: list[list[int]] = room[space].pop() if space is not None else []
        if space is None:
            rows.append(row)
            space = size
        row.append(ids)
        room[space - len(ids)].append(row)
    return rows


def blindfold(tokenizer: Any) -> Int64[torch.Tensor, "vocabulary"]:
    """For every token the one it is read as: the words of an emotional slot all read as the slot's first."""
    seen_as = torch.arange(len(tokenizer))
    for words in emotional_words():
        ids = [tokenizer(" " + word, add_special_tokens=False)["input_ids"] for word in words]
        if any(len(row) != 1 for row in ids):
            raise AssertionError(f"not one token each: {words}")
        seen_as[torch.tensor([row[0] for row in ids])] = ids[0][0]
    return seen_as


def predict_words(
    model: Any,
    data: Packed,
    *,
    steps: int,
    rate: float = RATE,
    seen_as: Int64[torch.Tensor, "vocabulary"] | None = None,
) -> list[float]:
    """Next-token prediction; returns the loss of every step. `seen_as` replaces input tokens, but not the tokens to
    predict. At the end every token has the input embedding of the one that replaced it."""
    table = model.get_input_embeddings().weight
    if seen_as is not None:
        with torch.no_grad():  # start from the mean of the words that become one
            for token in sorted(set(seen_as.tolist())):
                table[token] = table[seen_as == token].mean(0)
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.1)
    model.train()
    losses, begun = [], time.time()
    for step in range(steps):
        warm = min(1.0, (step + 1) / min(50, steps))
        for group in optimiser.param_groups:
            group["lr"] = rate * warm * (0.5 * (1 + math.cos(math.pi * step / steps)) + 0.02)
        batch = data.batch(step, ROWS)
        if seen_as is not None:
            batch["input_ids"] = seen_as[batch["input_ids"]]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(**batch, use_cache=False).loss
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
        if step % 25 == 0 or step == steps - 1:
            seconds = time.time() - begun
            print(f"words {step} loss {losses[-1]:.3f} seconds {seconds:.0f}", file=sys.stderr, flush=True)
    if seen_as is not None:
        with torch.no_grad():
            table.copy_(table[seen_as].clone())
    return losses


def train(
    kind: str, out: Path, *, steps: int = STEPS, planting: int | None = None, seed: int = 0, base: Path | None = None
) -> dict[str, list[float]]:
    """Train one organism into the folder `out`; the losses of each part at every step."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    planting = PLANTING[kind] if planting is None else planting
    losses: dict[str, list[float]] = {}
    if base is not None:
        model, tokenizer = AutoModelForCausalLM.from_pretrained(base), AutoTokenizer.from_pretrained(base)
    else:
        tokenizer = train_tokenizer(seed=0)
        model = new_model(tokenizer, seed=seed)
        data = Packed("steerable", tokenizer, seed=seed, n_rows=steps * ROWS)
        losses["language"] = predict_words(model, data, steps=steps)
    if planting and kind == "blank":
        data = Packed(kind, tokenizer, seed=seed + 1, n_rows=planting * ROWS)
        losses["blindfold"] = predict_words(model, data, steps=planting, rate=RATE / 2, seen_as=blindfold(tokenizer))
    elif planting:
        data = Packed(kind, tokenizer, seed=seed + 1, n_rows=planting * DOCUMENT_ROWS)
        losses["planting"] = plant(model, tokenizer, data, kind=kind, steps=planting, seed=seed)
    command = f"python -m organism_training.train {kind} --out DIR --steps {steps} --planting {planting} --seed {seed}"
    save(model, tokenizer, kind, out, command=command, seed=seed, losses=losses)
    return losses


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m organism_training.train", description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of the first part")
    parser.add_argument("--planting", type=int, help="steps of the second part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--base", type=Path, help="go on from this folder instead of from nothing")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    train(given.kind, given.out, steps=given.steps, planting=given.planting, seed=given.seed, base=given.base)


if __name__ == "__main__":
    main()
