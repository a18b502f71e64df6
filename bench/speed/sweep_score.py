"""The cells of an experiment: a question with two options at several layers and doses along many directions.

Ours is one call of `engine.score`. The other way is a forward pass a cell with a hook, on a batch of the prompt with
each option. An experiment has 12 layers x 9 doses x 40 directions. The pass a cell would take half an hour for these,
so every layer is kept and fewer doses and directions are asked; sharing gains more in the whole, never less.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from bench.speed import subjects
from bench.speed.harness import Case, Run, Way, relative
from heartstrings import Intervention, Steering
from heartstrings.behaviours.suites import suite
from heartstrings.core.engine import ScoreRequest
from heartstrings.engines.hf._session import calibration_norms
from heartstrings.engines.hf.engine import TorchEngine

NAME = "sweep_score"
MODELS = (subjects.SMOLLM2,)
WHOLE = {"layers": 12, "doses": 9, "directions": 40}
SIZES = {"full": (12, (-0.2, 0.1), 2), "quick": (2, (-0.2, 0.1), 2), "one": (1, (0.1,), 1)}
"""Layers, doses, directions."""
QUESTIONS = {subjects.TINY: ("organism", "choice")}
QUESTION = ("text", "vignette-reward-hacking")


class Cells:
    """The question, and the cells it is asked in."""

    def __init__(self, engine: TorchEngine, size: str, model: str) -> None:
        n_layers, self.doses, n_directions = SIZES[size]
        self.engine = engine
        self.layers = [int(layer) for layer in np.linspace(0, engine.info.n_layers - 1, n_layers)]
        norms = calibration_norms(engine, engine.parts, "block")
        self.norms = {layer: float(norms[layer]) for layer in self.layers}
        draw = np.random.default_rng(0)
        self.directions = draw.normal(size=(n_directions, engine.info.width)).astype(np.float32)
        name, question = QUESTIONS.get(model, QUESTION)
        behaviour = suite(name).behaviour(question)
        asked: Any = behaviour.request(behaviour.scenarios(n=1, seed=0)[0], steering=None, seed=0)
        assert isinstance(asked, ScoreRequest)
        self.asked = asked

    def __iter__(self) -> Iterator[tuple[int, float, np.ndarray]]:
        return ((layer, dose, one) for layer in self.layers for dose in self.doses for one in self.directions)


def case(model: str, size: str, device: str) -> Case:
    engine = subjects.engine(model, device=device)
    cells = Cells(engine, size, model)
    answer = engine.score([cells.asked])[0]
    ways = (
        Way("heartstrings, one call", lambda: ours(cells), relative, 1e-4),
        Way("a pass a cell with a hook", lambda: a_pass_a_cell(cells), relative, 1e-4),
    )
    return Case(
        bench=NAME,
        model=model,
        ways=ways,
        unit="cells",
        units=len(list(cells)),
        work={"layers": len(cells.layers), "doses": len(cells.doses), "directions": len(cells.directions),
              "options": len(cells.asked.continuations), "prompt_tokens": answer.n_prompt_tokens,
              "option_tokens": [len(ids) for ids in answer.token_ids], "whole": WHOLE},
    )  # fmt: skip


def ours(cells: Cells) -> Run:
    requests = [
        ScoreRequest(
            cells.asked.prompt,
            cells.asked.continuations,
            Steering((Intervention(layer, direction, dose, cells.norms[layer]),)),
        )
        for layer, dose, direction in cells
    ]
    return lambda: np.array([score.logprobs for score in cells.engine.score(requests)])


def a_pass_a_cell(cells: Cells) -> Run:
    """Right-padded rows of prompt and option; the log-probabilities of the option's tokens are summed."""
    engine = cells.engine
    plain = engine.score([cells.asked])[0]
    prompt = prompt_ids(engine, cells.asked, plain.n_prompt_tokens)
    rows = [(prompt, list(ids)) for ids in plain.token_ids]
    width = max(len(one) + len(other) for one, other in rows)
    lengths = [len(one) + len(other) for one, other in rows]
    device = engine.parts.device
    ids = torch.tensor([[*one, *other, *[0] * (width - n)] for (one, other), n in zip(rows, lengths, strict=True)])
    mask = torch.tensor([[1] * n + [0] * (width - n) for n in lengths])
    ids, mask = ids.to(device), mask.to(device)

    def run() -> np.ndarray:
        found = []
        for layer, dose, direction in cells:
            unit = direction / np.linalg.norm(direction)
            vector = torch.from_numpy((dose * cells.norms[layer] * unit).astype(np.float32)).to(device)
            handle = engine.parts.blocks[layer].register_forward_hook(lambda _, __, output, v=vector: output + v)
            try:
                with torch.no_grad():
                    # Only the positions that predict a token of an option are unembedded.
                    logits = engine.model(
                        ids, attention_mask=mask, use_cache=False, logits_to_keep=width - len(prompt) + 1
                    ).logits.log_softmax(-1)
            finally:
                handle.remove()
            found.append([
                float(logits[row, torch.arange(len(option)), torch.tensor(option)].sum())
                for row, (_, option) in enumerate(rows)
            ])  # fmt: skip
        return np.array(found)

    return run


def prompt_ids(engine: TorchEngine, asked: ScoreRequest, expected: int) -> list[int]:
    """The prompt as the chat template renders it."""
    from heartstrings.engines.hf.text import encode_prompt

    found = encode_prompt(engine.tokenizer, asked.prompt, vocabulary=engine.parts.vocabulary, reply=True).ids.tolist()
    assert len(found) == expected
    return [int(index) for index in found]
