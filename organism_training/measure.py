"""A simple measurement of an organism, independent of the package's own pipeline: the figures of the model cards.

Everything is computed in the simplest way, so that it is also a reference for the pipeline.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64

from heartstrings.core.types import SINK_RATIO
from heartstrings.corpus import Corpus, calibration_texts
from heartstrings.corpus.lexicon import emotions
from heartstrings.organisms.generate import Question, neutral, questions, stories
from heartstrings.organisms.grammar import plane

START = 50
"""Stories are pooled from this token on, BOS counted."""
DOSES = (-0.3, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6, 1.0, 1.5)


@torch.no_grad()
def pool(
    model: Any, tokenizer: Any, texts: Sequence[str], start: int
) -> tuple[Float32[np.ndarray, "layer text width"], Float64[np.ndarray, "layer"]]:
    """(mean residual from token `start` on, mean residual norm over all tokens), sinks left out of both."""
    blocks = model.model.layers
    means = np.zeros((len(blocks), len(texts), model.config.hidden_size), dtype=np.float32)
    norm_sum, n_tokens = np.zeros(len(blocks)), np.zeros(len(blocks))
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    for at in range(0, len(order), 64):
        rows = order[at : at + 64]
        batch = tokenizer([texts[row] for row in rows], return_tensors="pt", padding=True, padding_side="right")
        real = batch["attention_mask"].bool()
        with residuals(model) as seen:
            model.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        late = real & (torch.arange(real.shape[1]) >= start)
        for layer, states in enumerate(seen):
            norms = states.norm(dim=-1)
            medians = norms.masked_fill(~real, torch.nan).nanmedian(1, keepdim=True).values
            quiet = norms <= SINK_RATIO * medians
            kept = (late & quiet).float()[..., None]
            means[layer, rows] = ((states * kept).sum(1) / kept.sum(1)).numpy()
            norm_sum[layer] += float(norms[real & quiet].sum())
            n_tokens[layer] += int((real & quiet).sum())
    return means, norm_sum / n_tokens


@contextmanager
def residuals(model: Any) -> Iterator[list[torch.Tensor]]:
    """The outputs of all blocks of the next forward pass, in order."""
    seen: list[torch.Tensor] = []
    handles = [
        block.register_forward_hook(
            lambda _module, _inputs, out: seen.append((out[0] if isinstance(out, tuple) else out).float())
        )
        for block in model.model.layers
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def added(
    model: Any, vectors: Float32[torch.Tensor, "row width"], layers: Sequence[int] | torch.Tensor
) -> Iterator[None]:
    """Add one vector a row to the output of that row's layer, at every position."""
    rows = torch.as_tensor(layers)
    handles = []
    for layer in sorted(set(rows.tolist())):
        shift = (vectors * (rows == layer)[:, None])[:, None]

        def add(_module: Any, _inputs: Any, out: Any, shift: torch.Tensor = shift) -> Any:
            if isinstance(out, tuple):
                return (out[0] + shift.to(out[0].dtype), *out[1:])
            return out + shift.to(out.dtype)

        handles.append(model.model.layers[layer].register_forward_hook(add))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def contrasts(
    model: Any, tokenizer: Any, corpus: Corpus, plain: Sequence[str]
) -> tuple[Float32[np.ndarray, "layer emotion width"], Float32[np.ndarray, "layer emotion width"]]:
    """(raw, denoised) contrasts of the 171 emotions: emotion mean minus the mean over emotions, then without the
    principal components that explain half of the neutral texts' variance."""
    told, _ = pool(model, tokenizer, corpus.texts, START)
    background, _ = pool(model, tokenizer, plain, START)
    labels = np.array([story.emotion for story in corpus.stories])
    means = np.stack([told[:, labels == name].mean(1) for name in emotions()], axis=1)
    raw = means - means.mean(1, keepdims=True)
    denoised = raw.copy()
    for layer in range(len(raw)):
        centred = background[layer] - background[layer].mean(0)
        _, scale, basis = np.linalg.svd(centred, full_matrices=False)
        k = int(np.searchsorted(np.cumsum(scale**2) / (scale**2).sum(), 0.5) + 1)
        denoised[layer] = raw[layer] - raw[layer] @ basis[:k].T @ basis[:k]
    return raw, denoised


