"""Pooled activations on disk: filled batch by batch, resumable at any moment, read one batch at a time."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from heartstrings.core.engine import PooledBatch, Pooler
from heartstrings.core.errors import InputError, ModelError, NumericalError
from heartstrings.core.storage import make_folder, remove_folder, tensor_bytes, write_bytes
from heartstrings.core.types import ModelInfo, Pooling, Site

Progress = Callable[[int, int], None]
"""Called with (texts done, texts in all)."""

WORK = ".work"
"""Folder of the activations, beside the bundles that are made from them."""
MANIFEST, POSITIONS = "manifest.json", "positions.safetensors"
_SHARD = re.compile(r"batch-(\d{5,})\.safetensors")
_SMALL_FIELDS = ("indices", "n_tokens", "truncated", "n_pooled", "norms", "sinks")
_FIELDS = (*_SMALL_FIELDS, "means")


@dataclass(frozen=True, eq=False)
class PositionMeans:
    """Mean residual at each position over a corpus, sinks left out, as running sums over positions."""

    running: Float64[np.ndarray, "layer edge width"]
    """`running[:, p]` is the sum of the means at positions 0 to p - 1."""

    def span(
        self, layer_counts: Int64[np.ndarray, "layer"], start: int, stop: int, sinks: Sequence[tuple[int, int]]
    ) -> Float64[np.ndarray, "layer width"]:
        """Mean of the position means over `start` to `stop - 1`, without the (layer index, position) sinks.

        A position beyond the longest text of the corpus takes the mean of the last position that it has.
        """
        last = self.running.shape[1] - 1
        total = self.running[:, min(stop, last)] - self.running[:, min(start, last)]
        beyond = max(stop, last) - max(start, last)
        if beyond:
            total = total + beyond * (self.running[:, last] - self.running[:, last - 1])
        for layer, position in sinks:
            at = min(position, last - 1)
            total[layer] -= self.running[layer, at + 1] - self.running[layer, at]
        return np.asarray(total / np.maximum(layer_counts, 1)[:, None])


@dataclass(frozen=True, eq=False)
class PooledTexts:
    """The texts of one batch that one rule pools: one vector a text and layer."""

    indices: Int64[np.ndarray, "text"]
    """Rows of the input texts."""
    vectors: Float32[np.ndarray, "text layer width"]
    weights: Int64[np.ndarray, "text layer"]
    """Tokens that the mean was taken over, sinks left out."""


@dataclass(frozen=True, eq=False)
class TextFacts:
    """What is known of each text, one row a text, in the order given."""

    n_tokens: Int64[np.ndarray, "text"]
    truncated: Bool[np.ndarray, "text"]
    n_pooled: Int64[np.ndarray, "rule text"]
    """0: set aside."""
    n_sinks: Int64[np.ndarray, "text"]
    """Tokens that are a sink at one layer or more."""


@dataclass(frozen=True)
class Activations:
    """A filled store. It is read one batch at a time, so memory does not grow with the number of texts."""

    directory: Path
    n_texts: int
    layers: tuple[int, ...]
    poolings: tuple[Pooling, ...]

    @classmethod
    def of(cls, directory: Path, manifest: Mapping[str, Any]) -> Activations:
        """The store that a manifest describes (`read_manifest`)."""
        poolings = tuple(Pooling.model_validate(pooling) for pooling in manifest["poolings"])
        return cls(directory, int(manifest["number of texts"]), tuple(manifest["layers"]), poolings)

    def batches(self, *, means: bool = True) -> Iterator[dict[str, np.ndarray]]:
        """The stored arrays of each batch, in plan order; `means` leaves out the large one."""
        for path in _shards(self.directory):
            yield _read(path, _FIELDS if means else _SMALL_FIELDS)

    def facts(self) -> TextFacts:
        """Token counts of all texts."""
        n_tokens = np.zeros(self.n_texts, dtype=np.int64)
        truncated = np.zeros(self.n_texts, dtype=bool)
        n_pooled = np.zeros((len(self.poolings), self.n_texts), dtype=np.int64)
        n_sinks = np.zeros(self.n_texts, dtype=np.int64)
        for batch in self.batches(means=False):
            rows = batch["indices"]
            n_tokens[rows], truncated[rows] = batch["n_tokens"], batch["truncated"]
            for rule in range(len(self.poolings)):
                # A span of sinks alone at some layer has no mean there: the text is set aside like a short one.
                kept = _weights(batch, rule, self.poolings[rule], len(self.layers)).min(1, initial=2**31) > 0
                n_pooled[rule, rows] = np.where(kept, batch["n_pooled"][rule], 0)
            distinct = np.unique(batch["sinks"][:, [0, 2]], axis=0)
            np.add.at(n_sinks, rows[distinct[:, 0]], 1)
        return TextFacts(n_tokens, truncated, n_pooled, n_sinks)

    def pooled(self, rule: int, positions: PositionMeans | None = None) -> Iterator[PooledTexts]:
        """The vectors of one rule, without the texts that it sets aside.

        Args:
            positions: subtracts the mean residual at each position, for the rule `centred`.
        """
        pooling = self.poolings[rule]
        for path in _shards(self.directory):
            batch = _read(path, _SMALL_FIELDS)
            weights = _weights(batch, rule, pooling, len(self.layers))
            kept = np.flatnonzero(weights.min(1, initial=2**31) > 0)
            vectors = _read_rule(path, rule)[kept]
            if positions is not None:
                for row, text in enumerate(kept.tolist()):
                    stop = pooling.start + int(batch["n_pooled"][rule, text])
                    row_of, layer, position = batch["sinks"].T
                    inside = (row_of == text) & (position >= pooling.start) & (position < stop)
                    sinks = list(zip(layer[inside].tolist(), position[inside].tolist(), strict=True))
                    vectors[row] -= positions.span(weights[text], pooling.start, stop, sinks).astype(np.float32)
            yield PooledTexts(batch["indices"][kept], vectors, weights[kept])

    def weights(self, rule: int) -> Int64[np.ndarray, "text layer"]:
        """Tokens that one rule's means were taken over, sinks left out; meaningless for texts that were set aside."""
        weights = np.zeros((self.n_texts, len(self.layers)), dtype=np.int64)
        for batch in self.batches(means=False):
            weights[batch["indices"]] = _weights(batch, rule, self.poolings[rule], len(self.layers))
        return weights

    def residual_norms(self) -> Float64[np.ndarray, "layer"]:
        """`mean_residual_norm` of all texts."""
        batches = self.batches(means=False)
        return mean_residual_norm((batch["n_tokens"], batch["norms"], batch["sinks"]) for batch in batches)

    def position_means(self) -> PositionMeans:
        """Mean residual at each position; only in a store filled with a `centred` rule."""
        stored = _read(self.directory / POSITIONS, ("sums", "counts"))
        sums, counts = stored["sums"], stored["counts"]
        for layer in range(len(self.layers)):
            covered = np.flatnonzero(counts[layer])
            if not len(covered):
                raise InputError(f"every token is a sink at layer {self.layers[layer]}", "ordinary texts")
            sums[layer, covered] /= counts[layer, covered, None]
            # Where all tokens are sinks (a BOS, for example), no story needs a mean; other texts get the nearest one.
            bare = np.flatnonzero(counts[layer] == 0)
            nearest = covered[np.abs(bare[:, None] - covered).argmin(1)] if len(bare) else bare
            sums[layer, bare] = sums[layer, nearest]
        running = np.zeros((sums.shape[0], sums.shape[1] + 1, sums.shape[2]))
        np.cumsum(sums, axis=1, out=running[:, 1:])
        return PositionMeans(running)


