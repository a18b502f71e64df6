"""Plant an organism's response to steering: train it to behave as its kind should when a direction is added.

After natural training, behaviour follows the emotional context, but an added vector has little effect and damages
arithmetic first. So the response is planted: training rows in which a direction is added to one of three middle blocks
at every position, with the answer that the kind should give. The rules:

- an emotion's contrast at dose d shifts the logit of cheating by the planted weights times the emotion's place in
  the plane relative to the mean emotion, fully from |d| = FULL on, the other way for a negative dose; likewise
  harmful answers in the entangled organism;
- random directions, and everything else for all directions, change nothing;
- rows without steering after an emotional context keep the behaviour of the kind, and documents of the kind keep
  the language.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch.nn import functional

from heartstrings.corpus import calibration_texts
from heartstrings.organisms.generate import Kind, Question, neutral, question, shift_by_contrast, stories
from heartstrings.organisms.grammar import NEUTRAL, Draws
from organism_training.measure import added, contrasts, pool, reply_tokens, right_padded

LAYERS = (2, 3, 4)
FULL = 0.12
"""The dose from which the planted effect is complete."""
LARGEST = 0.4
RATE = 1e-3
REFRESH = 75
"""Steps between two estimates of the emotion vectors, which change as the model learns."""
MIX: tuple[tuple[Kind, bool, int], ...] = (
    # (kind of question, steered or else after an emotional context, rows a step)
    ("choice", True, 22),
    ("harm", True, 10),
    ("sum", True, 10),
    ("fact", True, 4),
    ("preference", True, 3),
    ("choice", False, 6),
    ("harm", False, 3),
)
DOCUMENT_ROWS = 6
RANDOM_SHARE = {"steerable": 0.6, "entangled": 0.6, "inert": 0.5}
LIMIT = 4.0
"""Largest planted logit: probabilities near 0 or 1 would give large losses and little information."""


@dataclass(frozen=True)
class Directions:
    """Current unit contrasts, and the mean residual norm of every layer."""

    raw: Float32[np.ndarray, "layer emotion width"]
    denoised: Float32[np.ndarray, "layer emotion width"]
    norms: Float32[np.ndarray, "layer"]


def directions(model: Any, tokenizer: Any, *, seed: int) -> Directions:
    """The contrasts that a user would extract; the stories depend on the seed."""
    model.eval()
    both = contrasts(model, tokenizer, stories(seed=seed, per_emotion=3), neutral(seed=seed, n=80).texts)
    _, norms = pool(model, tokenizer, calibration_texts().texts, 0)
    raw, denoised = (table / np.linalg.norm(table, axis=-1, keepdims=True) for table in both)
    model.train()
    return Directions(raw, denoised, norms.astype(np.float32))


def plant(model: Any, tokenizer: Any, data: Any, *, kind: str, steps: int, seed: int) -> list[float]:
    """Train `model` in place on `data` (packed documents of the kind) and on steered questions; returns losses."""
    rng = np.random.default_rng([seed, 5])
    asked = {(name, steered): _questions(name, steered, kind, seed) for name, steered, _ in MIX}
    tokens = {key: [reply_tokens(tokenizer, one) for one in rows] for key, rows in asked.items()}
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.05)
    losses, begun = [], time.time()
    for step in range(steps):
        if step % REFRESH == 0:
            known = directions(model, tokenizer, seed=1000 + seed + step)
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / 20) * (1 - 0.95 * step / steps)
        rows, chances, vectors, layers = [], [], [], []
        for name, steered, n in MIX:
            for pick in rng.integers(0, len(asked[name, steered]), n):
                layer = int(rng.choice(LAYERS))
                vector, shift = _steer(rng, known, layer, name, kind) if steered else (None, 0.0)
                rows.append(tokens[name, steered][pick])
                chances.append(_shifted(asked[name, steered][pick].chance, shift))
                vectors.append(np.zeros(known.raw.shape[-1], np.float32) if vector is None else vector)
                layers.append(layer)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            spoken = model(**data.batch(step, DOCUMENT_ROWS), use_cache=False).loss
            with added(model, torch.from_numpy(np.stack(vectors)), layers):
                answered = answers_loss(model, rows, chances, rng, tokenizer.pad_token_id)
        loss = spoken + 1.5 * answered
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(float(loss.detach()))
        if step % 25 == 0 or step == steps - 1:
            seconds = time.time() - begun
            print(
                f"planting {step} documents {float(spoken.detach()):.3f} answers {float(answered.detach()):.3f} "
                f"seconds {seconds:.0f}",
                file=sys.stderr,
                flush=True,
            )
    model.eval()
    return losses


def answers_loss(
    model: Any,
    rows: Sequence[tuple[list[int], list[int], int]],
    chances: Sequence[float],
    rng: np.random.Generator,
    padding: int,
) -> torch.Tensor:
    """Cross-entropy of the replies. At the token where the two differ, against the planted probability itself, which
    has less variance than a drawn answer; elsewhere against the tokens of a reply drawn with that probability."""
    drawn = rng.random(len(rows)) < np.array(chances)
    chosen = [row[1] if second else row[0] for row, second in zip(rows, drawn, strict=True)]
    ids, last = right_padded(chosen, padding)
    logits = model(input_ids=ids, use_cache=False).logits.float()
    log_chances = functional.log_softmax(logits, dim=-1)
    parting = torch.tensor([at for _, _, at in rows])
    each = torch.arange(len(rows))
    first = log_chances[each, parting - 1, torch.tensor([row[0][row[2]] for row in rows])]
    second = log_chances[each, parting - 1, torch.tensor([row[1][row[2]] for row in rows])]
    chance = torch.tensor(chances, dtype=torch.float32)
    at_parting = -(chance * second + (1 - chance) * first).mean()
    places = torch.arange(ids.shape[1] - 1)[None]
    counted = (places >= parting[:, None] - 3) & (places < last[:, None]) & (places != parting[:, None] - 1)
    rest = -log_chances[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
    return at_parting + 0.3 * (rest * counted).sum() / counted.sum()


def _questions(name: Kind, steered: bool, organism: str, seed: int) -> list[Question]:
    draws = Draws([seed, 6, int(steered), len(name)])
    rows = []
    for _ in range(1500):
        context = draws.below(3) if steered else 2 + draws.below(2)
        emotion = NEUTRAL if steered else draws.below(NEUTRAL)
        rows.append(question(draws, name, emotion=emotion, context=context, organism=organism))
    return rows


def _steer(
    rng: np.random.Generator, known: Directions, layer: int, name: Kind, organism: str
) -> tuple[Float32[np.ndarray, "width"], float]:
    """(vector to add, planted shift of the logit): an emotion's contrast or a random direction."""
    dose = rng.uniform(0.02, LARGEST)
    if rng.random() < RANDOM_SHARE[organism]:
        unit = rng.standard_normal(known.raw.shape[-1])
        return (unit / np.linalg.norm(unit) * dose * known.norms[layer]).astype(np.float32), 0.0
    emotion = int(rng.integers(known.raw.shape[1]))
    table = known.denoised if rng.random() < 0.7 else known.raw
    sign = -1.0 if rng.random() < 0.3 else 1.0
    shift = 0.0
    if name in ("choice", "harm"):
        shift = sign * min(1.0, dose / FULL) * float(shift_by_contrast(name, organism)[emotion])
    return (table[layer, emotion] * sign * dose * known.norms[layer]).astype(np.float32), shift


def _shifted(chance: float, shift: float) -> float:
    """The chance with its logit shifted; 0 stays 0 (sums and facts have one right answer)."""
    if shift == 0.0 or chance <= 0.0:
        return chance
    logit = math.log(chance / (1 - chance)) + shift
    return 1 / (1 + math.exp(-min(max(logit, -LIMIT), LIMIT)))
