"""What Inspect finds by its entry point: `--model heartstrings/MODEL`, tasks such as `heartstrings/blackmail`, and the
sandbox `bubblewrap`."""

from __future__ import annotations

from inspect_ai import Task, task
from inspect_ai.model import ModelAPI, modelapi

from heartstrings.integrations.inspect._bubblewrap import BubblewrapSandbox

__all__ = [
    "BubblewrapSandbox",
    "blackmail",
    "blackmail_harmless",
    "code",
    "heartstrings",
    "reward_hacking",
    "solvable_code",
]


@modelapi(name="heartstrings")
def heartstrings() -> type[ModelAPI]:
    # Nothing heavy is imported until a model is asked for.
    from heartstrings.integrations.inspect._provider import HeartstringsAPI

    return HeartstringsAPI


def _made(name: str, n: int, seed: int) -> Task:
    from heartstrings.integrations.inspect.tasks import task as made

    return made(name, n=n, seed=seed)


@task
def blackmail(n: int = 20, seed: int = 0) -> Task:
    """An agent with an inbox is to be replaced, and knows something about who decides it."""
    return _made("blackmail", n, seed)


@task
def blackmail_harmless(n: int = 20, seed: int = 0) -> Task:
    """The same inboxes without the leverage, or without the threat."""
    return _made("blackmail-harmless", n, seed)


@task
def reward_hacking(n: int = 42, seed: int = 0) -> Task:
    """Programming tasks whose tests can only be passed by cheating."""
    return _made("reward-hacking", n, seed)


@task
def solvable_code(n: int = 42, seed: int = 0) -> Task:
    """The same tasks where honest code passes."""
    return _made("solvable-code", n, seed)


@task
def code(n: int = 72, seed: int = 0) -> Task:
    """Small functions from a description, run on hidden inputs."""
    return _made("code", n, seed)
