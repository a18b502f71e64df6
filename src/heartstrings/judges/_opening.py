"""Makes the judges that a plan names: `self`, URL#MODEL, URL#MODEL@VARIABLE, or several as a panel."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heartstrings.core.endpoint import check_url, is_url
from heartstrings.core.errors import InputError
from heartstrings.judges.base import Judge
from heartstrings.judges.cache import JudgeCache
from heartstrings.judges.endpoint import Budget, EndpointJudge
from heartstrings.judges.local import EngineJudge, Panel

if TYPE_CHECKING:
    from heartstrings.core.engine import Engine

KEY_VARIABLE = "HEARTSTRINGS_JUDGE_KEY"
"""The environment variable with an endpoint's key, if the plan names no other."""
SELF = "self"
_VARIABLE = re.compile(r"@([A-Z][A-Z0-9_]*)$")
"""In capitals, since the name of a model may contain an @ too."""
_EXPECTED = "self, URL#MODEL of an OpenAI-compatible endpoint, or URL#MODEL@VARIABLE with the key's variable"
_FIX = "Write e.g. http://localhost:8000/v1#some-model"


@dataclass(frozen=True)
class _Endpoint:
    url: str
    model: str
    variable: str


def open_judge(
    specs: Sequence[str], *, engine: Engine | None, cache: JudgeCache, budget: Budget | None = None, seed: int = 0
) -> Judge:
    """The judge with this name, or a panel of several.

    Args:
        specs: `self` is the model of `engine`, unsteered. `URL#MODEL` is a model behind an OpenAI-compatible endpoint,
            whose key is in the environment variable HEARTSTRINGS_JUDGE_KEY, or in VARIABLE with `@VARIABLE` at the end.
        budget: for each endpoint.
    Raises:
        InputError: no judge, one that cannot be read, one twice, a key in a URL, a variable that is not set, or `self`
            without an engine.
    """
    if not specs:
        raise InputError("no judge", _EXPECTED, _FIX)
    if len(set(specs)) < len(specs):
        raise InputError(f"judges {', '.join(specs)}", "each judge once", "Take one of them out")
    endpoints = {spec: _endpoint(spec) for spec in specs if spec != SELF}
    models = Counter(endpoint.model for endpoint in endpoints.values())
    judges: list[Judge] = []
    for spec in specs:
        if spec == SELF:
            if engine is None:
                raise InputError("judge self without a model", "the run's own model", "Name an endpoint: URL#MODEL")
            judges.append(EngineJudge(engine, name=SELF, cache=cache, seed=seed))
            continue
        endpoint = endpoints[spec]
        # Panel and cache identify a judge by its name, and the same model at two addresses is two judges.
        name = (
            endpoint.model
            if models[endpoint.model] == 1 and endpoint.model != SELF
            else f"{endpoint.model} at {endpoint.url}"
        )
        judges.append(
            EndpointJudge(
                endpoint.url,
                endpoint.model,
                name,
                key_variable=endpoint.variable,
                cache=cache,
                budget=budget or Budget(),
                seed=seed,
            )
        )
    return judges[0] if len(judges) == 1 else Panel(tuple(judges))


def check_spec(spec: str) -> None:
    """Raises InputError for a judge that cannot be read. Its key is not looked for: another machine may have it."""
    if spec != SELF:
        _endpoint(spec, keys=False)


def _endpoint(spec: str, *, keys: bool = True) -> _Endpoint:
    url, _, model = spec.partition("#")
    if is_url(url):
        check_url(url)
    variable = _VARIABLE.search(model)
    model = model[: variable.start()] if variable else model
    if not is_url(url) or not model.strip():
        shown = repr(spec) if "@" not in url else "with an @ in its URL"
        raise InputError(f"judge {shown}", _EXPECTED, _FIX)
    if keys and variable and not os.environ.get(variable[1]):
        raise InputError(f"judge {spec!r}: the environment has no {variable[1]}", "the key of the endpoint", "Set it")
    return _Endpoint(url, model, variable[1] if variable else KEY_VARIABLE)
