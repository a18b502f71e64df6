"""Scoring: log-probabilities of given continuations, the unembedding run on their tokens only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32, Int64
from transformers import PreTrainedTokenizerBase

from heartstrings.core.engine import Score, ScoreRequest
from heartstrings.core.errors import InputError, NumericalError
from heartstrings.core.steering import Steering
from heartstrings.engines.hf.architecture import Architecture
from heartstrings.engines.hf.branches import Branches, Tree, attention_mask, states_of, tree_of, window_of
from heartstrings.engines.hf.read import check_length, logits_of, require_head
from heartstrings.engines.hf.run import Splitter, evaluating, filler_id, first_words, pad, plan_batches
from heartstrings.engines.hf.steer import RowSteering, check_steering, place, steering_rows
from heartstrings.engines.hf.text import EncodedPrompt, encode_continuation, encode_prompt
from heartstrings.engines.hf.trunk import Batch, Trunks, common_blocks, depths_of, final_states

ON_GPU, ON_CPU = 8192, 2048
"""Rows times longest text of a batch. Larger ones leave a CPU's caches: there 2,048 took .76 to .92 of the time of
8,192 (SmolLM2, two cores, the suite `text`: vignettes .76, sums .77, next words .80, facts .91, prose .92)."""
_SLAB = 512
_SLAB_OF_TWO = 128
"""States whose whole distribution is compared at a time: two of them are held."""


@dataclass(frozen=True)
class Sharing:
    """What an engine has found out about what can be computed once for several continuations."""

    trunks: Trunks
    branches: Branches


@dataclass(eq=False)
class _Row:
    """A text that the model is fed: every continuation that needs just this, steered just so, reads from it."""

    ids: Int32[np.ndarray, "token"]
    """A text without its last token, which is predicted and never fed."""
    text: int
    """Number of its ids among the call's: rows of one number are fed the same."""
    steering: RowSteering | None
    wanted: list[tuple[int, int]] = field(default_factory=list)
    """(continuation, position of its first token)."""
    compared: bool = False
    """Whether its distributions are held against those of the unsteered row of the same text."""


@dataclass(frozen=True, eq=False)
class _Work:
    """One row of a batch: a text, or the texts of one prompt as a tree."""

    rows: tuple[_Row, ...]
    tree: Tree | None
    text: int

    @property
    def n_fed(self) -> int:
        return len(self.rows[0].ids if self.tree is None else self.tree.ids)

    @property
    def steering(self) -> RowSteering | None:
        """That of the longest text: those of shorter ones are the same, cut."""
        return max(self.rows, key=lambda row: len(row.ids)).steering


@dataclass(frozen=True)
class _Found:
    """What was read of one continuation, a number a token."""

    logprobs: Float32[np.ndarray, "_"]
    divergence: Float32[np.ndarray, "_"] | None = None


