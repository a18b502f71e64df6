"""Files of a screen that goes on where it stopped: arrays, found again by all that they were made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heartstrings.core.storage import sha256, tensor_bytes, write_bytes
from heartstrings.core.version import __version__
from heartstrings.experiment.controls import DirectionSet
from heartstrings.experiment.plan import Plan

if TYPE_CHECKING:
    from heartstrings.behaviours.base import Behaviour, Scenario
    from heartstrings.core.engine import Engine


def kept(path: Path, facts: Mapping[str, Any], make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays of a safetensors file if it was made from the same facts; else they are made, and written."""
    from safetensors import SafetensorError, safe_open

    stated = json.dumps(facts, sort_keys=True)
    try:
        with safe_open(path, "np") as file:
            if (file.metadata() or {}).get("kind") == stated:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # it is no mapping
    except (OSError, SafetensorError):
        pass  # not there, or damaged
    made = make()
    write_bytes(path, tensor_bytes(made, stated))
    return made


def facts_of(engine: Engine, plan: Plan, behaviour: Behaviour, scenarios: Sequence[Scenario]) -> dict[str, Any]:
    """What outcomes depend on, besides steering."""
    info = engine.info
    return {
        "package": __version__,
        "weights": info.weights_hash,
        "dtype": info.dtype,
        "template": info.template_hash,
        "behaviour": behaviour.name,
        "scenarios": scenarios_hash(behaviour, scenarios),
        "positions": repr(plan.positions),
        "site": plan.site,
    }


def scenarios_hash(behaviour: Behaviour, scenarios: Sequence[Scenario]) -> str:
    """A hash of what is asked, and of what the grader knows."""
    asked = [(scenario, behaviour.request(scenario, steering=None, seed=0)) for scenario in scenarios]
    return sha256(repr(asked).encode())


def directions_hash(directions: DirectionSet, names: Sequence[tuple[str, str]], layers: Sequence[int]) -> str:
    """Of some directions and of the unit of dose, at some layers."""
    digest = hashlib.sha256(repr((names, list(layers), directions.plan.variant)).encode())
    norms = directions.vectors.norms
    for kind, name in dict.fromkeys(names):
        for layer in layers:
            digest.update(directions.vector(kind, name, layer)[0].astype(np.float32).tobytes())  # type: ignore[arg-type]
    digest.update(b"" if norms is None else np.asarray(norms, dtype=np.float64).tobytes())
    return "sha256:" + digest.hexdigest()
