"""From statistics to a finding: whether valence is encoded, where, and with what certainty.

The rule (docs/geometry.md). First a gate for the whole bundle: the smallest p over three routes (best
component, component 1, held-out readout), all layers and all variants, against a null of the same smallest p
under shared permutations (Westfall and Young 1993) of families of feeling and within them. Where the gate is closed,
every layer is called absent. So a model without valence is called encoded in 5 of 100 cases, whatever its number of
layers and however families differ in it. Then each layer is described by its own p-values, which are corrected over the
layers of its variant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from heartstrings.geometry._axes import MIN_FAMILIES, Found
from heartstrings.geometry._readouts import Reading
from heartstrings.geometry.results import Finding, LayerGeometry

ALPHA, POWER = 0.05, 0.80
NEARLY_THE_BEST = 0.8
"""A significant component 1 counts as the valence component from this share of the best component's |r| on."""
WORTH_DENYING = 0.6
"""The verdict is `not encoded` only where a correlation of this size would have been found."""

NUISANCE_WORDS = {
    "length": "story length",
    "person": "narrative person",
    "dialogue": "the share of dialogue",
    "topic": "topic",
}


@dataclass(frozen=True)
class Gate:
    """Whether any sign of valence was found in a bundle."""

    p: float | None
    """Corrected over routes, layers, components and variants; None when nothing could be tested."""
    detectable_r: float | None
    n_families: int
    """Families of feeling among the rated emotions; under six nothing is tested."""

    @property
    def open(self) -> bool:
        return self.p is not None and self.p < ALPHA


def gate(axes: Sequence[Found], readings: Sequence[Reading]) -> Gate:
    """Westfall-Young minimum p over the routes of every variant, and what it could have detected."""
    routes: list[tuple[float, Float64[np.ndarray, "permutation"]]] = []
    for item in axes:
        if item.n and np.isfinite(item.r).any():
            routes.append((float(np.nanmax(np.abs(item.r))), item.null_best))
            routes.append((float(np.nanmax(np.abs(item.r[:, 0]))), item.null_first))
    for reading in readings:
        sizes = [result.r2 for result in reading.results if result is not None and result.r2 is not None]
        if sizes:
            routes.append((max(sizes), reading.null))
    n_families = max((item.n_families for item in axes), default=0)
    if n_families < MIN_FAMILIES or not any(np.isfinite(item.r).any() for item in axes):
        return Gate(None, None, n_families)
    everything = np.stack([np.concatenate([[observed], null]) for observed, null in routes])
    n = everything.shape[1]
    # p of every permutation within its own route: how many values are at least as large.
    order = np.sort(everything, axis=1)
    p = np.stack(
        [
            (n - np.searchsorted(row, values - 1e-12, side="left")) / n
            for row, values in zip(order, everything, strict=True)
        ]
    )
    smallest = p.min(0)
    overall = float((smallest <= smallest[0] + 1e-12).sum() / n)
    return Gate(overall, detectable(axes[0], threshold=float(np.quantile(smallest[1:], ALPHA))), n_families)


def detectable(axis: Found, *, threshold: float) -> float | None:
    """The |r| of a component with valence that the search calls significant in 80 of 100 samples of this size.

    The null's critical |r| at the gate's threshold, plus 0.84 standard errors on Fisher's z scale. Another sample would
    have other families, not only other words of the same families, so n is the number of families.
    """
    if axis.n_families < MIN_FAMILIES:
        return None
    critical = min(float(np.quantile(axis.null_best, 1 - threshold)), 1 - 1e-9)
    return math.tanh(math.atanh(critical) + 0.8416212335729143 / math.sqrt(axis.n_families - 3))


def classify(
    *,
    first_r: float | None,
    first_p: float | None,
    best_component: int | None,
    best_r: float | None,
    best_p: float | None,
    readout_p: float | None,
    gate_open: bool,
    first_is_nuisance: bool = False,
) -> Finding:
    """Where valence is in one layer. A first component that follows a nuisance more closely than valence is not counted
    as the valence component, even if its correlation is near that of the best component."""
    if not gate_open:
        return "absent"
    first = first_p is not None and first_p < ALPHA
    best = best_p is not None and best_p < ALPHA
    if best:
        near = first and not first_is_nuisance and (first_r or 0.0) >= NEARLY_THE_BEST * (best_r or 0.0)
        return "pc1" if best_component == 1 or near else "other component"
    if first:
        return "pc1"
    return "linear only" if readout_p is not None and readout_p < ALPHA else "absent"


def verdict(passed: Gate) -> Literal["encoded", "not encoded", "inconclusive"]:
    """`not encoded` requires enough power (`WORTH_DENYING`); without it the verdict is `inconclusive`."""
    if passed.open:
        return "encoded"
    powered = passed.detectable_r is not None and passed.detectable_r <= WORTH_DENYING
    return "not encoded" if powered else "inconclusive"


