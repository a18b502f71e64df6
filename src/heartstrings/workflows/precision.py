"""`--dtype auto` while texts are read: bfloat16 where it is faster, and where a comparison found it good enough."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from heartstrings import engines, vectors
from heartstrings.core.errors import InputError, NumericalError
from heartstrings.core.storage import make_folder, write_text
from heartstrings.core.types import Pooling, Precision, Site
from heartstrings.workflows.values import Progress, silent

if TYPE_CHECKING:
    from heartstrings.core.engine import Engine
    from heartstrings.corpus import Corpus

FILE = "precision.json"
"""Beside the vectors: what was compared, and the choice. An interrupted extraction goes on with the same choice."""


@contextlib.contextmanager
def reader(
    engine: Engine,
    corpus: Corpus,
    out: Path,
    *,
    auto: bool,
    pooling: Pooling,
    layers: Sequence[int] | None,
    site: Site = "block",
    token_budget: int | None = None,
    max_tokens: int = 512,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Iterator[tuple[Engine, Precision | None]]:
    """The model in the precision that `corpus` is to be read in, for an extraction to `out`, and the comparison behind
    it. Afterwards the model is as before, bit for bit: scores and texts are computed as the weights are stored.

    With `auto`, a model that gains from bfloat16 (`engines.gains_from_bfloat16`) pools a sample of the stories in both
    precisions. bfloat16 is used if its rounding error in the contrasts is at most a tenth of their split-half noise
    (`heartstrings.vectors.rounding`). The choice is made once for a folder.

    Args:
        auto: `--dtype auto`, and the model was opened by name. Otherwise it is read as it is.
        pooling: the main rule; the other arguments are those of the extraction.
    Raises:
        InputError: a damaged precision.json.
    """
    if not auto:
        if overwrite:
            (out / FILE).unlink(missing_ok=True)  # it is about the vectors that are replaced
        yield engine, None
        return
    precision = recorded(out)
    if precision is not None and precision.weights_hash != engine.info.weights_hash:
        precision = None
    begun = precision is None and any((out / name).exists() for name in (vectors.WORK, "bundle.json"))
    begun = begun or (precision is None and any(out.glob("*/bundle.json")))
    if precision is None and (overwrite or not begun) and engines.gains_from_bfloat16(engine):
        lengths = engine.count_tokens(corpus.texts, max_tokens=max_tokens)
        sample = vectors.draw(corpus, lengths, pooling, seed=seed)
        if sample is not None:
            progress("comparing bfloat16 with float32", 0, None)
            how: Any = {
                "layers": range(engine.info.n_layers) if layers is None else layers,
                "site": site,
                "token_budget": token_budget,
                "max_tokens": max_tokens,
            }
            precision = _compared(engine, sample, pooling, how)
            make_folder(out)
            write_text(out / FILE, precision.model_dump_json(indent=1) + "\n")
    if precision is None or precision.dtype != "bfloat16":
        yield engine, precision
        return
    with engines.in_bfloat16(cast("Any", engine)) as rounded:
        yield rounded, precision


def _compared(engine: Engine, sample: vectors.Sample, pooling: Pooling, how: dict[str, Any]) -> Precision:
    exact = vectors.sampled_contrasts(engine, sample, pooling, **how)
    try:
        with engines.in_bfloat16(cast("Any", engine)) as rounded:
            approximate = vectors.sampled_contrasts(rounded, sample, pooling, **how)
    except NumericalError:
        approximate = None
    return vectors.compared(
        exact,
        approximate,
        sample,
        layers=how["layers"],
        stored=engine.info.dtype,
        weights_hash=engine.info.weights_hash,
    )


def recorded(folder: Path) -> Precision | None:
    """The choice that was made for a folder of vectors; None where none was made.

    Raises:
        InputError: a damaged file.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        return Precision.model_validate_json(path.read_bytes())
    except ValidationError:
        raise InputError(
            f"{path} is damaged", "what an extraction wrote", "Restore it, or choose another --out"
        ) from None
