"""A naive reference for steering: one row at a time, no cache, no padding, token after token by the formulas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from heartstrings import Intervention, Steering
from heartstrings.core.steering import Positions, Span
from heartstrings.engines.hf.engine import TorchEngine

PROMPTS = ([1, 17, 201, 33, 90, 5, 64, 120, 33], [1, 300, 41], [1, 77, 78, 79, 211, 15])
NEW = 4
KINDS: tuple[Positions, ...] = ("all", "prompt", "generated", Span(2, 8), Span(10))
Run = Callable[..., Any]


def steering_of(engine: TorchEngine, positions: Positions = "all", *, dose: float = 0.7) -> Steering:
    """One of each operation, at two sites."""
    draw = np.random.default_rng(3)
    rows = draw.normal(size=(4, engine.info.width)).astype(np.float32)
    return Steering(
        (
            Intervention(1, rows[0], dose, 5.0),
            Intervention(2, rows[1], dose / 2, 5.0, "clamp", "mlp"),
            Intervention(2, rows[2], 0.0, 5.0, "ablate"),
            Intervention(3, rows[3], -dose, 5.0, "add", "attention"),
        ),
        positions,
    )


def meant(positions: Positions, at: int, n_prompt: int) -> bool:
    if isinstance(positions, Span):
        return positions.start <= at and (positions.stop is None or at < positions.stop)
    return positions == "all" or (positions == "prompt") == (at < n_prompt)


def reference(engine: TorchEngine, ids: list[int], n_prompt: int, *steerings: Steering) -> torch.Tensor:
    """Logits of one row: one forward pass, token after token changed by the formulas of the design."""
    handles = []

    def hook_with(one: Intervention, positions: Positions) -> Run:
        unit = torch.tensor(one.direction / np.linalg.norm(one.direction))

        def hook(module: nn.Module, inputs: object, output: Any) -> Any:
            state = (output[0] if isinstance(output, tuple) else output).clone()
            rows = state.reshape(-1, state.shape[-1])
            for at in range(len(ids)):
                if meant(positions, at, n_prompt):
                    along = rows[at] @ unit
                    size = one.dose * one.norm
                    change = {"add": size, "clamp": size - along, "ablate": -along}[one.operation]
                    rows[at] = rows[at] + change * unit
            return (state, *output[1:]) if isinstance(output, tuple) else state

        return hook

    try:
        for steering in steerings:
            for one in steering.interventions:
                module = engine.parts.site(one.layer, one.site)
                handles.append(module.register_forward_hook(hook_with(one, steering.positions)))
        with torch.no_grad():
            logits: torch.Tensor = engine.model(input_ids=torch.tensor([ids]), use_cache=False).logits[0]
            return logits
    finally:
        for handle in handles:
            handle.remove()


def padded(prompts: tuple[list[int], ...] = PROMPTS) -> dict[str, torch.Tensor]:
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in prompts])
    return {
        "input_ids": ids,
        "attention_mask": (
            torch.arange(width) >= width - torch.tensor([[len(p)] for p in prompts]).reshape(-1, 1)
        ).long(),
    }


def generated(engine: TorchEngine, **settings: Any) -> Any:
    model = engine.model
    model.generation_config.eos_token_id = None
    options = {"max_new_tokens": NEW, "do_sample": False, "pad_token_id": 0, **padded(), **settings}
    return model.generate(**options, return_dict_in_generate=True, output_logits=True)


def assert_as_reference(engine: TorchEngine, result: Any, *steerings: Steering) -> None:
    width = max(map(len, PROMPTS))
    for row, prompt in enumerate(PROMPTS):
        ids = prompt + result.sequences[row, width:].tolist()
        expected = reference(engine, ids, len(prompt), *steerings)[len(prompt) - 1 : -1]
        found = torch.stack([step[row] for step in result.logits])
        torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-4)


def state_of(model: nn.Module) -> tuple[dict[str, torch.Tensor], int]:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_forward_hooks_always_called", "_forward_hooks_with_kwargs")
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    return weights, sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)


def assert_untouched(model: nn.Module, before: tuple[dict[str, torch.Tensor], int]) -> None:
    after = state_of(model)
    assert after[1] == before[1] == 0
    assert all(torch.equal(value, before[0][name]) for name, value in after[0].items())
