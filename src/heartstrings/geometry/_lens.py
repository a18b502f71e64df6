"""The logit lens: the tokens that an emotion's vector makes more and less likely, by the unembedding."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float32, Int64

from heartstrings.geometry.results import LensRow

N_TOKENS = 8
CHUNK = 16

Unembed = Callable[[Float32[np.ndarray, "state width"]], Float32[np.ndarray, "state vocab"]]
TokenStrings = Callable[[Sequence[int]], list[str]]


def logit_lens(
    contrasts: Float32[np.ndarray, "emotion width"],
    emotions: Sequence[str],
    unembed: Unembed,
    token_strings: TokenStrings | None,
    *,
    n: int = N_TOKENS,
) -> tuple[LensRow, ...]:
    """Top and bottom tokens of every contrast after the final norm and the unembedding.

    The final norm removes the length of a contrast. Emotions are processed in small groups, since one row is as long as
    the vocabulary. Without `token_strings` tokens appear as `#id`.
    """
    rows = []
    for start in range(0, len(emotions), CHUNK):
        logits = np.asarray(unembed(contrasts[start : start + CHUNK]), dtype=np.float32)
        for emotion, scores in zip(emotions[start : start + CHUNK], logits, strict=True):
            count = min(n, len(scores))
            top, bottom = _largest(scores, count), _largest(-scores, count)
            rows.append(
                LensRow(emotion=emotion, top=_strings(top, token_strings), bottom=_strings(bottom, token_strings))
            )
    return tuple(rows)


def _largest(scores: Float32[np.ndarray, "vocab"], n: int) -> Int64[np.ndarray, "n"]:
    part = np.argpartition(-scores, n - 1)[:n]
    return part[np.argsort(-scores[part], kind="stable")].astype(np.int64)


def _strings(ids: Int64[np.ndarray, "n"], token_strings: TokenStrings | None) -> tuple[str, ...]:
    numbers = [int(i) for i in ids]
    return tuple(f"#{i}" for i in numbers) if token_strings is None else tuple(token_strings(numbers))
