"""The rule that chooses a layer."""

from __future__ import annotations

import numpy as np
import pytest

from heartstrings.experiment.layer_choice import choose_layer
from heartstrings.experiment.ledger import Cell, Sample


def row(layer: int, dose: float, scenario: str, outcome: float | None, repeat: int = 0) -> Sample:
    cell = Cell(phase="select", behaviour="choice", kind="direction", direction="calm", layer=layer, dose=dose)
    return Sample(
        cell=cell, scenario=scenario, group=scenario, repeat=repeat, outcome=outcome, valid=1.0, text=None, detail={}
    )


def rows(changes: dict[int, list[float | None]]) -> list[Sample]:
    """Layer to the change of each scenario, around 0.5."""
    found = []
    for layer, by_scenario in changes.items():
        for i, change in enumerate(by_scenario):
            found.append(row(layer, -0.2, f"s{i}", 0.5))
            found.append(row(layer, 0.2, f"s{i}", None if change is None else 0.5 + change))
    return found


def test_takes_the_largest_change_in_size_whatever_its_sign() -> None:
    search = choose_layer(rows({2: [0.1, 0.2], 3: [-0.3, -0.2], 4: [0.0, 0.1]}))
    assert search.layer == 3
    assert [one.layer for one in search.searched] == [2, 3, 4]
    assert [one.mean for one in search.searched] == pytest.approx([0.15, -0.25, 0.05])
    assert {one.width for one in search.searched} == {0.4}


def test_a_mean_is_what_counts_not_single_scenarios() -> None:
    assert choose_layer(rows({2: [0.4, -0.4], 3: [0.1, 0.1]})).layer == 3


def test_the_lowest_of_equals() -> None:
    assert choose_layer(rows({4: [0.2], 2: [0.2], 3: [-0.2]})).layer == 2


def test_only_the_outermost_doses_count() -> None:
    inner = [row(2, 0.1, "s0", 1.0), row(2, -0.1, "s0", 0.0)]
    assert choose_layer([*rows({2: [0.05], 3: [0.1]}), *inner]).layer == 3


def test_repeats_are_averaged_and_missing_outcomes_left_out() -> None:
    found = rows({2: [0.1, None], 3: [0.12, 0.12]})
    found += [row(2, 0.2, "s0", 0.9, repeat=1), row(2, -0.2, "s0", None, repeat=1)]
    search = choose_layer(found)
    assert search.layer == 2
    assert search.searched[0].changes == pytest.approx([0.25])


def test_nothing_to_compare() -> None:
    assert choose_layer([]).layer is None
    assert choose_layer([row(2, 0.2, "s0", 0.5)]).layer is None
    search = choose_layer(rows({2: [None], 3: [None]}))
    assert search.layer is None
    assert [one.mean for one in search.searched] == [None, None]


def test_order_of_rows_changes_nothing() -> None:
    random = np.random.default_rng(0)
    found = rows({layer: random.normal(0, 0.1, 9).tolist() for layer in (2, 3, 4)})
    first = choose_layer(found)
    for _ in range(5):
        again = choose_layer([found[i] for i in random.permutation(len(found))])
        assert again.layer == first.layer
        assert [one.mean for one in again.searched] == [one.mean for one in first.searched]
