"""What the stage of pools found (`heartstrings.workflows.pool`): `pool.json` in a run's folder."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from heartstrings.core.errors import InputError
from heartstrings.core.types import Frozen
from heartstrings.experiment.ledger import ControlKind

FILE = "pool.json"
SCHEMA_VERSION = 1


class PoolKind(Frozen):
    """One direction on one behaviour against the pool of one kind of controls."""

    kind: ControlKind
    size: int
    """Controls in the pool; the tested direction makes it one more."""
    draws: int
    """With replacement, from the controls and the tested direction."""
    controls: int
    """Different controls that were drawn, and steered along."""
    share: float
    """pi: the part of the pool that is in the top of the screen."""
    rho: float
    """The part of the draws that is from there; 1 where the screen tells no two apart, and the draws are even."""
    top: bool
    """Whether the screen puts the tested direction into the top."""
    smallest_p: float
    """What p is where no control is as large; known before the first sample."""
    larger: int
    """Different controls that are at least as large, those without a value among them."""
    missing: int
    """Controls without a value: no contrast of theirs could be fitted."""
    p: float | None
    correlation: float | None
    """Pearson's r of the screen with the change along the straight line, over the controls that were drawn. Most of
    these are from the top of the screen, which spreads both."""
    size_correlation: float | None
    """Spearman's of their sizes: of the screen, and of the largest contrast."""


class PoolTest(Frozen):
    """One direction on one behaviour."""

    behaviour: str
    direction: str
    layer: int
    sign: int
    """1 or -1: declared beforehand to raise or to lower the outcome, and tested one-sided. 0: by size."""
    kinds: tuple[PoolKind, ...]
    p: float | None
    """The larger of the kinds'."""
    p_corrected: float | None
    """Holm over declared behaviours times directions; those left out count as tests too."""


class LeftOut(Frozen):
    """A declared behaviour and direction that has no p from a pool."""

    behaviour: str
    direction: str
    reason: str


class PoolReport(Frozen):
    """`pool.json`."""

    schema_version: int = SCHEMA_VERSION
    package_version: str
    plan_hash: str
    """Of the run."""
    look: int
    """Look of the run that it is compared at, from 1."""
    seed: int
    alpha: float
    size: int
    draws: int
    tests: tuple[PoolTest, ...]
    left_out: tuple[LeftOut, ...]
    samples: int
    """Rows of `pool.sqlite`."""
    screen_seconds: float
    """Of the call that wrote this file. A call that went on where another stopped read the screen back."""
    seconds: float
    """Of that call, in all."""


def read_pool(folder: str | Path) -> PoolReport | None:
    """The pools of a run; None where there are none.

    Raises:
        InputError: a pool.json that is none, or of a later schema.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        report = PoolReport.model_validate_json(path.read_bytes())
    except (ValidationError, OSError) as problem:
        first = str(problem).splitlines()[0]
        raise InputError(f"{path} cannot be read: {first}", "what `heartstrings pool` wrote", "Run it again") from None
    if not 1 <= report.schema_version <= SCHEMA_VERSION:
        raise InputError(
            f"{path} is of schema version {report.schema_version}",
            f"version {SCHEMA_VERSION} at most",
            "Update heartstrings",
        )
    return report
