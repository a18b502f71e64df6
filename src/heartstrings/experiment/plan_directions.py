"""The directions of a plan: expressions of emotions, and what the vectors must have for them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from heartstrings import vectors
from heartstrings.core.errors import InputError
from heartstrings.vectors.algebra import Direction, parse

if TYPE_CHECKING:
    from heartstrings.experiment.plan import Plan
    from heartstrings.vectors.emotion_vectors import EmotionVectors

SAME = 1 - 1e-6
"""Two directions with a cosine over this, at every layer, are one: a dose counts the unit vector only."""


def readable(given: tuple[str, ...]) -> tuple[str, ...]:
    """Each once, readable, and none that cancels. Which emotions there are is not known yet."""
    if not given:
        raise InputError("directions is empty", 'emotions or blends such as ["calm", "0.5*joyful - sad"]', "Name one")
    tidy = tuple(" ".join(text.split()) for text in given)
    seen: set[str] = set()
    for text in tidy:
        short = text.replace(" ", "")
        if short in seen:
            raise InputError(f"the direction {text!r} is there twice", "each once", "Remove one of them")
        seen.add(short)
        _refuse_nothing(text, _names_in(text))
    return tidy


_NOT_A_NAME = re.compile(r"[^\w'’ -]")


def _names_in(text: str) -> list[str]:
    """What stands between the operators of a blend, where the names are not known."""
    quoted = re.findall(r"'([^']*)'|\"([^\"]*)\"", text)
    unquoted = re.sub(r"'[^']*'|\"[^\"]*\"", " ", text) if quoted else text
    names = [single or double for single, double in quoted]
    for part in re.split(r"[*/+()]|(?<!\S)-|-(?=\s)", unquoted):
        part = part.strip()
        if not part or re.fullmatch(r"[\d.]+([eE][+-]?\d+)?", part):
            continue
        if _NOT_A_NAME.search(part) or not part[0].isalpha():
            raise InputError(
                f"cannot read {text!r} at {part!r}", "an emotion or a blend", "Write e.g. 0.5*joyful - sad"
            )
        names.append(part)
    return list(dict.fromkeys(names))


def factors(text: str, names: Sequence[str]) -> Float64[np.ndarray, "emotion"]:
    """Factor of each emotion in a blend, in the order of `names`.

    Raises:
        InputError: unreadable, or a name that is not among these.
    """
    known = list(names)

    def axis(name: str) -> Direction:
        return Direction(name, (0,), np.eye(len(known))[[known.index(name)]])

    row: Float64[np.ndarray, "emotion"] = parse(text, known, axis).values[0]
    return row


def _refuse_nothing(text: str, names: Sequence[str]) -> None:
    if not np.any(np.abs(factors(text, names)) > 1e-9):
        raise InputError(f"the direction {text!r} cancels", "a blend that leaves a direction", "Change the factors")


def emotion(text: str) -> str | None:
    """The emotion that an expression consists of alone, for asking by name; None for a blend."""
    bare = text.strip("'\"") if text[:1] == text[-1:] else text
    names = _names_in(text)
    return bare if names == [bare] else None


def check_files(plan: Plan) -> None:
    """What the vectors' own files tell, without their numbers.

    Raises:
        InputError: no vectors there, or without what the plan asks for. BundleError: damaged ones.
    """
    if plan.vectors is None:
        return
    where = Path(plan.vectors)
    if not where.exists():
        raise InputError(
            f"no vectors at {where}", "a bundle or an atlas", "Change vectors, or leave it out to make them"
        )
    header = vectors.read_header(vectors.main_bundle(where))
    _check_facts(
        plan,
        str(where),
        header.emotions,
        header.layers,
        header.variants,
        "norms" in header.tensors,
        header.provenance.site,
    )


def check_emotions(plan: Plan, emotions: tuple[str, ...]) -> None:
    """Every direction is made of these emotions.

    Raises:
        InputError: an unknown one; the message suggests the nearest.
    """
    for text in plan.directions:
        _refuse_nothing(text, emotions)


def check_against_vectors(plan: Plan, vectors: EmotionVectors) -> None:
    """What only the vectors can tell: emotions, layers, variant, norms, site, and that no two directions are the same.

    Raises:
        InputError: the plan asks for something that they do not have.
    """
    _check_facts(
        plan,
        "the bundle",
        vectors.emotions,
        vectors.layers,
        vectors.variants,
        vectors.norms is not None,
        vectors.provenance.site,
    )
    made = [vectors.direction(text, variant=plan.variant) for text in plan.directions]
    for i, direction in enumerate(made):
        for j, earlier in enumerate(made[:i]):
            if (direction.cosine(earlier) > SAME).all():
                raise InputError(
                    f"the directions {plan.directions[j]!r} and {plan.directions[i]!r} are the same",
                    "different ones: only a vector's direction counts, its length is the dose",
                    "Remove one of them",
                )


def _check_facts(
    plan: Plan,
    where: str,
    emotions: tuple[str, ...],
    known: tuple[int, ...],
    variants: tuple[str, ...],
    norms: bool,
    site: str,
) -> None:
    if not norms:
        raise InputError(
            f"{where} has no norms, the unit of dose", "a bundle extracted here", "Extract the vectors from the model"
        )
    if plan.variant not in variants:
        raise InputError(
            f"{where} has no {plan.variant} vectors", f"variant = {' or '.join(variants)}", "Change variant"
        )
    if site != plan.site:
        raise InputError(f"{where} is of site {site}, the plan of site {plan.site}", "the same", "Change site")
    check_emotions(plan, emotions)
    for layer in () if plan.layers == "middle" else plan.layers:
        if layer not in known:
            raise InputError(f"{where} has no layer {layer}", f"some of {', '.join(map(str, known))}", "Change layers")
