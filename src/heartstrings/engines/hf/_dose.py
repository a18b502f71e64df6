"""The only function that adds a dose to a residual stream."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float


def apply(
    state: Float[torch.Tensor, "*token width"],
    unit: Float[torch.Tensor, "*any width"],
    size: Float[torch.Tensor, "*some"],
    sets: Bool[torch.Tensor, "*some"] | None = None,
) -> Float[torch.Tensor, "*token width"]:
    """The state changed along a unit direction: h + size * unit, or with its component along `unit` set to `size`.

    Args:
        unit: one direction, or one a row, broadcast against `state`.
        size: dose times the mean residual norm; 0 where a component is ablated. Broadcast against the tokens.
        sets: where the component is set (clamp, ablate) instead of added to; None: nowhere.
    """
    if sets is None:
        return state + size[..., None] * unit
    along = (state * unit).sum(dim=-1)
    return state + torch.where(sets, size - along, size.expand_as(along))[..., None] * unit
