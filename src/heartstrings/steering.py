"""What to do to the residual stream while one request runs: frozen values that say what they do in words.

Dose is a fraction of the mean residual norm at the layer and site over the calibration texts:
`add` is h += dose * norm * unit(direction). Positions are absolute, 0-based, and count real tokens only.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float32

from heartstrings.algebra import Direction
from heartstrings.errors import InputError, NumericalError
from heartstrings.types import Site, Variant
from heartstrings.vectors import EmotionVectors

Operation = Literal["add", "clamp", "ablate"]

SCHEMA_VERSION = 1
"""Of the JSON form."""


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens `start` to `stop - 1` of the whole sequence; `stop` None runs to its end.

    Raises:
        InputError: a start below 0, or no token in it.
    """

    start: int
    stop: int | None = None

    def __post_init__(self) -> None:
        _check_bounds("tokens", self.start, self.stop)


@dataclass(frozen=True, slots=True)
class Characters:
    """The tokens that overlap characters `start` to `stop - 1` of the prompt (of the rendered text, for a chat).

    Raises:
        InputError: a start below 0, or no character in it.
    """

    start: int
    stop: int

    def __post_init__(self) -> None:
        _check_bounds("characters", self.start, self.stop)


Positions: TypeAlias = Literal["all", "prompt", "generated"] | Span | Characters
"""`prompt`: every token of the prompt, template included; `generated`: every token after it, given or sampled."""

_WHERE = {
    "all": "at every position",
    "prompt": "at the tokens of the prompt",
    "generated": "at the tokens after the prompt",
}


@dataclass(frozen=True, eq=False)
class Intervention:
    """One change of the residual stream at one layer. Equal and hashable by content.

    `add`: h += dose * norm * unit(direction). `clamp`: the component along unit(direction) becomes
    dose * norm. `ablate`: that component is removed; `dose` is then unused.

    Raises:
        InputError: an all-zero or empty direction, a norm of 0 or less, a negative layer, an unknown operation or
            site; NumericalError: NaN or Inf anywhere.
    """

    layer: int
    direction: Float32[np.ndarray, "width"]
    """Any non-zero length; only its direction counts. Kept as a read-only copy in float32."""
    dose: float | int
    """Fraction of `norm`."""
    norm: float | int
    """Mean residual norm at this layer and site over the calibration texts: the unit of dose."""
    operation: Operation = "add"
    site: Site = "block"
    label: str = ""
    """What the direction is called, e.g. `0.5*joyful - sad`."""

    def __post_init__(self) -> None:
        if isinstance(self.layer, bool) or not isinstance(self.layer, int | np.integer) or self.layer < 0:
            raise InputError(f"steering at layer {self.layer!r}", "a block's number, 0 or more", "Change the layer")
        choices: tuple[tuple[str, object, object], ...] = (
            ("operation", self.operation, Operation),
            ("site", self.site, Site),
        )
        for name, given, known in choices:
            if given not in get_args(known):
                raise InputError(f"{name} {given!r}", f"one of {', '.join(get_args(known))}", f"Change the {name}")
        direction = np.array(self.direction, dtype=np.float32)
        direction.flags.writeable = False
        _check_direction(direction, self.layer, self.label)
        dose, norm = float(self.dose), float(self.norm)
        if not math.isfinite(dose) or not math.isfinite(norm):
            raise NumericalError(
                f"dose {dose} of norm {norm} at layer {self.layer}", "finite numbers", "Give a dose such as 0.1"
            )
        if norm <= 0:
            raise InputError(
                f"a mean residual norm of {norm:g} at layer {self.layer}",
                "the unit of dose, over 0",
                "Take it from the bundle's `norms`",
            )
        values = {"layer": int(self.layer), "direction": direction, "dose": dose, "norm": norm}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Intervention):
            return NotImplemented
        return self is other or self._content == other._content

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self._content)

    @property
    def _content(self) -> tuple[object, ...]:
        own = (self.layer, self.dose, self.norm, self.operation, self.site, self.label)
        return (*own, self.direction.tobytes())