def score(
    parts: Architecture,
    tokenizer: PreTrainedTokenizerBase,
    device: torch.device,
    requests: Sequence[ScoreRequest],
    *,
    sharing: Sharing | None = None,
) -> list[Score]:
    """See `TorchEngine.score`. Without `sharing`, every text is a row of its own that runs through all blocks."""
    require_head(parts)
    prompts: list[int] = []
    tails: list[Int32[np.ndarray, "_"]] = []
    rows: dict[tuple[bytes, RowSteering | None], _Row] = {}
    texts: dict[object, int] = {}
    families: list[tuple[int, list[_Row]]] = []
    fitting: set[Steering] = set()
    encoded: dict[object, EncodedPrompt] = {}
    replies: dict[str, Int32[np.ndarray, "_"]] = {}
    for number, request in enumerate(requests):
        # A sweep asks the same prompt, with the same replies, at every dose.
        asked = request.prompt if isinstance(request.prompt, str) else tuple(request.prompt)
        if asked not in encoded:
            encoded[asked] = encode_prompt(tokenizer, request.prompt, vocabulary=parts.vocabulary, reply=True)
        prompt = encoded[asked]
        if not request.continuations:
            raise InputError(f"request {number} has no continuation", "one at least")
        if not len(prompt.ids):
            raise InputError(f"the prompt of request {number} has no tokens", "one at least, to follow on from")
        if request.steering is not None and request.steering not in fitting:
            check_steering(parts, request.steering, f"request {number}")
            fitting.add(request.steering)
        prompts.append(len(prompt.ids))
        for text in request.continuations:
            if text not in replies:
                replies[text] = encode_continuation(tokenizer, text, vocabulary=parts.vocabulary)
        own = [replies[text] for text in request.continuations]
        for text, ids in zip(request.continuations, own, strict=True):
            if not len(ids):
                raise InputError(f"request {number} has a continuation without tokens: {text!r}", "some text")
        longest = len(prompt.ids) + max(map(len, own))
        check_length(parts, longest, first_words(prompt.text))
        steering: RowSteering | None = None
        if request.steering is not None:
            steering = place(request.steering, prompt, n_fed=longest - 1, n_all=longest, what=f"request {number}")
        fresh: list[_Row] = []
        for ids in own:
            fed = np.concatenate([prompt.ids, ids[:-1]])
            key = (fed.tobytes(), _within(steering, len(fed)))
            if key not in rows:
                rows[key] = _Row(fed, texts.setdefault(key[0], len(texts)), key[1])
                fresh.append(rows[key])
            row = rows[key]
            row.wanted.append((len(tails), len(prompt.ids)))
            row.compared = row.compared or request.divergence
            tails.append(ids)
        families.append((len(prompt.ids), fresh))
    found: dict[int, _Found] = {}
    splitter = Splitter()  # one for the call: what did not fit once is not tried again
    for rows_of_text in _by_text([row for row in rows.values() if row.compared]):
        found |= _compared(parts, device, rows_of_text, tails, sharing, splitter)
    everything = _work_of(parts, families, texts, sharing)
    for work in _alike(everything):
        found |= _of_work(parts, device, work, tails, sharing, splitter)
    scores, first = [], 0
    for request, n_prompt in zip(requests, prompts, strict=True):
        mine = range(first, first + len(request.continuations))
        scores.append(
            Score(
                logprobs=tuple(float(found[r].logprobs.sum(dtype=np.float64)) for r in mine),
                token_logprobs=tuple(found[r].logprobs for r in mine),
                token_ids=tuple(tuple(int(i) for i in tails[r]) for r in mine),
                n_prompt_tokens=n_prompt,
                divergences=_divergences([found[r] for r in mine]) if request.divergence else None,
            )
        )
        first += len(request.continuations)
    return scores


def _work_of(
    parts: Architecture,
    families: Sequence[tuple[int, Sequence[_Row]]],
    texts: dict[object, int],
    sharing: Sharing | None,
) -> list[_Work]:
    """What the batches consist of. `families` holds for each request the tokens of its prompt and its own rows."""
    found, window = [], window_of(parts)
    for n_prompt, family in families:
        rows = tuple(row for row in family if not row.compared)
        tree = None
        if len(rows) > 1 and sharing is not None and sharing.branches.works:
            tree = tree_of([row.ids for row in rows], n_prompt, window)
        if tree is None:
            found += [_Work((row,), None, row.text) for row in rows]
        else:
            key = (tree.ids.tobytes(), tree.branch.tobytes())
            found.append(_Work(rows, tree, texts.setdefault(key, len(texts))))
    return found


def _alike(everything: Sequence[_Work]) -> list[list[_Work]]:
    """Work for batches of its own: trees and single texts apart, and by how many blocks come before the steered one, as
    a batch shares the fewest of its rows. Unsteered work goes with that of the most. Rows of one text side by side, so
    that batches hold few texts and many ways to steer them."""
    groups: dict[tuple[bool, int], list[_Work]] = {}
    for one, depth in zip(everything, depths_of([one.steering for one in everything]), strict=True):
        groups.setdefault((one.tree is None, depth), []).append(one)
    return [sorted(groups[key], key=lambda one: one.text) for key in sorted(groups)]


def _in_batches(
    splitter: Splitter,
    lengths: Int64[np.ndarray, "_"],
    budget: int,
    size: Callable[[Sequence[int]], int],
    run: Callable[[Sequence[int]], dict[int, _Found]],
    continuation: Callable[[int], int],
) -> dict[int, _Found]:
    """What `run` reads of rows of these lengths, batch by batch.

    Args:
        size: tokens that some rows take up.
        continuation: the number of one that reads from a row, for messages.
    """
    found: dict[int, _Found] = {}
    for batch in plan_batches(lengths, budget):
        for _, result in splitter.run(
            batch.tolist(), size, run, lambda row: f"continuation {continuation(row)} ({lengths[row]} tokens)"
        ):
            found.update(result)
    return found