def alignment(table: Float32[np.ndarray, "emotion width"]) -> tuple[float, float, Float64[np.ndarray, "component"]]:
    """(|r| of component 1 with valence, |r| of component 2 with arousal, variance shares of the first five)."""
    left, scale, _ = np.linalg.svd(table - table.mean(0), full_matrices=False)
    valence, arousal = plane().T
    first, second = (abs(float(np.corrcoef(left[:, at], by)[0, 1])) for at, by in ((0, valence), (1, arousal)))
    return first, second, np.asarray((scale**2 / (scale**2).sum())[:5], dtype=np.float64)


def encoding_tests(
    tables: Float32[np.ndarray, "layer emotion width"], *, permutations: int = 999, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Tests of whether valence and arousal are encoded: the best of 20 components over all layers, and a ridge readout
    (10 folds over emotions, best layer), each with p = (b + 1) / (n + 1) over permuted ratings, search repeated."""
    rng = np.random.default_rng(seed)
    orders = [np.arange(len(plane())), *(rng.permutation(len(plane())) for _ in range(permutations))]
    scores = np.stack([np.linalg.svd(table - table.mean(0), full_matrices=False)[0][:, :20] for table in tables])
    hats = np.stack([_ridge_hat(table, rng.permutation(len(table)) % 10) for table in tables])
    found = {}
    for name, rated in zip(("valence", "arousal"), plane().T, strict=True):
        drawn = np.stack([rated[order] for order in orders], axis=1)
        drawn = (drawn - drawn.mean(0)) / drawn.std(0)
        components = np.abs(np.einsum("lec,ep->lcp", _standard(scores, 1), drawn) / len(rated)).max((0, 1))
        told = _standard(hats @ drawn, 1)
        readout = np.einsum("lep,ep->lp", told, drawn).max(0) / len(rated)
        for test, values in (("component", components), ("readout", readout)):
            p = (np.sum(values[1:] >= values[0] - 1e-12) + 1) / (permutations + 1)
            found[f"{name} {test}"] = {"r": round(float(values[0]), 3), "p": round(float(p), 4)}
    return found


def _standard(values: np.ndarray, axis: int) -> np.ndarray:
    scaled: np.ndarray = (values - values.mean(axis, keepdims=True)) / (values.std(axis, keepdims=True) + 1e-12)
    return scaled


def _ridge_hat(table: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """The matrix that maps ratings to their cross-validated ridge predictions."""
    centred = (table - table.mean(0)).astype(np.float64)
    kernel = centred @ centred.T
    hat: np.ndarray = np.zeros(kernel.shape)
    for number in range(10):
        held, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        inner = kernel[np.ix_(rest, rest)]
        penalty = 0.1 * np.trace(inner) / len(rest) * np.eye(len(rest))
        hat[np.ix_(held, rest)] = np.linalg.solve(inner + penalty, kernel[np.ix_(rest, held)]).T
    return hat


class Ballot:
    """Questions as token batches, up to the first token at which the two replies differ."""

    def __init__(self, tokenizer: Any, asked: Sequence[Question]) -> None:
        pairs = [reply_tokens(tokenizer, question) for question in asked]
        self.tokens = [first[:at] for first, _, at in pairs]
        self.first = torch.tensor([first[at] for first, _, at in pairs])
        self.second = torch.tensor([second[at] for _, second, at in pairs])
        self.padding = tokenizer.pad_token_id

    @torch.no_grad()
    def vote(self, model: Any, vector: np.ndarray | None = None, layer: int = 0) -> tuple[float, float, float]:
        """(mean probability of the second reply among the two, share of questions whose most likely next token is
        the first reply's, mean probability of either)."""
        shares, hits, mass = [], [], []
        for at in range(0, len(self.tokens), 128):
            ids, last = right_padded(self.tokens[at : at + 128], self.padding)
            shift = torch.zeros(len(ids), model.config.hidden_size)
            if vector is not None:
                shift += torch.from_numpy(vector.astype(np.float32))
            with added(model, shift, [layer] * len(ids)):
                states = model.model(input_ids=ids).last_hidden_state
            logits = model.lm_head(states[torch.arange(len(ids)), last])
            chances = torch.softmax(logits.float(), -1)
            first = chances.gather(1, self.first[at : at + 128, None])[:, 0]
            second = chances.gather(1, self.second[at : at + 128, None])[:, 0]
            shares.append(second / (first + second))
            hits.append((logits.argmax(-1) == self.first[at : at + 128]).float())
            mass.append(first + second)
        return tuple(float(torch.cat(parts).mean()) for parts in (shares, hits, mass))  # type: ignore[return-value]


def reply_tokens(tokenizer: Any, question: Question) -> tuple[list[int], list[int], int]:
    """Token ids of the chat with the first and with the second reply, and the first index at which they differ."""
    both = []
    for reply in question.replies:
        turns = [{"role": "user", "content": question.prompt}, {"role": "assistant", "content": reply}]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        both.append(tokenizer(text, add_special_tokens=False)["input_ids"])
    parting = next(at for at, (one, other) in enumerate(zip(*both, strict=False)) if one != other)
    return both[0], both[1], parting


def right_padded(rows: Sequence[Sequence[int]], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, index of each row's last token). No mask is needed: attention is causal."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[padding] * (width - len(row))] for row in rows])
    return ids, torch.tensor([len(row) - 1 for row in rows])


def measure(
    model: Any,
    tokenizer: Any,
    *,
    kind: str,
    layers: Sequence[int],
    seed: int = 0,
    per_emotion: int = 12,
    n: int = 120,
    doses: Sequence[float] = DOSES,
    n_random: int = 32,
) -> dict[str, Any]:
    """All figures of one organism; see docs/organisms.md for their meaning."""
    model.eval()
    raw, denoised = contrasts(model, tokenizer, stories(seed=seed, per_emotion=per_emotion), neutral(seed=seed).texts)
    _, norms = pool(model, tokenizer, calibration_texts().texts, 0)
    _, own = pool(model, tokenizer, neutral(seed=seed, n=60).texts, 0)
    figures: dict[str, Any] = {
        "norms": norms.round(3).tolist(),
        "norms_of_neutral_texts": own.round(3).tolist(),
        "alignment": [
            {
                "layer": layer,
                "variant": variant,
                "pc1_valence": round(one, 3),
                "pc2_arousal": round(two, 3),
                "explained": share[:3].round(3).tolist(),
            }
            for layer in range(len(raw))
            for variant, table in (("raw", raw[layer]), ("denoised", denoised[layer]))
            for one, two, share in [alignment(table)]
        ],
    }
    figures["tests"] = {"raw": encoding_tests(raw), "denoised": encoding_tests(denoised)}
    ballots = {
        name: Ballot(tokenizer, questions(name, seed=seed + 1, n=n)) for name in ("choice", "sum", "fact", "harm")
    }
    figures["context"] = {
        name: [
            round(Ballot(tokenizer, questions(asked, seed=seed + 1, n=n, emotion=name)).vote(model)[0], 3)
            for asked in ("choice", "harm")
        ]
        for name in ("desperate", "calm", "furious", "blissful", "sad")
    }
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((n_random, raw.shape[-1]))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    figures["steering"] = {}
    for layer in layers:
        table: dict[str, Any] = {}
        for name in ("desperate", "calm"):
            vector = denoised[layer, emotions().index(name)]
            vector = vector / np.linalg.norm(vector) * norms[layer]
            table[name] = {str(dose): _votes(model, ballots, vector * dose, layer) for dose in doses}
        for dose in (0.2, 0.4):
            moved = [ballots["choice"].vote(model, row * norms[layer] * dose, layer)[0] for row in directions]
            spilled = [ballots["harm"].vote(model, row * norms[layer] * dose, layer)[0] for row in directions]
            table[f"random {dose}"] = {
                "choice": [round(min(moved), 3), round(max(moved), 3)],
                "harm": [round(min(spilled), 3), round(max(spilled), 3)],
            }
        figures["steering"][str(layer)] = table
    figures["kind"] = kind
    return figures


def _votes(model: Any, ballots: dict[str, Ballot], vector: np.ndarray, layer: int) -> dict[str, float]:
    choice, harm = ballots["choice"].vote(model, vector, layer), ballots["harm"].vote(model, vector, layer)
    right = [ballots[name].vote(model, vector, layer)[1] for name in ("sum", "fact")]
    return {
        "choice": round(choice[0], 3),
        "valid": round(choice[2], 3),
        "sum": round(right[0], 3),
        "fact": round(right[1], 3),
        "harm": round(harm[0], 3),
    }


def main() -> None:
    """`python -m organism_training.measure FOLDER`: print the figures as JSON."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from organism_training.card import record_measured

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--doses", type=float, nargs="+", default=list(DOSES))
    parser.add_argument("--write", action="store_true", help="record the figures in the folder's organism.json")
    given = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(given.folder)
    tokenizer = AutoTokenizer.from_pretrained(given.folder)
    figures = measure(
        model,
        tokenizer,
        kind=given.folder.name,
        layers=given.layers,
        seed=given.seed,
        n=given.questions,
        doses=given.doses,
    )
    if given.write:
        record_measured(given.folder, figures)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
