"""Steering from vectors: along an emotion, a blend or any direction, with a dose in units of the residual norm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from heartstrings.core.errors import InputError
from heartstrings.core.steering import Intervention, Operation, Positions, Steering
from heartstrings.core.types import Site, Variant
from heartstrings.vectors.algebra import Direction
from heartstrings.vectors.emotion_vectors import EmotionVectors


def make_steering(
    vectors: EmotionVectors,
    direction: str | Direction,
    *,
    dose: float | int,
    layers: int | Sequence[int],
    operation: Operation = "add",
    positions: Positions = "all",
    variant: Variant | None = None,
) -> Steering:
    """Steering along an emotion or a blend (`0.5*joyful - sad`) of a bundle.

    With `add`, n layers share the dose: each adds dose / n, as exported files do. `clamp` sets the component to the
    whole dose at each layer, because values that are set do not add up over layers. `ablate` removes the component at
    each layer and ignores the dose.

    Args:
        direction: an expression, or a `Direction` of the same model, e.g. `0.5 * vectors["joyful"]`.
        dose: fraction of the mean residual norm; 0 adds nothing.
        variant: for an expression; denoised where the bundle has it, else raw.
    Raises:
        InputError: an unknown emotion or layer, a bundle without norms, a blend that cancels.
    """
    if vectors.norms is None:
        raise no_norms("Extract the vectors from the model")
    norm_at = dict(zip(vectors.layers, vectors.norms.tolist(), strict=True))
    chosen = layer_list(layers, vectors.layers)
    if isinstance(direction, str):
        best = vectors.variants[-1] if variant is None else variant
        direction = vectors.direction(direction, variant=best)
    elif variant is not None:
        raise InputError(
            f"variant {variant!r} beside the finished direction {direction.name!r}",
            "a variant only with an expression",
            f'Leave it out, or take vectors.of(name, "{variant}")',
        )
    if direction.width != vectors.width:
        raise InputError(
            f"direction {direction.name!r} has width {direction.width}", f"{vectors.width}, the bundle's", "Use its own"
        )
    size = float(np.abs(vectors.raw).max())
    return along(
        direction,
        dose=dose,
        layers=chosen,
        norm_at=norm_at.__getitem__,
        operation=operation,
        positions=positions,
        site=vectors.provenance.site,
        smallest=1e-12 * size,
    )


def along(
    direction: Direction,
    *,
    dose: float | int,
    layers: Sequence[int],
    norm_at: Callable[[int], float],
    operation: Operation,
    positions: Positions,
    site: Site,
    smallest: float = 0.0,
) -> Steering:
    """Steering along a direction at some layers; with `add`, the layers share the dose.

    Args:
        norm_at: mean residual norm at a layer and this site.
        smallest: a vector of at most this length is rounding noise, left over from a blend that cancels.
    Raises:
        InputError: the direction lacks a layer, or is nothing there.
    """
    share = float(dose) / len(layers) if operation == "add" else float(dose)
    interventions = []
    for layer in layers:
        row = direction.only(layer).values[0]
        length = float(np.linalg.norm(row))
        if length <= smallest:
            raise InputError(f"{direction.name!r} cancels at layer {layer}", "a blend that leaves a direction")
        unit = (row / length).astype(np.float32)
        interventions.append(Intervention(layer, unit, share, norm_at(layer), operation, site, direction.name))
    return Steering(tuple(interventions), positions)


def no_norms(fix: str) -> InputError:
    """The error for a dose of a bundle without norms."""
    return InputError(
        "a dose is a fraction of the mean residual norm, and this bundle has no norms",
        "a bundle extracted here, which measures them",
        fix,
    )


def layer_list(layers: int | Sequence[int], known: Sequence[int]) -> tuple[int, ...]:
    """One or several layers in rising order; each must be known and occur once."""
    asked = (layers,) if isinstance(layers, int | np.integer) else tuple(layers)
    unknown = [layer for layer in asked if layer not in known]
    if unknown or not asked or len(set(asked)) != len(asked):
        problem = f"layer {unknown[0]} is not among those known" if unknown else "no layer, or one twice"
        raise InputError(problem, f"some of {', '.join(map(str, known))}, each once", "Change the layers")
    return tuple(sorted(int(layer) for layer in asked))
