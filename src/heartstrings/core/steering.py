"""Steering of the residual stream during one request: frozen values with a description in words.

Dose is a fraction of the mean residual norm at the layer and site over the calibration texts:
`add` is h += dose * norm * unit(direction). Positions are absolute, 0-based, and count real tokens only.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from jaxtyping import Float32

from heartstrings.core.errors import InputError, NumericalError
from heartstrings.core.types import Site

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
"""`prompt`: all tokens of the prompt, template included; `generated`: all tokens after it, given or sampled."""

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
    """Of any length above 0, which has no effect. Kept as a read-only copy in float32."""
    dose: float | int
    """Fraction of `norm`."""
    norm: float | int
    """Mean residual norm at this layer and site over the calibration texts: the unit of dose."""
    operation: Operation = "add"
    site: Site = "block"
    label: str = ""
    """Name of the direction, e.g. `0.5*joyful - sad`."""

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

    @property
    def size(self) -> float:
        """The length added along the unit direction, or the value that the component along it is set to."""
        return 0.0 if self.operation == "ablate" else float(self.dose) * float(self.norm)

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
    """The steering of one request: interventions that are applied in order. Equal and hashable by content; `str()`
    describes it in words.

    Raises:
        InputError: no intervention, directions of several widths, positions of an unknown kind.
    """

    interventions: tuple[Intervention, ...]
    positions: Positions = "all"

    def __post_init__(self) -> None:
        object.__setattr__(self, "interventions", tuple(self.interventions))
        if not self.interventions:
            raise InputError("steering without an intervention", "at least one", "Use no steering instead")
        widths = sorted({len(intervention.direction) for intervention in self.interventions})
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
        """A description in words."""
        groups: dict[tuple[object, ...], list[Intervention]] = {}
        for intervention in self.interventions:
            groups.setdefault(
                (intervention.operation, intervention.label, intervention.site, intervention.dose), []
            ).append(intervention)
        return "; ".join(_in_words(group) for group in groups.values()) + f", {_where(self.positions)}"

    def to_json(self) -> str:
        """JSON text, from which `from_json` makes an equal value. Directions are float32 bytes in base64."""
        return json.dumps(
            {
                "schema_version": SCHEMA_VERSION,
                "positions": _positions_to_json(self.positions),
                "interventions": [_intervention_to_json(intervention) for intervention in self.interventions],
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Steering:
        """Read what `to_json` wrote.

        Raises:
            InputError: no such JSON, another schema version, or values that the classes refuse.
        """
        try:
            record = json.loads(text)
            version = record["schema_version"]
            if version != SCHEMA_VERSION:
                raise InputError(
                    f"steering of schema version {version!r}",
                    f"version {SCHEMA_VERSION}",
                    "Use the version that made it",
                )
            interventions = tuple(_intervention_from_json(intervention) for intervention in record["interventions"])
            return cls(interventions, _positions_from_json(record["positions"]))
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
            raise InputError(
                f"text that is no steering ({type(error).__name__}: {error})", "what Steering.to_json writes"
            ) from error


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
    first, layers = group[0], [str(intervention.layer) for intervention in group]
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
    total = _number(sum(intervention.dose for intervention in group))
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


def _intervention_to_json(intervention: Intervention) -> dict[str, object]:
    values = {field.name: getattr(intervention, field.name) for field in fields(intervention)}
    return values | {"direction": base64.b64encode(intervention.direction.astype("<f4").tobytes()).decode("ascii")}


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
