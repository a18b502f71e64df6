"""Pooling: the residual stream of every text reduced to mean vectors on the device, while the model runs.

Only sums are kept: memory depends on the token budget, the width and the number of layers, and not on the number of
texts (apart from their token ids, 4 bytes each).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int64
from transformers import DynamicCache

from heartstrings.core.engine import PooledBatch
from heartstrings.core.errors import InputError, ModelError
from heartstrings.core.types import SINK_RATIO, Pooling, Site
from heartstrings.engines.hf._architecture import Architecture
from heartstrings.engines.hf.run import (
    Splitter,
    check_layers,
    evaluating,
    first_words,
    not_finite,
    pad,
    plan_batches,
    run_layers,
)
from heartstrings.engines.hf.text import Encoded


@dataclass(frozen=True)
class _Job:
    """What stays the same from batch to batch."""

    parts: Architecture
    texts: Sequence[str]
    encoded: Encoded
    layers: tuple[int, ...]
    poolings: tuple[Pooling, ...]
    site: Site
    chunk: int | None


@dataclass(frozen=True)
class _Reduced:
    """What one pass over some rows gives, on the host."""

    means: Float32[np.ndarray, "rule text layer width"]
    norms: Float32[np.ndarray, "text layer"]
    sinks: Int64[np.ndarray, "sink 3"]
    position_sums: Float32[np.ndarray, "layer position width"] | None
    position_counts: Int64[np.ndarray, "layer position"] | None


def pool(
    parts: Architecture,
    texts: Sequence[str],
    encode: Callable[[], Encoded],
    *,
    layers: Sequence[int] | None,
    poolings: Sequence[Pooling],
    site: Site,
    token_budget: int,
    done: Collection[int],
    chunk: int | None,
) -> Iterator[PooledBatch]:
    """See `TorchEngine.pool`. Arguments are checked at once, before `encode` makes the token ids; the model runs when
    the batches are iterated."""
    asked = check_layers(parts, layers)
    if not poolings:
        raise InputError("no pooling rule", "at least one")
    if chunk is not None and chunk < 1:
        raise InputError(f"chunks of {chunk} tokens", "1 or more")
    if chunk is not None and parts.is_encoder:
        raise ModelError("an encoder cannot run in chunks", fix="Leave out the chunk length")
    for layer in asked:
        parts.site(layer, site)
    encoded = encode()
    job = _Job(parts, texts, encoded, asked, tuple(poolings), site, chunk)
    return _batches(job, plan_batches(encoded.lengths, token_budget), frozenset(done))


def _batches(job: _Job, plan: list[Int64[np.ndarray, "_"]], done: frozenset[int]) -> Iterator[PooledBatch]:
    splitter = Splitter()
    lengths = job.encoded.lengths
    for number, rows in enumerate(plan):
        if number in done:
            continue
        parts = splitter.run(rows.tolist(), lengths, lambda indices: _reduce(job, indices), lambda row: f"text {row}")
        whole = _merge([reduced for _, reduced in parts])
        n_tokens = lengths[rows]
        yield PooledBatch(
            number=number,
            n_batches=len(plan),
            indices=rows,
            n_tokens=n_tokens,
            truncated=job.encoded.truncated[rows],
            n_pooled=np.stack([_in_span(rule, n_tokens) for rule in job.poolings]),
            **vars(whole),
        )


def _in_span(rule: Pooling, n_tokens: Int64[np.ndarray, "text"]) -> Int64[np.ndarray, "text"]:
    """Tokens of each text that the rule takes; none from a text that does not fill a window."""
    taken: Int64[np.ndarray, "text"] = np.maximum(n_tokens - rule.start, 0)
    if rule.stop is not None:
        taken = (n_tokens >= rule.stop) * np.int64(rule.stop - rule.start)
    return taken


def _spans(
    poolings: tuple[Pooling, ...], mask: Bool[torch.Tensor, "text token"]
) -> Bool[torch.Tensor, "text rule token"]:
    position = torch.arange(mask.shape[1], device=mask.device)
    length = mask.sum(dim=1, keepdim=True)
    spans = []
    for rule in poolings:
        span = mask & (position >= rule.start)
        if rule.stop is not None:
            span = span & (position < rule.stop) & (length >= rule.stop)
        spans.append(span)
    return torch.stack(spans, dim=1)


def find_sinks(
    norms: Float[torch.Tensor, "text token"], mask: Bool[torch.Tensor, "text token"]
) -> Bool[torch.Tensor, "text token"]:
    """Tokens whose norm is over SINK_RATIO times the median norm of their text's real tokens."""
    ranked = norms.masked_fill(~mask, torch.inf).sort(dim=1).values
    length = mask.sum(dim=1, keepdim=True)
    lower = ranked.gather(1, ((length - 1) // 2).clamp(min=0))
    upper = ranked.gather(1, (length // 2).clamp(max=norms.shape[1] - 1))
    median = (lower + upper) / 2
    return mask & (norms > SINK_RATIO * median) & (median > 0)


class _Sums:
    """Running sums of one batch, a layer at a time and, in chunks, a stretch of tokens at a time.

    Args:
        zero_padding: set padded places to 0 first. They may hold anything, Inf included, and 0 * Inf is NaN. But they
            are nearly always finite, and the copy took longer than all sums together: so it is made only where a first
            pass has found padding that is not finite (`padding_is_finite`).
    """

    def __init__(self, job: _Job, mask: Bool[torch.Tensor, "text token"], *, zero_padding: bool = False) -> None:
        n_layers, (n_texts, n_tokens) = len(job.layers), mask.shape
        self.job, self.mask, self.spans = job, mask, _spans(job.poolings, mask)
        self.zero_padding = zero_padding
        self.sums: list[Float[torch.Tensor, "text rule width"] | None] = [None] * n_layers
        self.norms = torch.zeros(n_layers, n_texts, n_tokens, dtype=torch.float32, device=mask.device)
        self.sinks = torch.zeros(n_layers, n_texts, n_tokens, dtype=torch.bool, device=mask.device)
        by_position = any(rule.rule == "centred" for rule in job.poolings)
        shape = (n_layers, n_tokens, job.parts.width)
        self.position_sums = np.zeros(shape, np.float32) if by_position else None

    def add(self, index: int, start: int, state: Float[torch.Tensor, "text token width"], *, whole: bool) -> None:
        """Take in the states of tokens `start` and on. `whole`: these are all, so sinks can be told now."""
        stretch = slice(start, start + state.shape[1])
        mask = self.mask.to(state.device)[:, stretch]
        state = state.float()
        if self.zero_padding:
            state = state.masked_fill(~mask[..., None], 0.0)
        norms = torch.linalg.vector_norm(state, dim=-1)
        self.norms[index, :, stretch] = norms.to(self.norms.device)
        if whole:
            self.sinks[index] = find_sinks(norms, mask).to(self.sinks.device)
        keep = mask & ~self.sinks[index, :, stretch].to(state.device)
        weights = (self.spans.to(state.device)[:, :, stretch] & keep[:, None]).float()
        sums = torch.bmm(weights, state)
        so_far = self.sums[index]
        self.sums[index] = sums if so_far is None else so_far + sums
        if self.position_sums is not None:
            self.position_sums[index, stretch] = (state * keep[..., None]).sum(dim=0).cpu().numpy()

    def finish(self, rows: Sequence[int]) -> _Reduced:
        self.check_finite(rows)
        keep = self.mask & ~self.sinks
        counts = (self.spans & keep[:, :, None]).sum(dim=-1).cpu()  # layer text rule
        sums = torch.stack([total.cpu() for total in self.sums if total is not None])
        means = sums / counts[..., None]  # nothing in the span: 0 / 0 is the NaN it should be
        norms = (self.norms * keep).sum(dim=-1) / keep.sum(dim=-1)
        where = self.sinks.nonzero()[:, [1, 0, 2]].cpu().numpy().astype(np.int64)
        return _Reduced(
            means=means.permute(2, 1, 0, 3).contiguous().numpy(),
            norms=norms.T.contiguous().cpu().numpy(),
            sinks=where[np.lexsort((where[:, 2], where[:, 1], where[:, 0]))],
            position_sums=self.position_sums,
            position_counts=None if self.position_sums is None else keep.sum(dim=1).cpu().numpy(),
        )

    def padding_is_finite(self) -> bool:
        """Whether no padded place has added NaN to the sums: a norm is finite only where all of its entries are."""
        return bool((torch.isfinite(self.norms) | self.mask).all())

    def check_finite(self, rows: Sequence[int]) -> None:
        bad = ~torch.isfinite(self.norms) & self.mask
        if bool(bad.any()):
            index, row, position = (int(value) for value in bad.nonzero()[0])
            text = rows[row]
            raise not_finite(f"text {text} ({first_words(self.job.texts[text])})", self.job.layers[index], position)


def _reduce(job: _Job, rows: Sequence[int]) -> _Reduced:
    ids, mask = pad(job.parts, [job.encoded[row] for row in rows])
    with evaluating(job.parts.text_model):
        sums = _summed(job, rows, ids, mask, zero_padding=False)
        if not sums.padding_is_finite():
            sums = _summed(job, rows, ids, mask, zero_padding=True)
    return sums.finish(rows)


def _summed(
    job: _Job,
    rows: Sequence[int],
    ids: Int64[torch.Tensor, "text token"],
    mask: Bool[torch.Tensor, "text token"],
    *,
    zero_padding: bool,
) -> _Sums:
    """The sums of one pass over some rows; in chunks there are two passes where a text has sinks."""
    sums = _Sums(job, mask, zero_padding=zero_padding)
    if job.chunk is None or ids.shape[1] <= job.chunk:
        run_layers(job.parts, job.layers, job.site, lambda i, h: sums.add(i, 0, h, whole=True), ids, mask)
        return sums
    _run_chunks(job, sums, ids)
    sums.check_finite(rows)
    sinks = torch.stack([find_sinks(norms, mask) for norms in sums.norms])
    if bool(sinks.any()):
        # Which tokens are sinks is known only at the end of the text: leave them out in a second pass.
        sums = _Sums(job, mask, zero_padding=zero_padding)
        sums.sinks = sinks
        _run_chunks(job, sums, ids)
    return sums


def _run_chunks(job: _Job, sums: _Sums, ids: Int64[torch.Tensor, "text token"]) -> None:
    assert job.chunk is not None
    cache = DynamicCache(config=job.parts.config)
    for start in range(0, ids.shape[1], job.chunk):
        part = ids[:, start : start + job.chunk]

        def take(index: int, state: Float[torch.Tensor, "text token width"], start: int = start) -> None:
            sums.add(index, start, state, whole=False)

        real = torch.ones_like(part, dtype=torch.bool)
        run_layers(job.parts, job.layers, job.site, take, part, real, cache=cache)


def _merge(parts: list[_Reduced]) -> _Reduced:
    """Join the parts of a batch that was split because memory ran out; texts stay in order."""
    if len(parts) == 1:
        return parts[0]
    offsets = np.cumsum([0] + [len(part.norms) for part in parts[:-1]])
    sinks = [part.sinks + np.array([offset, 0, 0]) for part, offset in zip(parts, offsets, strict=True)]
    sums = counts = None
    if parts[0].position_sums is not None:
        # Rows are ordered from the longest, so the first part has the most positions.
        sums = np.zeros_like(parts[0].position_sums)
        counts = np.zeros(sums.shape[:2], np.int64)
        for part in parts:
            if part.position_sums is not None and part.position_counts is not None:
                sums[:, : part.position_sums.shape[1]] += part.position_sums
                counts[:, : part.position_sums.shape[1]] += part.position_counts
    return _Reduced(
        means=np.concatenate([part.means for part in parts], axis=1),
        norms=np.concatenate([part.norms for part in parts]),
        sinks=np.concatenate(sinks),
        position_sums=sums,
        position_counts=counts,
    )
