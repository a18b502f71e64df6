"""Choices of layers on the command line."""

from __future__ import annotations

from heartstrings.core.errors import InputError


def parse_layers(text: str | None, n_layers: int) -> list[int] | None:
    """`all`, `3,5,8` or `0:32:2` (stop excluded, as in Python). Negative numbers count from the end.

    Raises:
        InputError: not of that form, or a layer the model has not.
    """
    if text is None or text == "all":
        return None
    chosen: list[int] = []
    for part in text.split(","):
        try:
            if ":" in part:
                bounds = [int(b) if b.strip() else None for b in part.split(":")]
                chosen += range(n_layers)[slice(*bounds)]
                continue
            layer = int(part)
        except (ValueError, TypeError):
            raise InputError(
                f"--layers {text!r} is not understood at {part!r}", "numbers and ranges such as 3,5,8 or 0:32:2 or all"
            ) from None
        if not -n_layers <= layer < n_layers:
            raise InputError(f"layer {layer} is not in the model", f"0 to {n_layers - 1} (the model has {n_layers})")
        chosen.append(layer % n_layers)
    if not chosen:
        raise InputError(f"--layers {text!r} selects no layer of 0 to {n_layers - 1}")
    return sorted(set(chosen))
