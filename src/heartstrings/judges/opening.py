"""From what a plan says to a judge: `self`, URL#MODEL, or several as a panel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from heartstrings.errors import InputError
from heartstrings.judges.base import Judge
from heartstrings.judges.cache import JudgeCache
from heartstrings.judges.endpoint import Budget, EndpointJudge
from heartstrings.judges.local import EngineJudge, Panel

if TYPE_CHECKING:
    from heartstrings.engines.base import Engine

KEY_VARIABLE = "HEARTSTRINGS_JUDGE_KEY"
"""Environment variable of an endpoint's key."""


def open_judge(
    specs: Sequence[str], *, engine: Engine | None, cache: JudgeCache, budget: Budget | None = None, seed: int = 0
) -> Judge:
    """The judge that these name.

    Args:
        specs: `self` is the model of `engine`, unsteered; `URL#MODEL` a model behind an OpenAI-compatible endpoint,
            whose key is in HEARTSTRINGS_JUDGE_KEY.
        budget: of each endpoint.
    Raises:
        InputError: none, an unreadable one, or `self` without an engine.
    """
    if not specs:
        raise InputError("no judge", "self, or URL#MODEL of an endpoint")
    judges: list[Judge] = []
    for spec in specs:
        url, mark, model = spec.partition("#")
        if spec == "self" and engine is not None:
            judges.append(EngineJudge(engine, name="self", cache=cache, seed=seed))
        elif mark and model and url.startswith(("http://", "https://")):
            judges.append(
                EndpointJudge(url, model, key_variable=KEY_VARIABLE, cache=cache, budget=budget or Budget(), seed=seed)
            )
        else:
            raise InputError(f"judge {spec!r}", "self, or URL#MODEL of an OpenAI-compatible endpoint")
    return judges[0] if len(judges) == 1 else Panel(tuple(judges))
