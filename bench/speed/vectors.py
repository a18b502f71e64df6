"""Steered decoding against the number of different vectors in a batch: 256 rows, with 0 (unsteered) to 256 vectors.

Each row has its own steering, so the number of different vectors should not matter: the times should be within 10%.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bench.speed import subjects
from bench.speed.harness import Case, Run, Way
from heartstrings import Intervention, Steering
from heartstrings.core.engine import GenerateRequest
from heartstrings.corpus import shipped_stories
from heartstrings.engines.hf._session import calibration_norms
from heartstrings.engines.hf.engine import TorchEngine

NAME = "vectors"
MODELS = (subjects.SMOLLM2,)
SIZES = {"full": (256, 16), "quick": (4, 3), "one": (1, 2)}
"""Rows, new tokens."""
WORDS = 8
"""Of each prompt: most of the time is for new tokens."""
COUNTS = (0, 1, 8, 64, 256)
FLAT = 0.10


def case(model: str, size: str, device: str) -> Case:
    engine = subjects.engine(model, device=device)
    rows, new_tokens = SIZES[size]
    counts = [count for count in COUNTS if count <= rows]
    ways = tuple(
        Way(
            f"{count} vectors" if count > 1 else "1 vector" if count else "unsteered",
            prepare(engine, count, *SIZES[size]),
        )
        for count in counts
    )
    return Case(
        bench=NAME,
        model=model,
        ways=ways,
        unit="new tokens",
        units=rows * new_tokens,
        work={"rows": rows, "new_tokens": new_tokens, "layer": engine.info.n_layers // 2, "temperature": 0},
        memory=False,
        flat=FLAT,
    )


def prepare(engine: TorchEngine, count: int, rows: int, new_tokens: int) -> Callable[[], Run]:
    """Every row its own prompt; row i is steered along vector i modulo `count`."""

    def made() -> Run:
        layer = engine.info.n_layers // 2
        norm = float(calibration_norms(engine, engine.parts, "block")[layer])
        directions = np.random.default_rng(0).normal(size=(max(1, count), engine.info.width)).astype(np.float32)
        steerings = [Steering((Intervention(layer, direction, 0.1, norm),)) for direction in directions]
        prompts = [" ".join(text.split()[:WORDS]) for text in shipped_stories().texts[:rows]]
        requests = [
            GenerateRequest(prompt, new_tokens, temperature=0, steering=steerings[row % count] if count else None)
            for row, prompt in enumerate(prompts)
        ]
        return lambda: [completion.token_ids for completion in engine.generate(requests)]

    return made
