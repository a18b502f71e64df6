"""What Inspect finds by its entry point: `--model heartstrings/MODEL`."""

from __future__ import annotations

from inspect_ai.model import ModelAPI, modelapi


@modelapi(name="heartstrings")
def heartstrings() -> type[ModelAPI]:
    # Nothing heavy is imported until a model is asked for.
    from heartstrings.inspecting.provider import HeartstringsAPI

    return HeartstringsAPI
