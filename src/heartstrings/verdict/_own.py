"""Whether the emotion that is steered is itself encoded, from what the atlas read on held-out topics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from heartstrings.experiment.claim_directions import emotions_in
from heartstrings.geometry.readout_results import OwnEmotion, ReadoutResult
from heartstrings.verdict.results import Encoded, OwnEncoding

BLEND = "whether its own emotion is encoded: not examined for blends"
FEW = "whether its own emotion is encoded: the atlas has no stories of it on held-out topics"


def read_own(atlas: Path) -> tuple[OwnEmotion, ...]:
    """The emotions that an atlas read for themselves; none where its `readout.json` is absent, damaged or of before."""
    try:
        return ReadoutResult.model_validate_json((atlas / "readout.json").read_bytes()).own
    except (OSError, ValidationError):
        return ()


def own_encodings(directions: Sequence[str], encodings: Sequence[OwnEmotion]) -> dict[str, OwnEncoding | None] | None:
    """Of every direction; None for a blend of several emotions. None in all where the atlas read no emotion."""
    if not encodings:
        return None
    known = {emotion.emotion: emotion for emotion in encodings}
    out: dict[str, OwnEncoding | None] = {}
    for direction in directions:
        names = emotions_in(direction, tuple(known))
        emotion = known.get(names[0]) if len(names) == 1 else None
        out[direction] = (
            None
            if emotion is None
            else OwnEncoding(
                auc=emotion.auc,
                low=emotion.low,
                high=emotion.high,
                p=emotion.p,
                layer=emotion.layer,
                words=emotion.words,
            )
        )
    return out


def of_direction(encoded: Encoded, own: OwnEncoding | None, alpha: float) -> Encoded:
    """What the atlas says of the model, beside what it says of the emotion that is steered: where no axis is found
    and the emotion itself is read, `not encoded` would be wrong and `encoded` too much."""
    read = own is not None and own.p is not None and own.p < alpha
    return "inconclusive" if encoded == "not encoded" and read else encoded


def unread(own: Mapping[str, OwnEncoding | None] | None, direction: str) -> tuple[str, ...]:
    """What is missing of a direction, in words: nothing where no atlas read any emotion."""
    if own is None or own.get(direction) is not None:
        return ()
    return (BLEND if len(emotions_in(direction, ())) > 1 else FEW,)
