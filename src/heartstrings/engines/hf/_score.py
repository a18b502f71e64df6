"""Scoring: log-probabilities of given continuations, the unembedding run on their tokens only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32
from transformers import PreTrainedTokenizerBase

from heartstrings.core.engine import Prompt, Score, ScoreRequest
from heartstrings.core.errors import InputError, NumericalError
from heartstrings.core.steering import Steering
from heartstrings.engines.hf._architecture import Architecture
from heartstrings.engines.hf._read import check_length, logits_of, require_head
from heartstrings.engines.hf._sharing import (
    Batch,
    Sharing,
    States,
    Tree,
    attempt,
    attention_mask,
    branch_states,
    depths_of,
    final_states,
    same_states,
    tree_of,
    window_of,
)
from heartstrings.engines.hf._steer import RowSteering, check_steering, place, steering_rows
from heartstrings.engines.hf._stem import Stem, begin_of, cut, feed, stem_length
from heartstrings.engines.hf.run import Splitter, cache_argument, evaluating, first_words, pad
from heartstrings.engines.hf.text import EncodedPrompt, encode_continuation, encode_prompt

ON_GPU, ON_CPU = 8192, 2048
"""Rows times longest text of a batch. Larger ones leave a CPU's caches: there 2,048 took .76 to .92 of the time of
8,192 (SmolLM2, two cores, the suite `text`: vignettes .76, sums .77, next words .80, facts .91, prose .92)."""
_SLAB = 512
"""States whose logits are held at a time."""
_SLAB_OF_TWO = 128
"""The same where each state is compared with an unsteered one, so that two distributions are held."""
_PROBED = 4
"""Rows, or trees, that are computed with and without a stem at its first use."""


@dataclass(eq=False)
class _Row:
    """A text that the model is fed under one steering. Several continuations may read from it."""

    ids: Int32[np.ndarray, "token"]
    """A text without its last token, which is predicted and never fed."""
    text: int
    """Number of its ids in this call: rows with the same number are fed the same ids."""
    steering: RowSteering | None
    wanted: list[tuple[int, int]] = field(default_factory=list)
    """(number of a continuation, position of its first token)."""
    compared: bool = False
    """Whether its distributions are compared with those of the unsteered row of the same text."""


@dataclass(frozen=True, eq=False)
class _Work:
    """One row of a batch: a text, or several texts of one prompt as a tree."""

    rows: tuple[_Row, ...]
    tree: Tree | None
    text: int

    @property
    def n_fed(self) -> int:
        return len(self.rows[0].ids if self.tree is None else self.tree.ids)

    @property
    def steering(self) -> RowSteering | None:
        """That of the longest text: for the shorter ones it is the same, cut at their end."""
        return max(self.rows, key=lambda row: len(row.ids)).steering


@dataclass(frozen=True)
class _Values:
    """The numbers of one continuation, one a token."""

    logprobs: Float32[np.ndarray, "_"]
    divergence: Float32[np.ndarray, "_"] | None = None


def score(
    parts: Architecture,
    tokenizer: PreTrainedTokenizerBase,
    requests: Sequence[ScoreRequest],
    *,
    sharing: Sharing | None = None,
) -> list[Score]:
    """See `TorchEngine.score`. Without `sharing`, every text is a row of its own that runs through all blocks."""
    require_head(parts)
    call = _Call(parts, tokenizer, sharing)
    for number, request in enumerate(requests):
        call.add(number, request)
    values = call.run()
    scores, first = [], 0
    for request, (n_prompt, _) in zip(requests, call.families, strict=True):
        own = range(first, first := first + len(request.continuations))
        divergences = tuple(d for n in own if (d := values[n].divergence) is not None)
        scores.append(
            Score(
                logprobs=tuple(float(values[n].logprobs.sum(dtype=np.float64)) for n in own),
                token_logprobs=tuple(values[n].logprobs for n in own),
                token_ids=tuple(tuple(int(i) for i in call.continuations[n]) for n in own),
                n_prompt_tokens=n_prompt,
                divergences=divergences if request.divergence else None,
            )
        )
    return scores


class _Call:
    """One call of `score`: first its requests become rows, then the rows run in batches."""

    def __init__(self, parts: Architecture, tokenizer: PreTrainedTokenizerBase, sharing: Sharing | None) -> None:
        self.parts, self.tokenizer, self.sharing = parts, tokenizer, sharing
        self.budget = ON_CPU if parts.device.type == "cpu" else ON_GPU
        self.splitter = Splitter()  # one for the whole call: what did not fit once is not tried again
        self.continuations: list[Int32[np.ndarray, "_"]] = []
        """Token ids of every continuation of every request, in order."""
        self.rows: dict[tuple[bytes, RowSteering | None], _Row] = {}
        self.texts: dict[object, int] = {}
        self.families: list[tuple[int, list[_Row]]] = []
        """For each request: tokens of its prompt, and the rows that no earlier request needed."""
        self.checked: set[Steering] = set()
        self.prompts: dict[Prompt, EncodedPrompt] = {}
        self.replies: dict[str, Int32[np.ndarray, "_"]] = {}

    def add(self, number: int, request: ScoreRequest) -> None:
        """Check a request and find its rows. A sweep has the same prompt and continuations at every dose: these are
        encoded once."""
        what = f"request {number}"
        key = request.prompt if isinstance(request.prompt, str) else tuple(request.prompt)
        if key not in self.prompts:
            self.prompts[key] = encode_prompt(self.tokenizer, key, vocabulary=self.parts.vocabulary, reply=True)
        prompt = self.prompts[key]
        if not request.continuations:
            raise InputError(f"{what} has no continuation", "at least one")
        if not len(prompt.ids):
            raise InputError(f"the prompt of {what} has no tokens", "at least one, which the continuation follows")
        if request.steering is not None and request.steering not in self.checked:
            check_steering(self.parts, request.steering, what)
            self.checked.add(request.steering)
        for text in request.continuations:
            if text not in self.replies:
                self.replies[text] = encode_continuation(self.tokenizer, text, vocabulary=self.parts.vocabulary)
            if not len(self.replies[text]):
                raise InputError(f"{what} has a continuation without tokens: {text!r}", "some text")
        replies = [self.replies[text] for text in request.continuations]
        longest = len(prompt.ids) + max(map(len, replies))
        check_length(self.parts, longest, first_words(prompt.text))
        steering = None
        if request.steering is not None:
            steering = place(request.steering, prompt, n_fed=longest - 1, n_all=longest, what=what)
        new: list[_Row] = []
        for ids in replies:
            fed = np.concatenate([prompt.ids, ids[:-1]])
            content, within = fed.tobytes(), cut(steering, len(fed))
            row = self.rows.get((content, within))
            if row is None:
                row = _Row(fed, self.texts.setdefault(content, len(self.texts)), within)
                self.rows[content, within] = row
                new.append(row)
            row.wanted.append((len(self.continuations), len(prompt.ids)))
            row.compared = row.compared or request.divergence
            self.continuations.append(ids)
        self.families.append((len(prompt.ids), new))

    def run(self) -> dict[int, _Values]:
        """The values of every continuation, by number."""
        compared: dict[int, list[_Row]] = {}
        for row in self.rows.values():
            if row.compared:
                compared.setdefault(row.text, []).append(row)
        values: dict[int, _Values] = {}
        for rows in compared.values():
            values |= self._compared(rows)
        for work in _groups(self._work()):
            values |= self._group(work)
        return values

    def _group(self, work: Sequence[_Work]) -> dict[int, _Values]:
        """The values of work that can go into batches together."""
        stem = self._stem(work)
        values: dict[int, _Values] = {}
        for _, batch_values in self.splitter.run_all(
            np.array([unit.n_fed - begin_of(stem) for unit in work], np.int64),
            self.budget,
            lambda indices: self._log_probabilities([work[at] for at in indices], stem),
            lambda index: f"continuation {work[index].rows[0].wanted[0][0]}",
        ):
            values |= _finite(batch_values)
        return values

    def _stem(self, work: Sequence[_Work]) -> Stem | None:
        """The tokens that all texts of this work begin with, fed once for each way in which they are steered; None
        where that saves little, or where the model gives other states."""
        rows = [row for unit in work for row in unit.rows]
        window = window_of(self.parts)
        sharing = self.sharing
        if sharing is None or not sharing.stems.works or len(work) < 2:
            return None
        if window is not None and max(unit.n_fed for unit in work) > window:
            return None
        texts = list({row.text: row.ids for row in rows}.values())
        most = min(first for row in rows for _, first in row.wanted) - 1
        steering = [unit.steering for unit in work]
        n = stem_length(texts, most, steering, sum(unit.n_fed for unit in work))
        if not n:
            return None
        with evaluating(self.parts.text_model):
            # In a list: None says that the model cannot run this way, [None] that there is too much to hold.
            fed = attempt(lambda: [feed(self.parts, sharing, texts[0][:n], steering, self.splitter, self.budget)])
            stem = fed[0] if fed else None
            if fed and stem is None:
                return None

            def agrees() -> bool:
                probe = work[:: max(1, len(work) // _PROBED)][:_PROBED]
                own = [row for unit in probe for row in unit.rows]
                plain, lengths = self._states(own, None)[:, n:], [len(row.ids) - n for row in own]
                # As rows of their own first: trees may be given up, and then say nothing about the stem.
                for compute in (lambda: self._states(own, None, stem=stem), lambda: self._branched(probe, stem)):
                    states = None if stem is None else attempt(compute)
                    if states is None or not same_states(states, plain, lengths, self.parts.text_model.dtype):
                        return False
                return True

            return stem if sharing.stems.allowed(0, agrees) else None

    def _work(self) -> list[_Work]:
        """The rows that are not compared; those of one request as a tree where that saves something."""
        work, window = [], window_of(self.parts)
        for n_prompt, family in self.families:
            rows = tuple(row for row in family if not row.compared)
            tree = None
            if len(rows) > 1 and self.sharing is not None and self.sharing.branches.works:
                tree = tree_of([row.ids for row in rows], n_prompt, window)
            if tree is None:
                work += [_Work((row,), None, row.text) for row in rows]
            else:
                key = (tree.ids.tobytes(), tree.branch.tobytes())
                work.append(_Work(rows, tree, self.texts.setdefault(key, len(self.texts))))
        return work

    def _compared(self, rows: Sequence[_Row]) -> dict[int, _Values]:
        """Rows of one text, each compared with its unsteered row, which runs again in every batch."""
        unsteered = _Row(rows[0].ids, rows[0].text, None)
        length = len(unsteered.ids)
        values: dict[int, _Values] = {}
        for _, batch_values in self.splitter.run_all(
            np.full(len(rows), length, np.int64),
            max(2 * length, self.budget - length),
            lambda indices: self._divergences([unsteered, *(rows[row] for row in indices)]),
            lambda row: f"continuation {rows[row].wanted[0][0]}",
            rows_beside=1,
        ):
            values |= _finite(batch_values)
        return values

    def _divergences(self, rows: Sequence[_Row]) -> dict[int, _Values]:
        """Log-probabilities and divergences of the continuations that read from all rows but the first, which is the
        unsteered row of the same text."""
        pieces: dict[int, list[tuple[Float32[np.ndarray, "_"], Float32[np.ndarray, "_"]]]] = {}
        wanted = [(index, *continuation) for index, row in enumerate(rows[1:], start=1) for continuation in row.wanted]
        longest = max(len(self.continuations[number]) for _, number, _ in wanted)
        with evaluating(self.parts.text_model):
            states = self._states(rows, self.sharing)
            # A stretch of all rows before the next stretch: so only one stretch of unsteered distributions is held.
            for begin in range(0, longest, _SLAB_OF_TWO):
                plain: dict[tuple[int, int], Float[torch.Tensor, "token vocab"]] = {}
                for index, number, first in wanted:
                    tokens = self.continuations[number][begin : begin + _SLAB_OF_TWO].astype(np.int64)
                    if not len(tokens):
                        continue
                    bounds = (first - 1 + begin, first - 1 + begin + len(tokens))
                    steered = logits_of(self.parts, states[index, slice(*bounds)]).log_softmax(dim=-1)
                    column = torch.from_numpy(tokens)[:, None].to(steered.device)
                    divergence = np.zeros(len(tokens), np.float32)
                    if rows[index].steering is not None:
                        if bounds not in plain:
                            plain[bounds] = logits_of(self.parts, states[0, slice(*bounds)]).log_softmax(dim=-1)
                        kl = (plain[bounds].exp() * (plain[bounds] - steered)).sum(dim=-1)
                        divergence = kl.clamp(min=0).cpu().numpy()  # rounding may leave -1e-7
                    pieces.setdefault(number, []).append((steered.gather(1, column)[:, 0].cpu().numpy(), divergence))
        return {number: _Values(*map(np.concatenate, zip(*own, strict=True))) for number, own in pieces.items()}

    def _log_probabilities(self, work: Sequence[_Work], stem: Stem | None) -> dict[int, _Values]:
        """Log-probabilities of every continuation that reads from this work, which is all trees or has none."""
        rows = [row for unit in work for row in unit.rows]
        # The token at position t is predicted from the state at t - 1; several continuations may share it.
        wanted = [
            (index, self.continuations[number], at) for index, row in enumerate(rows) for number, at in row.wanted
        ]
        places = np.concatenate([np.full(len(ids), index) for index, ids, _ in wanted])
        columns = np.concatenate([np.arange(len(ids)) + at - 1 - begin_of(stem) for _, ids, at in wanted])
        tokens = torch.from_numpy(np.concatenate([ids for _, ids, _ in wanted]).astype(np.int64))
        width = max(len(row.ids) for row in rows)
        distinct, state_of = np.unique(places * width + columns, return_inverse=True)
        values = np.zeros(len(places), np.float32)
        with evaluating(self.parts.text_model):
            states = self._branched(work, stem)
            order = np.argsort(state_of, kind="stable")
            bounds = np.searchsorted(state_of[order], np.arange(0, len(distinct) + _SLAB, _SLAB))
            for slab, (begin, end) in enumerate(pairwise(bounds.tolist())):
                some = torch.from_numpy(distinct[slab * _SLAB : (slab + 1) * _SLAB]).to(states.device)
                logits = logits_of(self.parts, states[some // width, some % width])
                asked = order[begin:end]
                line = torch.from_numpy(state_of[asked] - slab * _SLAB).to(logits.device)
                picked = logits[line, tokens[asked].to(logits.device)] - logits.logsumexp(dim=1)[line]
                values[asked] = picked.cpu().numpy()
        pieces = np.split(values, np.cumsum([len(ids) for _, ids, _ in wanted])[:-1])
        numbers = [number for row in rows for number, _ in row.wanted]
        return {number: _Values(piece) for number, piece in zip(numbers, pieces, strict=True)}

    def _branched(self, work: Sequence[_Work], stem: Stem | None) -> States:
        """States after the final norm of every text of the work, one row a text; those of the tokens after the stem."""
        trees = [unit.tree for unit in work if unit.tree is not None]
        if not trees or self.sharing is None:
            return self._states([row for unit in work for row in unit.rows], self.sharing, stem=stem)

        def together(indices: Sequence[int]) -> States:
            joined = [_Row(trees[index].ids, work[index].text, work[index].steering) for index in indices]
            return self._states(joined, self.sharing, [trees[index] for index in indices], stem)

        def separate(indices: Sequence[int]) -> States:
            return self._states([row for index in indices for row in work[index].rows], None)[:, begin_of(stem) :]

        return branch_states(
            self.sharing.branches, trees, together, separate, self.parts.text_model.dtype, begin=begin_of(stem)
        )

    def _states(
        self, rows: Sequence[_Row], sharing: Sharing | None, trees: Sequence[Tree] = (), stem: Stem | None = None
    ) -> States:
        """States after the final norm of the tokens after the stem. With right padding, a causal model needs neither
        mask nor position ids, unless the rows are `trees`."""
        parts, begin = self.parts, begin_of(stem)
        ids, mask = pad(parts, [row.ids[begin:] for row in rows])
        positions = np.where(mask.cpu().numpy(), begin + np.arange(ids.shape[1])[None], -1)
        given: dict[str, torch.Tensor] = {}
        if trees:
            for row, tree in enumerate(trees):
                positions[row, : len(tree.positions) - begin] = tree.positions[begin:]
            given["position_ids"] = torch.from_numpy(positions.clip(min=0)).to(parts.device)
            seen = attention_mask(trees, begin + ids.shape[1], parts.text_model.dtype, parts.device)
            given["attention_mask"] = seen[:, :, begin:]
        steering = [row.steering for row in rows]

        def plain(indices: Sequence[int]) -> States:
            chosen = list(indices)
            own = [steering[row] for row in chosen]
            more: dict[str, Any] = {name: value[chosen] for name, value in given.items()}
            if stem is not None:
                more[cache_argument(parts.text_model)] = stem.cache(own)
            with steering_rows(parts, own) as steered, steered.call(positions[chosen]):
                states: States = parts.text_model(
                    input_ids=ids[chosen], use_cache=stem is not None, **more
                ).last_hidden_state
            return states

        if sharing is None:
            return plain(range(len(rows)))
        batch = Batch(ids, mask, [row.text for row in rows], given, steering, None if stem is None else stem.cache)
        depth = batch.common_blocks(range(len(rows)), parts.n_layers)
        return final_states(parts, sharing.trunks, batch, depth, plain)


def _finite(values: dict[int, _Values]) -> dict[int, _Values]:
    """The values of one batch, checked before the next batch runs."""
    for number, own in values.items():
        if not all(np.isfinite(array).all() for array in (own.logprobs, own.divergence) if array is not None):
            raise NumericalError(
                f"NaN or Inf in the scores of continuation {number}",
                "finite log-probabilities",
                'Load the model as dtype="float32" or "bfloat16"',
            )
    return values


def _groups(work: Sequence[_Work]) -> list[list[_Work]]:
    """Work that goes into batches together: trees apart from single texts, and by how many blocks come before the
    steered one, since a batch shares only what all its rows share. Rows of one text are neighbours, so that a batch
    holds few texts under many steerings."""
    groups: dict[tuple[bool, int], list[_Work]] = {}
    for unit, depth in zip(work, depths_of([unit.steering for unit in work]), strict=True):
        groups.setdefault((unit.tree is None, depth), []).append(unit)
    return [sorted(groups[key], key=lambda unit: unit.text) for key in sorted(groups)]
