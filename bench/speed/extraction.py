"""Means of all layers of shipped stories, from token 50 on: `engine.pool` beside loops and other libraries.

The other libraries get the texts in batches of eight by length, as a careful user would feed them: what is compared is
then the library and not the padding. nnsight is stopped after the last block; the others run the whole language model,
unembedding included, as their documentation shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32

from bench.speed import peers, subjects
from bench.speed.harness import Case, Run, Way, relative
from heartstrings.core.types import Pooling
from heartstrings.corpus import shipped_stories
from heartstrings.engines.hf.engine import TorchEngine

NAME = "extraction"
MODELS = (subjects.SMOLLM2, subjects.RANDOM)
TEXTS = {"full": 30, "quick": 6, "one": 1}
START = 50
TOLERANCE = 1e-4
"""Of the largest value of a layer: float32, in another order of sums."""
LEAST_COMPARED = 0.5
"""Share of the means in which no sink lies: with fewer, equal numbers would say little."""


def case(model: str, size: str, device: str) -> Case:
    engine = subjects.engine(model, device=device)
    every = shipped_stories().texts
    texts = list(every[:: len(every) // TEXTS[size]])[: TEXTS[size]]
    tokens = engine.count_tokens(texts)
    flops = 2.0 * subjects.weights(engine, head=False) * int(tokens.sum())
    flops += sum(subjects.attention_flops(engine, (n + 1) / 2) * n for n in tokens.tolist())
    half = Loader(model, "bfloat16", device)
    full = Loader(model, "float32", device)
    ways = (
        Way("heartstrings", lambda: ours(full(), texts), all_layers, TOLERANCE),
        Way("heartstrings, bfloat16", lambda: ours(half(), texts), all_layers, None, dtype="bfloat16"),
        Way("loop, sorted batches of 8, base model", lambda: base_loop(full(), texts), blocks_only, TOLERANCE),
        Way("loop, batches of 4 in file order, language model", lambda: file_loop(full(), texts), blocks_only,
            TOLERANCE),
        Way("transformer-lens", lambda: transformer_lens(full(), texts), all_layers, TOLERANCE,
            note="attention without the fused kernel, so that its hooks see the pattern"),
        Way("nnsight", lambda: nnsight(full(), texts), all_layers, TOLERANCE),
        Way("steering-vectors", lambda: steering_vectors(full(), texts), all_layers, TOLERANCE),
        Way("repeng", lambda: repeng(full(), texts), last_tokens_of(engine, texts), TOLERANCE,
            note="keeps the state of the last token only, and runs the unembedding"),
    )  # fmt: skip
    return Case(
        bench=NAME,
        model=model,
        ways=ways,
        unit="tokens",
        units=int(tokens.sum()),
        work={"texts": len(texts), "tokens": int(tokens.sum()), "longest": int(tokens.max()), "from_token": START,
              "layers": engine.info.n_layers, "width": engine.info.width},
        flops=flops,
        flops_counted="2 x weights of the blocks x tokens, and causal attention; no embedding, no padding",
    )  # fmt: skip


class Loader:
    """Loads a model when a way is prepared: a process that measures the memory of one way holds no other model."""

    def __init__(self, model: str, dtype: str, device: str) -> None:
        self.model, self.dtype, self.device = model, dtype, device

    def __call__(self) -> TorchEngine:
        return subjects.engine(self.model, self.dtype, self.device)


@dataclass(frozen=True)
class Means:
    """What `pool` gives."""

    values: Float32[np.ndarray, "text layer width"]
    without_sinks: Bool[np.ndarray, "text layer"]
    """Where no token of the span is an attention sink. Ours leaves sinks out of a mean and the others do not, so only
    these means are compared; at the others the numbers differ on purpose."""


def all_layers(result: Any, reference: Means) -> float:
    """Largest relative difference of the means without sinks."""
    return _difference(result, reference, reference.values.shape[1])


def blocks_only(result: Any, reference: Means) -> float:
    """All layers but the last: `output_hidden_states` gives it after the final norm."""
    return _difference(result, reference, reference.values.shape[1] - 1)


def _difference(result: Any, reference: Means, n_layers: int) -> float:
    compared = reference.without_sinks.copy()
    if isinstance(result, Means):  # bfloat16 may see other sinks
        compared &= result.without_sinks
        result = result.values
    if result.shape != reference.values.shape or compared[:, :n_layers].mean() < LEAST_COMPARED:
        return float("inf")
    return max(
        relative(result[rows, layer], reference.values[rows, layer])
        for layer, rows in enumerate(compared.T[:n_layers]) if rows.any()
    )  # fmt: skip


def last_tokens_of(engine: TorchEngine, texts: list[str]) -> Callable[[np.ndarray, Means], float]:
    """Compares the state of the last token with the one that `engine.read` sees, in all layers but the last."""
    found: list[np.ndarray] = []

    def error(result: np.ndarray, _: Means) -> float:
        if not found:
            layers = range(engine.info.n_layers)
            axes = np.broadcast_to(
                np.eye(engine.info.width, dtype=np.float32), (len(layers),) + (engine.info.width,) * 2
            )
            traces = [engine.read([text], np.ascontiguousarray(axes), layers=list(layers))[0] for text in texts]
            found.append(np.stack([trace.projections[:, -1] for trace in traces]))
        return max(relative(result[:, layer], found[0][:, layer]) for layer in range(engine.info.n_layers - 1))

    return error


def ours(engine: TorchEngine, texts: list[str]) -> Run:
    shape = len(texts), engine.info.n_layers, engine.info.width

    def run() -> Means:
        engine._last_encoded = None  # the engine keeps the tokens of its last call, which the other ways encode anew
        found = Means(np.zeros(shape, np.float32), np.ones(shape[:2], np.bool_))
        for batch in engine.pool(texts, poolings=(Pooling(start=START),)):
            found.values[batch.indices] = batch.means[0]
            row, layer, position = batch.sinks.T
            late = position >= START
            found.without_sinks[batch.indices[row[late]], layer[late]] = False
        return found

    return run


def batches(engine: TorchEngine, texts: list[str], rows: int, *, by_length: bool) -> Iterator[tuple[list[int], Any]]:
    """Right-padded batches of token ids with their masks."""
    encoded = [engine.tokenizer(text)["input_ids"] for text in texts]
    order = sorted(range(len(texts)), key=lambda row: len(encoded[row])) if by_length else list(range(len(texts)))
    for start in range(0, len(order), rows):
        some = order[start : start + rows]
        width = max(len(encoded[row]) for row in some)
        ids = torch.tensor([encoded[row] + [0] * (width - len(encoded[row])) for row in some])
        mask = torch.tensor([[1] * len(encoded[row]) + [0] * (width - len(encoded[row])) for row in some])
        yield some, {"input_ids": ids.to(engine.parts.device), "attention_mask": mask.to(engine.parts.device)}


def means_of(states: list[torch.Tensor], mask: torch.Tensor) -> np.ndarray:
    """Mean over the real tokens from START on: [text, layer, width]."""
    late = mask[:, START:, None].float()
    found = [(state[:, START:].float() * late).sum(1) / late.sum(1) for state in states]
    return torch.stack(found, dim=1).cpu().numpy()


def loop(
    engine: TorchEngine, texts: list[str], states_of: Callable[[Any], list[torch.Tensor]], *, rows: int = 8,
    by_length: bool = True,
) -> Run:  # fmt: skip
    """What runs `states_of` on every batch and takes the means."""

    def run() -> np.ndarray:
        means = np.zeros((len(texts), engine.info.n_layers, engine.info.width), np.float32)
        with torch.no_grad():
            for some, batch in batches(engine, texts, rows, by_length=by_length):
                means[some] = means_of(states_of(batch), batch["attention_mask"])
        return means

    return run


def base_loop(engine: TorchEngine, texts: list[str]) -> Run:
    """Ten careful lines: batches by length, no unembedding, hidden states."""
    model = engine.parts.text_model
    return loop(
        engine, texts, lambda batch: model(**batch, output_hidden_states=True, use_cache=False).hidden_states[1:]
    )


def file_loop(engine: TorchEngine, texts: list[str]) -> Run:
    """The loop of most published code: the language model on batches of four as they come."""

    def states_of(batch: Any) -> list[torch.Tensor]:
        states: list[torch.Tensor] = engine.model(**batch, output_hidden_states=True).hidden_states[1:]
        return states

    return loop(engine, texts, states_of, rows=4, by_length=False)


def single_loop(engine: TorchEngine, texts: list[str]) -> Run:
    """A loop over single texts with all hidden states, as the code of a preprint."""

    def states_of(batch: Any) -> list[torch.Tensor]:
        states: list[torch.Tensor] = engine.model(**batch, output_hidden_states=True).hidden_states[1:]
        return states

    return loop(engine, texts, states_of, rows=1, by_length=False)


def transformer_lens(engine: TorchEngine, texts: list[str]) -> Run:
    from transformer_lens.model_bridge import TransformerBridge

    bridge = TransformerBridge.boot_transformers(
        "in memory",
        hf_model=subjects.borrowed(engine.model),
        tokenizer=subjects.tokenizer_of(engine),
        device=str(engine.parts.device),
    )
    names = [f"blocks.{layer}.hook_resid_post" for layer in range(engine.info.n_layers)]

    def states_of(batch: Any) -> list[torch.Tensor]:
        _, cache = bridge.run_with_cache(
            batch["input_ids"], attention_mask=batch["attention_mask"], names_filter=names, return_type=None
        )
        return [cache[name] for name in names]

    return loop(engine, texts, states_of)


def nnsight(engine: TorchEngine, texts: list[str]) -> Run:
    import nnsight as library
    from nnsight import TransformersModel

    traced = TransformersModel(subjects.borrowed(engine.model), tokenizer=subjects.tokenizer_of(engine))

    def states_of(batch: Any) -> list[torch.Tensor]:
        with traced.trace(batch) as tracer:
            states = library.save([])
            for block in traced.model.layers:
                states.append(block.output)
            tracer.stop()
        return list(states)

    return loop(engine, texts, states_of)


def steering_vectors(engine: TorchEngine, texts: list[str]) -> Run:
    from steering_vectors.record_activations import record_activations

    model = engine.model

    def states_of(batch: Any) -> list[torch.Tensor]:
        with record_activations(model) as recorded:
            model(**batch, use_cache=False)
        return [recorded[layer][0] for layer in range(engine.info.n_layers)]

    return loop(engine, texts, states_of)


def repeng(engine: TorchEngine, texts: list[str]) -> Run:
    batched_get_hiddens = peers.repeng("extract").batched_get_hiddens
    tokenizer = subjects.tokenizer_of(engine)
    layers = list(range(engine.info.n_layers))
    order = sorted(range(len(texts)), key=lambda row: len(engine.tokenizer(texts[row])["input_ids"]))

    def run() -> np.ndarray:
        with peers.quiet():
            found = batched_get_hiddens(engine.model, tokenizer, [texts[row] for row in order], layers, 8)
        states = np.zeros((len(texts), len(layers), engine.info.width), np.float32)
        states[order] = np.stack([found[layer] for layer in layers], axis=1)
        return states

    return run