def _of_work(
    parts: Architecture,
    device: torch.device,
    work: Sequence[_Work],
    tails: Sequence[Int32[np.ndarray, "_"]],
    sharing: Sharing | None,
    splitter: Splitter,
) -> dict[int, _Found]:
    """Of every continuation that reads from this work, which is all trees or has none."""
    lengths = np.array([one.n_fed for one in work], np.int64)
    return _in_batches(
        splitter,
        lengths,
        _budget(device),
        size=lambda some: len(some) * int(lengths[list(some)].max()),
        run=lambda some: _log_probabilities(parts, device, [work[one] for one in some], tails, sharing),
        continuation=lambda one: work[one].rows[0].wanted[0][0],
    )


def _budget(device: torch.device) -> int:
    return ON_CPU if device.type == "cpu" else ON_GPU


def _divergences(found: Sequence[_Found]) -> tuple[Float32[np.ndarray, "_"], ...]:
    return tuple(one.divergence for one in found if one.divergence is not None)


def _by_text(rows: Sequence[_Row]) -> list[list[_Row]]:
    found: dict[int, list[_Row]] = {}
    for row in rows:
        found.setdefault(row.text, []).append(row)
    return list(found.values())


def _compared(
    parts: Architecture,
    device: torch.device,
    rows: Sequence[_Row],
    tails: Sequence[Int32[np.ndarray, "_"]],
    sharing: Sharing | None,
    splitter: Splitter,
) -> dict[int, _Found]:
    """Rows of one text, each held against its unsteered row, which runs in every batch again."""
    plain = _Row(rows[0].ids, rows[0].text, None)
    length = len(plain.ids)
    return _in_batches(
        splitter,
        np.full(len(rows), length, np.int64),
        max(2 * length, _budget(device) - length),
        size=lambda some: (1 + len(some)) * length,
        run=lambda some: _against_first(parts, device, [plain, *(rows[row] for row in some)], tails, sharing),
        continuation=lambda row: rows[row].wanted[0][0],
    )


def _against_first(
    parts: Architecture,
    device: torch.device,
    rows: Sequence[_Row],
    tails: Sequence[Int32[np.ndarray, "_"]],
    sharing: Sharing | None,
) -> dict[int, _Found]:
    """Log-probabilities and divergences of the continuations that read from all rows but the first, which is the
    unsteered one of the same text."""
    found: dict[int, _Found] = {}
    with evaluating(parts.text_model):
        states = _states(parts, device, rows, sharing)
        wanted = [(place, *one) for place, row in enumerate(rows[1:], start=1) for one in row.wanted]
        pieces: dict[int, list[tuple[Float32[np.ndarray, "_"], Float32[np.ndarray, "_"]]]] = {}
        longest = max(len(tails[number]) for _, number, _ in wanted)
        # A stretch of all rows before the next stretch: the unsteered distributions of one are held at a time.
        for begin in range(0, longest, _SLAB_OF_TWO):
            unsteered: dict[tuple[int, int], Float[torch.Tensor, "token vocab"]] = {}
            for place, number, first in wanted:
                tail = torch.from_numpy(tails[number][begin : begin + _SLAB_OF_TWO].astype(np.int64))
                if not len(tail):
                    continue
                here = (first - 1 + begin, first - 1 + begin + len(tail))
                now = logits_of(parts, states[place, slice(*here)]).log_softmax(dim=-1)
                values = now.gather(1, tail[:, None].to(now.device))[:, 0].cpu().numpy()
                divergence = np.zeros(len(tail), np.float32)
                if rows[place].steering is not None:
                    if here not in unsteered:
                        unsteered[here] = logits_of(parts, states[0, slice(*here)]).log_softmax(dim=-1)
                    before = unsteered[here]
                    moved = (before.exp() * (before - now)).sum(dim=-1)
                    divergence = moved.clamp(min=0).cpu().numpy()  # rounding may leave -1e-7
                pieces.setdefault(number, []).append((values, divergence))
    for number, parts_of_it in pieces.items():
        found[number] = _Found(*map(np.concatenate, zip(*parts_of_it, strict=True)))
        _check_finite(found[number], number)
    return found


def _check_finite(found: _Found, number: int) -> None:
    whole = found.logprobs if found.divergence is None else np.concatenate([found.logprobs, found.divergence])
    if not np.isfinite(whole).all():
        raise NumericalError(
            f"NaN or Inf in the scores of continuation {number}",
            "finite log-probabilities",
            'Load the model as dtype="float32" or "bfloat16"',
        )


def _within(steering: RowSteering | None, n_fed: int) -> RowSteering | None:
    """Cut to the tokens that a row is fed, so that what is the same there is equal; None where nothing is left."""
    if steering is None or steering.start >= n_fed:
        return None
    return RowSteering(steering.interventions, steering.start, min(steering.stop, n_fed))