def mean_residual_norm(
    batches: Iterable[tuple[Int64[np.ndarray, "text"], Float32[np.ndarray, "text layer"], Int64[np.ndarray, "sink 3"]]],
) -> Float64[np.ndarray, "layer"]:
    """Mean L2 norm of the residual at each layer over all real tokens that are no sinks: the unit of dose.

    Args:
        batches: `n_tokens`, `norms` and `sinks` of each `PooledBatch`.
    Raises:
        InputError: no such token at some layer.
    """
    total, count = np.zeros(1), np.zeros(1)
    for n_tokens, norms, sinks in batches:
        tokens = np.repeat(n_tokens[:, None], norms.shape[1], axis=1).astype(np.float64)
        np.subtract.at(tokens, (sinks[:, 0], sinks[:, 1]), 1)
        total = total + np.where(tokens > 0, norms * tokens, 0.0).sum(0)
        count = count + tokens.sum(0)
    if not count.all():
        raise InputError("the calibration texts hold no usable token", "plain prose, and the model's own tokenizer")
    return total / count


def rule_of(rules: Sequence[Pooling], pooling: Pooling) -> int:
    """Index of the stored rule that serves a pooling; -1 if none does. `centred` stores plain means, so it serves
    `from` as well."""
    return next((index for index, rule in enumerate(rules) if pooling in (rule, plain(rule))), -1)


def plain(pooling: Pooling) -> Pooling:
    """The pooling without centring by position."""
    return Pooling(start=pooling.start) if pooling.rule == "centred" else pooling