def sentence(
    layers: Sequence[LayerGeometry], passed: Gate, *, n_rated: int, corrected: Mapping[str, Sequence[LayerGeometry]]
) -> str:
    """The finding in plain words: where valence is in raw vectors (and how denoising changes that)."""
    parts = [_verdict_words(passed, n_rated)]
    raw = [layer for layer in layers if layer.variant == "raw"]
    denoised = [layer for layer in layers if layer.variant == "denoised"]
    if passed.open:
        parts.append(_where(raw, "Raw vectors" if denoised else "Valence"))
        if denoised:
            parts.append(_where(denoised, "Denoised"))
    parts += _nuisances(raw)
    named = [layer.layer for layer in raw if layer.first_component_nuisance is not None]
    for label, others in corrected.items():
        same = [layer for layer in others if layer.variant == "raw" and layer.layer in named]
        if same:
            parts.append(_after(label, same))
    return " ".join(parts)


def spans(layers: Sequence[int], every: Sequence[int]) -> str:
    """Layer numbers as runs among the layers there are: `0-3, 7`."""
    places = {layer: place for place, layer in enumerate(sorted(every))}
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and places[layer] == places[runs[-1][-1]] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def short(r: float) -> str:
    """A correlation without its leading zero."""
    return f"{r:.2f}".replace("0.", ".", 1) if abs(r) < 0.995 else f"{r:.2f}"


def _verdict_words(passed: Gate, n_rated: int) -> str:
    if passed.p is None and n_rated >= MIN_FAMILIES > passed.n_families > 0:
        return (
            f"Inconclusive: the {n_rated} rated emotions are of {passed.n_families} "
            f"famil{'y' if passed.n_families == 1 else 'ies'} of feeling; what tells so few apart cannot be told from "
            f"valence. At least {MIN_FAMILIES} are needed."
        )
    if passed.p is None:
        return (
            f"Inconclusive: nothing can be tested with {n_rated} rated emotions; at least four with different "
            "ratings and different vectors are needed."
        )
    p = f"p < .001, n = {n_rated}" if passed.p < 0.001 else f"p = {passed.p:.3f}, n = {n_rated}"
    p = p.replace("0.", ".", 1)
    if passed.open:
        return f"Valence is encoded ({p} rated emotions, corrected for the whole search)."
    size = "" if passed.detectable_r is None else short(passed.detectable_r)
    if verdict(passed) == "not encoded":
        return (
            f"Valence is not encoded: no component follows it and no linear readout predicts it in any layer "
            f"({p} rated emotions; a component with |r| of {size} would be found 8 times in 10)."
        )
    return (
        f"Inconclusive: {n_rated} rated emotions are too few (smallest corrected {p.split(',')[0]}; only a "
        f"component with |r| of {size or 'almost 1'} or more would be found 8 times in 10)."
    )


def _where(layers: Sequence[LayerGeometry], subject: str) -> str:
    numbers = [layer.layer for layer in layers]
    words = []
    for kind in ("pc1", "other component", "linear only", "absent"):
        rows = [layer for layer in layers if layer.finding == kind]
        if not rows:
            continue
        where = (
            "every layer"
            if len(rows) == len(layers) > 1
            else f"layer{'s' * (len(rows) > 1)} " + spans([row.layer for row in rows], numbers)
        )
        words.append(f"{_found_words(kind, rows)} in {where}")
    return f"{subject}: {'; '.join(words)}."


def _found_words(kind: str, rows: Sequence[LayerGeometry]) -> str:
    if kind == "pc1":
        return f"on component 1 (|r| {_range([row.pc1_valence.r for row in rows])})"
    if kind == "other component":
        numbers = sorted({row.best_valence.component for row in rows if row.best_valence.component is not None})
        names = ", ".join(map(str, numbers[:-1])) + (" or " if len(numbers) > 1 else "") + str(numbers[-1])
        return (
            f"on component {names} (|r| {_range([row.best_valence.r for row in rows])}, component 1 "
            f"{_range([row.pc1_valence.r for row in rows])})"
        )
    if kind == "linear only":
        return f"only in a linear readout (held-out R2 {_range([row.readout_valence_r2 for row in rows])})"
    return "not found"


def _range(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "unknown"
    low, high = short(min(known)), short(max(known))
    return low if low == high else f"{low} to {high}"


def _nuisances(layers: Sequence[LayerGeometry]) -> list[str]:
    numbers = [layer.layer for layer in layers]
    out = []
    for name, words in NUISANCE_WORDS.items():
        rows = [
            (layer.layer, layer.first_component_nuisance)
            for layer in layers
            if layer.first_component_nuisance is not None and layer.first_component_nuisance.nuisance == name
        ]
        if rows:
            sizes = [fit.r for _, fit in rows]
            where = spans([number for number, _ in rows], numbers)
            out.append(
                f"Component 1 follows {words}, not emotion, in layer{'s' * (len(rows) > 1)} {where} "
                f"(|r| {_range(sizes)})."
            )
    return out


def _after(label: str, layers: Sequence[LayerGeometry]) -> str:
    numbers = [layer.layer for layer in layers]
    led = [layer.layer for layer in layers if layer.first_component_nuisance is not None]
    words = "component 1 follows no nuisance there"
    if led:
        words = f"component 1 still follows a nuisance in layer{'s' * (len(led) > 1)} {spans(led, numbers)}"
    where = _where(layers, f"With pooling {label}, in those layers").rstrip(".")
    return f"{where}; {words}."