def _log_probabilities(
    parts: Architecture,
    device: torch.device,
    work: Sequence[_Work],
    tails: Sequence[Int32[np.ndarray, "_"]],
    sharing: Sharing | None,
) -> dict[int, _Found]:
    """Of every continuation that reads from these texts."""
    rows = [row for one in work for row in one.rows]
    # The token at position t is predicted from the state at t - 1; one state may predict several continuations'.
    wanted = [(place, number, at) for place, row in enumerate(rows) for number, at in row.wanted]
    places = np.concatenate([np.full(len(tails[number]), place) for place, number, _ in wanted])
    columns = np.concatenate([np.arange(len(tails[number])) + at - 1 for _, number, at in wanted])
    tokens = torch.from_numpy(np.concatenate([tails[number] for _, number, _ in wanted]).astype(np.int64))
    width = max(len(row.ids) for row in rows)
    distinct, state_of = np.unique(places * width + columns, return_inverse=True)
    values = np.zeros(len(places), np.float32)
    with evaluating(parts.text_model):
        states = _branched(parts, device, work, sharing)
        order = np.argsort(state_of, kind="stable")
        bounds = np.searchsorted(state_of[order], np.arange(0, len(distinct) + _SLAB, _SLAB))
        for slab, (begin, end) in enumerate(pairwise(bounds.tolist())):
            some = torch.from_numpy(distinct[slab * _SLAB : (slab + 1) * _SLAB]).to(states.device)
            logits = logits_of(parts, states[some // width, some % width])
            asked = order[begin:end]
            line = torch.from_numpy(state_of[asked] - slab * _SLAB).to(logits.device)
            picked = logits[line, tokens[asked].to(logits.device)] - logits.logsumexp(dim=1)[line]
            values[asked] = picked.cpu().numpy()
    numbers = [number for _, number, _ in wanted]
    pieces = np.split(values, np.cumsum([len(tails[number]) for number in numbers])[:-1])
    found = {number: _Found(piece) for number, piece in zip(numbers, pieces, strict=True)}
    for number, one in found.items():
        _check_finite(one, number)
    return found


def _branched(
    parts: Architecture, device: torch.device, work: Sequence[_Work], sharing: Sharing | None
) -> Float[torch.Tensor, "row token width"]:
    """States after the final norm of every text of the work, a row each; the work is all trees, or none is."""
    trees = [one.tree for one in work if one.tree is not None]
    if not trees or sharing is None:
        return _states(parts, device, [row for one in work for row in one.rows], sharing)

    def together(some: Sequence[int]) -> Float[torch.Tensor, "row token width"]:
        joined = [_Row(trees[place].ids, work[place].text, work[place].steering) for place in some]
        return _states(parts, device, joined, sharing, [trees[place] for place in some])

    def separate(some: Sequence[int]) -> Float[torch.Tensor, "row token width"]:
        return _states(parts, device, [row for place in some for row in work[place].rows], None)

    return states_of(sharing.branches, trees, together, separate, torch.finfo(parts.text_model.dtype).eps)


def _states(
    parts: Architecture,
    device: torch.device,
    rows: Sequence[_Row],
    sharing: Sharing | None,
    trees: Sequence[Tree] = (),
) -> Float[torch.Tensor, "row token width"]:
    """States after the final norm. Right padding: a causal model needs neither mask nor position ids for it, unless the
    rows are `trees`."""
    ids, mask = pad([row.ids for row in rows], filler_id(parts), device)
    positions = np.where(mask.cpu().numpy(), np.arange(ids.shape[1])[None], -1)
    given: dict[str, torch.Tensor] = {}
    if trees:
        for place, tree in enumerate(trees):
            positions[place, : len(tree.positions)] = tree.positions
        given["position_ids"] = torch.from_numpy(positions.clip(min=0)).to(device)
        given["attention_mask"] = attention_mask(trees, ids.shape[1], parts.text_model.dtype, device)

    def plain(some: Sequence[int]) -> Float[torch.Tensor, "row token width"]:
        chosen = list(some)
        with (
            steering_rows(parts, [rows[row].steering for row in chosen]) as steered,
            steered.call(positions[chosen]),
        ):
            states: Float[torch.Tensor, "row token width"] = parts.text_model(
                input_ids=ids[chosen], use_cache=False, **{name: value[chosen] for name, value in given.items()}
            ).last_hidden_state
        return states

    if sharing is None:
        return plain(range(len(rows)))
    steering, texts = [row.steering for row in rows], [row.text for row in rows]
    depth = common_blocks(steering, texts, parts.n_layers)
    return final_states(parts, sharing.trunks, Batch(ids, mask, texts, given), depth, plain)