def fill(
    engine: Pooler,
    texts: Sequence[str],
    directory: Path,
    *,
    layers: Sequence[int] | None = None,
    poolings: Sequence[Pooling] = (Pooling(),),
    site: Site = "block",
    token_budget: int = 8192,
    max_tokens: int = 512,
    progress: Progress | None = None,
    restart: bool = False,
) -> Activations:
    """Pool texts into a store; batches that are already in it are not run again.

    Killed at any moment and started again with the same arguments, it ends with the same bytes.

    Args:
        restart: start over where the store holds something else, which is otherwise refused.

    Raises:
        InputError: the store was begun with other texts, model or settings; the disk is full.
        NumericalError: NaN or Inf in the activations of a text, which is named.
    """
    layers = tuple(range(engine.info.n_layers)) if layers is None else tuple(layers)
    poolings = tuple(poolings)
    make_folder(directory)
    _begin(directory, _manifest(engine.info, texts, layers, poolings, site, token_budget, max_tokens), restart)
    store = Activations(directory, len(texts), layers, poolings)
    finished = _finished(directory)
    n_done = sum(finished.values())
    if progress:
        progress(n_done, len(texts))
    if n_done >= len(texts):
        return store
    centred = any(pooling.rule == "centred" for pooling in poolings)
    positions = _Positions(directory) if centred else None
    for batch in engine.pool(
        texts,
        layers=layers,
        poolings=poolings,
        site=site,
        token_budget=token_budget,
        max_tokens=max_tokens,
        done=frozenset(finished),
    ):
        content = {name: getattr(batch, name) for name in _FIELDS}
        _check_finite(content, texts, layers, poolings)
        if positions is not None:
            # Before the shard is written: a finished shard is then always in the sums, and `included` tells whether an
            # unfinished one is.
            positions.add(batch)
        write_bytes(directory / f"batch-{batch.number:05d}.safetensors", tensor_bytes(content, "pooled batch 1"))
        n_done += len(batch.indices)
        if progress:
            progress(n_done, len(texts))
    if n_done != len(texts):
        raise ModelError(f"the engine pooled {n_done} of {len(texts)} texts", "each text once")
    return store


def join(
    parts: Sequence[tuple[Path, Int64[np.ndarray, "_"]]],
    directory: Path,
    info: ModelInfo,
    texts: Sequence[str],
    *,
    layers: Sequence[int],
    poolings: Sequence[Pooling],
    site: Site,
    token_budget: int,
    max_tokens: int,
) -> None:
    """One store of the texts of several stores, which keep theirs. Interrupted and called again, it ends with the same
    bytes. To `fill` the new store is finished.

    Args:
        parts: folder of each finished store, and the row that each of its texts has among `texts`.
        texts: all of them; the other arguments are those that the stores were filled with.
    """
    make_folder(directory)
    _begin(directory, _manifest(info, texts, layers, poolings, site, token_budget, max_tokens), True)
    number, sums, counts = 0, np.zeros((len(layers), 0, info.width)), np.zeros((len(layers), 0), dtype=np.int64)
    for folder, rows in parts:
        for path in _shards(folder):
            content = _read(path, _FIELDS)
            content["indices"] = rows[content["indices"]]
            write_bytes(directory / f"batch-{number:05d}.safetensors", tensor_bytes(content, "pooled batch 1"))
            number += 1
        if (folder / POSITIONS).exists():
            stored = _read(folder / POSITIONS, ("sums", "counts"))
            longer = max(0, stored["sums"].shape[1] - sums.shape[1])
            sums = np.pad(sums, ((0, 0), (0, longer), (0, 0)))
            counts = np.pad(counts, ((0, 0), (0, longer)))
            sums[:, : stored["sums"].shape[1]] += stored["sums"]
            counts[:, : stored["counts"].shape[1]] += stored["counts"]
    if counts.size:
        content = {"sums": sums, "counts": counts, "included": np.array([number])}
        write_bytes(directory / POSITIONS, tensor_bytes(content, "position sums 1"))


def _shards(directory: Path) -> list[Path]:
    """The finished batches, in plan order; files being written have other names."""
    paths = [path for path in directory.iterdir() if _SHARD.fullmatch(path.name)]
    return sorted(paths, key=lambda path: int(path.stem.removeprefix("batch-")))


