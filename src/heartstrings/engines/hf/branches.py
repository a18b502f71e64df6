"""Several continuations of one prompt in one row: the prompt is fed once, each continuation sees it and itself.

A row then holds the prompt and after it the continuations, one behind the other. Position ids count on from the prompt
for each of them, and an attention mask hides them from each other. Whether a model follows both is found by comparing
its states with those of one row a continuation; recurrent layers, for one, do not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64

from heartstrings.engines.hf.architecture import Architecture
from heartstrings.engines.hf.run import is_out_of_memory
from heartstrings.engines.hf.trunk import same_states

States = Float[torch.Tensor, "row token width"]
_WORTH = 0.2
"""Least share of the fed tokens that has to be saved: the mask costs a little too."""
_PROBED = 2


@dataclass
class Branches:
    """What an engine has found out about its model."""

    works: bool = True
    """False once a comparison failed, for good."""
    proven: bool = False


@dataclass(frozen=True, eq=False)
class Tree:
    """What is fed for continuations of one prompt."""

    ids: Int32[np.ndarray, "token"]
    positions: Int64[np.ndarray, "token"]
    """Place of each token in its own text, from 0."""
    branch: Int64[np.ndarray, "token"]
    """0 in the prompt, then 1, 2 ... by continuation."""
    columns: tuple[Int64[np.ndarray, "_"], ...]
    """Of each continuation: where the tokens of prompt and continuation stand, in order."""


def tree_of(texts: Sequence[Int32[np.ndarray, "_"]], n_prompt: int, window: int | None) -> Tree | None:
    """The texts, which begin with the same `n_prompt` tokens, as one row; None where that saves little or is unsafe.

    Args:
        window: longest distance that some layer of the model looks back, which a mask given from outside overrules.
    """
    longest, separate = max(map(len, texts)), sum(map(len, texts))
    saved = n_prompt * (len(texts) - 1)
    if saved < _WORTH * separate or (window is not None and longest > window):
        return None
    ids, positions, branch = [texts[0][:n_prompt]], [np.arange(n_prompt)], [np.zeros(n_prompt, np.int64)]
    columns, end = [], n_prompt
    for number, text in enumerate(texts, start=1):
        own = len(text) - n_prompt
        ids.append(text[n_prompt:])
        positions.append(np.arange(n_prompt, len(text)))
        branch.append(np.full(own, number, np.int64))
        columns.append(np.concatenate([np.arange(n_prompt), np.arange(end, end + own)]))
        end += own
    return Tree(np.concatenate(ids), np.concatenate(positions), np.concatenate(branch), tuple(columns))


def window_of(parts: Architecture) -> int | None:
    """How far back the layer with the shortest sight looks, in tokens; None where all see everything."""
    found = [getattr(parts.config, name, None) for name in ("sliding_window", "attention_chunk_size")]
    return min((value for value in found if isinstance(value, int) and value > 0), default=None)


def attention_mask(
    trees: Sequence[Tree], width: int, dtype: torch.dtype, device: torch.device
) -> Float[torch.Tensor, "tree 1 token token"]:
    """Added to the attention logits: 0 where a token (rows) sees another (columns), very negative elsewhere."""
    branch = np.full((len(trees), width), -1, np.int64)  # padding sees itself and the prompt, and nobody sees it
    for place, tree in enumerate(trees):
        branch[place, : len(tree.branch)] = tree.branch
    own = torch.from_numpy(branch).to(device)
    seen = (own[:, :, None] == own[:, None, :]) | (own[:, None, :] == 0)
    seen &= torch.ones(width, width, dtype=torch.bool, device=device).tril()
    return torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill(~seen, torch.finfo(dtype).min)[:, None]


def apart(
    trees: Sequence[Tree], states: Float[torch.Tensor, "tree column width"]
) -> Float[torch.Tensor, "text token width"]:
    """The states of each continuation's own text, as if each had been a row; padded on the right."""
    columns = [(place, own) for place, tree in enumerate(trees) for own in tree.columns]
    index = np.zeros((len(columns), max(len(own) for _, own in columns)), np.int64)
    for row, (_, own) in enumerate(columns):
        index[row, : len(own)] = own
    places = torch.tensor([place for place, _ in columns], device=states.device)
    return states[places[:, None], torch.from_numpy(index).to(states.device)]


def states_of(
    branches: Branches,
    trees: Sequence[Tree],
    together: Callable[[Sequence[int]], States],
    separate: Callable[[Sequence[int]], States],
    eps: float,
) -> States:
    """The states of every continuation's text, from one row a tree where the model is known to follow the mask.

    Args:
        together: the states of some trees, in the trees' own columns.
        separate: those of the texts of some trees, a row each.
    """
    every = range(len(trees))
    if branches.works and not branches.proven:
        some = every[:_PROBED]
        expected = separate(some)
        try:
            found = apart(trees[: len(some)], together(some))
        except Exception as error:  # a model that takes no position ids or no such mask fails in its own way
            if is_out_of_memory(error):
                raise
            found = None
        lengths = [len(own) for tree in trees[: len(some)] for own in tree.columns]
        branches.works = branches.proven = found is not None and same_states(found, expected, lengths, eps)
    return apart(trees, together(every)) if branches.works else separate(every)