@dataclass(frozen=True, eq=False)
class Steering:
    """What to do to one request while it runs: its interventions, one after the other. Equal and hashable by
    content; `str()` says in words what it does.

    Raises:
        InputError: no intervention, directions of several widths, positions of an unknown kind.
    """

    interventions: tuple[Intervention, ...]
    positions: Positions = "all"

    def __post_init__(self) -> None:
        object.__setattr__(self, "interventions", tuple(self.interventions))
        if not self.interventions:
            raise InputError("steering without an intervention", "one at least", "Leave the steering out for none")
        widths = sorted({len(one.direction) for one in self.interventions})
        if len(widths) > 1:
            raise InputError(f"steering with directions of widths {widths}", "directions of one model")
        named = isinstance(self.positions, str) and self.positions in _WHERE
        if not named and not isinstance(self.positions, Span | Characters):
            raise InputError(
                f"positions {self.positions!r}", "all, prompt, generated, a Span or Characters", "Change the positions"
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Steering):
            return NotImplemented
        return self is other or (self.positions == other.positions and self.interventions == other.interventions)

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.interventions, self.positions))

    def __str__(self) -> str:
        return self.describe()

    def describe(self) -> str:
        """What it does, in plain words."""
        groups: dict[tuple[object, ...], list[Intervention]] = {}
        for one in self.interventions:
            groups.setdefault((one.operation, one.label, one.site, one.dose), []).append(one)
        return "; ".join(_in_words(group) for group in groups.values()) + f", {_where(self.positions)}"

    def to_json(self) -> str:
        """As JSON text. `from_json` gives the same value: directions are the float32 bytes in base64."""
        return json.dumps(
            {
                "schema_version": SCHEMA_VERSION,
                "positions": _positions_to_json(self.positions),
                "interventions": [_intervention_to_json(one) for one in self.interventions],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Steering:
        """Read what `to_json` wrote.

        Raises:
            InputError: no such JSON, another schema version, or values that the classes refuse.
        """
        try:
            found = json.loads(text)
            version = found["schema_version"]
            if version != SCHEMA_VERSION:
                raise InputError(
                    f"steering of schema version {version!r}",
                    f"version {SCHEMA_VERSION}",
                    "Use the version that made it",
                )
            interventions = tuple(_intervention_from_json(one) for one in found["interventions"])
            return cls(interventions, _positions_from_json(found["positions"]))
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
            raise InputError(
                f"text that is no steering ({type(error).__name__}: {error})", "what Steering.to_json writes"
            ) from error


def steer(
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

    With `add`, several layers share the dose, each taking dose / n, as exported files do. `clamp` sets the
    component to the whole dose at each layer, since a value that is set does not add up over layers. `ablate`
    removes the component at each layer; the dose then plays no part.

    Args:
        direction: an expression, or a `Direction` of the same model, e.g. `0.5 * vectors["joyful"]`.
        dose: fraction of the mean residual norm; 0 adds nothing.
        variant: for an expression; denoised where the bundle has it, else raw.
    Raises:
        InputError: an unknown emotion or layer, a bundle without norms, a blend that cancels.
    """
    if vectors.norms is None:
        raise InputError(
            "a dose is a fraction of the mean residual norm, and this bundle has no norms",
            "a bundle extracted here, which measures them",
            "Extract the vectors from the model",
        )
    rows = dict(zip(vectors.layers, vectors.norms.tolist(), strict=True))
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
        direction, dose=dose, layers=chosen, norm_at=rows.__getitem__, operation=operation, positions=positions,
        site=vectors.provenance.site, smallest=1e-12 * size,
    )  # fmt: skip


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
    """Steering along a direction at some layers with norms at hand; `add` shares the dose among them.

    Args:
        norm_at: mean residual norm at a layer and this site.
        smallest: a vector of at most this length has cancelled to rounding noise.
    Raises:
        InputError: the direction lacks a layer, or is nothing there.
    """
    share = float(dose) / len(layers) if operation == "add" else float(dose)
    made = []
    for layer in layers:
        row = direction.only(layer).values[0]
        length = float(np.linalg.norm(row))
        if length <= smallest:
            raise InputError(f"{direction.name!r} cancels at layer {layer}", "a blend that leaves a direction")
        made.append(
            Intervention(
                layer=layer,
                direction=(row / length).astype(np.float32),
                dose=share,
                norm=norm_at(layer),
                operation=operation,
                site=site,
                label=direction.name,
            )
        )
    return Steering(tuple(made), positions)


def layer_list(layers: int | Sequence[int], known: Sequence[int]) -> tuple[int, ...]:
    """One layer or several, each of which must be known and come once; in rising order."""
    asked = (layers,) if isinstance(layers, int | np.integer) else tuple(layers)
    unknown = [layer for layer in asked if layer not in known]
    if unknown or not asked or len(set(asked)) != len(asked):
        what = f"layer {unknown[0]} is not among those known" if unknown else "no layer, or one twice"
        raise InputError(what, f"some of {', '.join(map(str, known))}, each once", "Change the layers")
    return tuple(sorted(int(layer) for layer in asked))


def _check_bounds(what: str, start: int, stop: int | None) -> None:
    if start < 0:
        raise InputError(f"{what} from {start} on", "a start of 0 or more, counted from the left", "Change the start")
    if stop is not None and stop <= start:
        raise InputError(f"{what} {start} to {stop}, which holds none", "a stop over the start", "Change the stop")


def _check_direction(direction: Float32[np.ndarray, "..."], layer: int, label: str) -> None:
    what = f"the direction {label!r}" if label else "the direction"
    if direction.ndim != 1 or not direction.size:
        raise InputError(f"{what} at layer {layer} has shape {direction.shape}", "one row of the model's width")
    if not np.isfinite(direction).all():
        raise NumericalError(f"{what} at layer {layer} holds NaN or Inf (in float32)", "finite numbers")
    if not direction.any():
        raise InputError(f"{what} at layer {layer} is all zeros", "a direction", "Leave the steering out for none")


def _number(value: float) -> str:
    """Two decimals, more where the number needs them."""
    return f"{value:.2f}" if math.isclose(value, round(value, 2), abs_tol=1e-12) else f"{value:.3g}"


def _in_words(group: Sequence[Intervention]) -> str:
    first, layers = group[0], [str(one.layer) for one in group]
    where = f"at layer {layers[0]}" if len(layers) == 1 else f"at each of layers {', '.join(layers)}"
    where += f" ({first.site})"
    name = f"`{first.label}`" if first.label else "an unnamed direction"
    if first.operation == "ablate":
        return f"removes the component along {name} {where}"
    dose = _number(first.dose)
    if first.operation == "clamp":
        return f"sets the component along {name} to {dose} of the mean residual norm {where}"
    if len(layers) == 1:
        return f"adds {dose} of the mean residual norm along {name} {where}"
    total = _number(sum(one.dose for one in group))
    return f"adds {total} of the mean residual norm along {name} in all, {dose} {where}"


def _where(positions: Positions) -> str:
    if isinstance(positions, str):
        return _WHERE[positions]
    if isinstance(positions, Characters):
        return f"at the tokens of characters {positions.start} to {positions.stop - 1} of the prompt"
    if positions.stop is None:
        return f"from token {positions.start} on"
    last = positions.stop - 1
    return f"at token {last}" if last == positions.start else f"at tokens {positions.start} to {last}"


def _intervention_to_json(one: Intervention) -> dict[str, object]:
    values = {field.name: getattr(one, field.name) for field in fields(one)}
    return values | {"direction": base64.b64encode(one.direction.astype("<f4").tobytes()).decode("ascii")}


def _intervention_from_json(values: Mapping[str, Any]) -> Intervention:
    raw = base64.b64decode(values["direction"], validate=True)
    return Intervention(**{**values, "direction": np.frombuffer(raw, "<f4").astype(np.float32)})


def _positions_to_json(positions: Positions) -> object:
    if isinstance(positions, str):
        return positions
    kind = "tokens" if isinstance(positions, Span) else "characters"
    return {kind: [positions.start, positions.stop]}


def _positions_from_json(value: Any) -> Positions:
    if isinstance(value, dict) and len(value) == 1:
        for kind, form in (("tokens", Span), ("characters", Characters)):
            if kind in value:
                start, stop = value[kind]
                return form(start, stop)
    if isinstance(value, str):
        return value  # type: ignore[return-value]  # Steering checks it
    raise ValueError(f"positions {value!r}")