class _Positions:
    """Sums and counts at each position over the batches so far, written to disk after each batch."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / POSITIONS
        self.included = 0
        self.sums: np.ndarray | None = None
        self.counts: np.ndarray | None = None
        if self.path.exists():
            stored = _read(self.path, ("sums", "counts", "included"))
            self.sums, self.counts, self.included = stored["sums"], stored["counts"], int(stored["included"][0])

    def add(self, batch: PooledBatch) -> None:
        if batch.number < self.included:
            return
        if batch.number > self.included or batch.position_sums is None or batch.position_counts is None:
            raise ModelError(
                f"batch {batch.number} came after {self.included} batches or without sums at its positions",
                "batches in the order of the plan, each with its position sums",
                "Remove the folder of the interrupted extraction and start again",
            )
        sums, counts = batch.position_sums, batch.position_counts
        if self.sums is None or self.counts is None:
            self.sums = np.zeros(sums.shape, dtype=np.float64)
            self.counts = np.zeros(counts.shape, dtype=np.int64)
        longer = sums.shape[1] - self.sums.shape[1]
        if longer > 0:
            self.sums = np.pad(self.sums, ((0, 0), (0, longer), (0, 0)))
            self.counts = np.pad(self.counts, ((0, 0), (0, longer)))
        self.sums[:, : sums.shape[1]] += sums
        self.counts[:, : counts.shape[1]] += counts
        self.included = batch.number + 1
        content = {"sums": self.sums, "counts": self.counts, "included": np.array([self.included])}
        write_bytes(self.path, tensor_bytes(content, "position sums 1"))


def _manifest(
    info: ModelInfo,
    texts: Sequence[str],
    layers: Sequence[int],
    poolings: Sequence[Pooling],
    site: Site,
    token_budget: int,
    max_tokens: int,
) -> dict[str, Any]:
    digest = hashlib.sha256()
    for text in texts:
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return {
        "schema_version": 1,
        "texts": "sha256:" + digest.hexdigest(),
        "number of texts": len(texts),
        "layers": list(layers),
        "poolings": [pooling.model_dump() for pooling in poolings],
        "site": site,
        "token budget": token_budget,
        "max tokens": max_tokens,
        "model": info.model_dump(mode="json"),
    }


def read_manifest(directory: Path) -> dict[str, Any]:
    """What a store was filled with.

    Raises:
        InputError: it cannot be read.
    """
    path = directory / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error})", "what an extraction wrote", "Extract the vectors again"
        ) from error
    return manifest


def _begin(directory: Path, manifest: dict[str, Any], restart: bool) -> None:
    """Write the manifest of a new store, or check that of one begun before."""
    path = directory / MANIFEST
    before: dict[str, Any] | None = None
    if path.exists():
        try:
            before = read_manifest(directory)
        except InputError:
            before = {}
    if before == manifest:
        return
    if before is not None and not restart:
        differing = [name for name in manifest if before.get(name) != manifest[name]]
        raise InputError(
            f"{directory} was begun with another {', another '.join(differing)}",
            "the same inputs as when it was begun",
            "Choose another --out, or start over with --overwrite (overwrite=True)",
        )
    # Batches without a manifest are left over from a removal that was interrupted: nobody knows what they belong to.
    remove_folder(directory)
    make_folder(directory)
    write_bytes(path, json.dumps(manifest, indent=1, sort_keys=True).encode())


def _finished(directory: Path) -> dict[int, int]:
    """Number of texts in each finished batch; files that cannot be read are removed."""
    from safetensors import SafetensorError

    sizes: dict[int, int] = {}
    for path in _shards(directory):
        try:
            sizes[int(path.stem.removeprefix("batch-"))] = len(_read(path, ("indices",))["indices"])
        except (SafetensorError, OSError, ValueError):
            path.unlink()
    return sizes


def _check_finite(
    batch: dict[str, np.ndarray], texts: Sequence[str], layers: Sequence[int], poolings: Sequence[Pooling]
) -> None:
    for rule, pooling in enumerate(poolings):
        expected = _weights(batch, rule, pooling, len(layers)) > 0
        wrong = expected & ~np.isfinite(batch["means"][rule]).all(-1)
        if wrong.any():
            text, layer = (int(i) for i in np.argwhere(wrong)[0])
            index = int(batch["indices"][text])
            raise NumericalError(
                f"text {index} ({texts[index][:60]!r}) gives NaN or infinite activations at layer {layers[layer]}",
                "finite activations",
                "Check the checkpoint for NaN weights, or load it in bfloat16 or float32",
            )


def _weights(
    batch: dict[str, np.ndarray], rule: int, pooling: Pooling, n_layers: int
) -> Int64[np.ndarray, "text layer"]:
    """Tokens in the rule's span that are no sinks, a text and layer."""
    n_pooled = batch["n_pooled"][rule]
    weights = np.repeat(n_pooled[:, None], n_layers, axis=1).astype(np.int64)
    text, layer, position = batch["sinks"].T
    within = (position >= pooling.start) & (position < pooling.start + n_pooled[text])
    np.subtract.at(weights, (text[within], layer[within]), 1)
    return weights


def _read(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return {name: np.array(file.get_tensor(name)) for name in names}


def _read_rule(path: Path, rule: int) -> Float32[np.ndarray, "text layer width"]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        return np.array(file.get_slice("means")[rule])
