"""What is said of a bundle: planted worlds, blank ones, small samples, and real vectors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import geometry_worlds as worlds
from heartstrings.core.errors import InputError
from heartstrings.corpus.lexicon import Ratings, read_ratings
from heartstrings.geometry import Geometry, analyse
from heartstrings.geometry import _finding as finding
from heartstrings.vectors.emotion_vectors import EmotionVectors

QUICK: dict[str, Any] = {"permutations": 199, "bootstrap": 100, "umap": False}


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        # first r and p, best component, r and p, readout p, gate
        ((0.9, 0.01, 1, 0.9, 0.01, 0.01, True), "pc1"),
        ((0.4, 0.01, 3, 0.45, 0.01, 0.01, True), "pc1"),  # significant and nearly the best
        ((0.4, 0.01, 3, 0.6, 0.01, 0.01, True), "other component"),
        ((0.1, 0.90, 3, 0.6, 0.01, 0.01, True), "other component"),
        ((0.5, 0.04, 2, 0.7, 0.20, 0.20, True), "pc1"),  # the search is too wide, the stated hypothesis holds
        ((0.1, 0.50, 4, 0.3, 0.50, 0.01, True), "linear only"),
        ((0.1, 0.50, 4, 0.3, 0.50, 0.50, True), "absent"),
        ((0.9, 0.01, 1, 0.9, 0.01, 0.01, False), "absent"),  # nothing survives the whole search
        ((None, None, None, None, None, None, True), "absent"),
    ],
)
def test_the_rule(numbers: tuple[Any, ...], expected: str) -> None:
    names = ("first_r", "first_p", "best_component", "best_r", "best_p", "readout_p", "gate_open")
    assert finding.classify(**dict(zip(names, numbers, strict=True))) == expected


def test_a_component_that_follows_a_nuisance_is_not_called_valence() -> None:
    nearly: dict[str, Any] = {
        "first_r": 0.4, "first_p": 0.01, "best_component": 3, "best_r": 0.45, "best_p": 0.01, "readout_p": 0.01,
        "gate_open": True,
    }  # fmt: skip
    assert finding.classify(**nearly) == "pc1"
    assert finding.classify(**nearly, first_is_nuisance=True) == "other component"


def test_runs_of_layers_follow_the_layers_there_are() -> None:
    assert finding.spans([0, 1, 2, 5], range(6)) == "0-2, 5"
    assert finding.spans([8, 16, 25], [8, 16, 20, 25]) == "8-16, 25"
    assert finding.short(0.876) == ".88"
    assert finding.short(1.0) == "1.00"
    assert finding.short(-0.25) == "-.25"


def found(raw: np.ndarray, rated: Ratings, **more: Any) -> Geometry:
    return analyse(worlds.bundle(raw, **more), rated, **QUICK)


def test_valence_on_component_1() -> None:
    rated = worlds.ratings()
    geometry = found(worlds.planted({"valence": 3.0, "arousal": 2.0}, rated=rated), rated)
    assert [layer.finding for layer in geometry.layers] == ["pc1"] * 3
    assert (geometry.encoded, geometry.verdict) == (True, "encoded")
    assert "on component 1" in geometry.sentence
    assert geometry.encoded_p == 1 / 200
    for layer in geometry.layers:
        assert layer.pc1_valence.r is not None
        assert layer.pc1_valence.r > 0.95
        assert layer.best_arousal.component == 2


def test_valence_behind_length_and_after_correction() -> None:
    rated = worlds.ratings()
    length = np.random.default_rng(1).integers(80, 300, worlds.N)
    raw = worlds.planted({"length": 4.0, "valence": 1.5}, rated=rated, length=length)
    cured = worlds.bundle(
        worlds.planted({"length": 0.1, "valence": 1.5}, rated=rated, length=length), stories=worlds.table(length=length)
    )
    vectors = worlds.bundle(raw, stories=worlds.table(length=length))
    geometry = analyse(vectors, rated, others={"window50-114": cured}, **QUICK)
    for layer in geometry.layers:
        assert layer.finding == "other component"
        assert layer.best_valence.component == 2
        assert layer.first_component_nuisance is not None
        assert layer.first_component_nuisance.nuisance == "length"
    assert "Component 1 follows story length" in geometry.sentence
    assert "With pooling window50-114, in those layers: on component 1" in geometry.sentence
    corrected = geometry.corrected["window50-114"]
    assert [layer.finding for layer in corrected] == ["pc1"] * 3
    assert all(layer.first_component_nuisance is None for layer in corrected)
    assert "on component 1" in geometry.corrected_sentences["window50-114"]


def test_valence_spread_over_many_small_components_is_linear_only() -> None:
    rated, rng = worlds.ratings(), np.random.default_rng(0)
    # Twelve large components that are not valence fill the search; valence is in none of them.
    large = rng.normal(size=(worlds.N, 12)) * 3
    valence = rated.arrays(worlds.names())[0]
    large -= np.outer(valence, valence @ large / (valence @ valence))
    raw = np.zeros((1, worlds.N, worlds.WIDTH))
    raw[0, :, :12] = large
    raw[0, :, 12:30] = 0.4 * valence[:, None] + 0.05 * rng.normal(size=(worlds.N, 18))
    geometry = found(raw, rated)
    assert geometry.layers[0].finding == "linear only"
    assert geometry.encoded
    assert geometry.layers[0].readout_valence_r2 is not None
    assert geometry.layers[0].readout_valence_r2 > 0.3
    assert "only in a linear readout" in geometry.sentence


def blank(seed: int, n: int = worlds.N) -> EmotionVectors:
    """A model without emotion: sampling noise with a few strong directions, and story length."""
    length = np.random.default_rng([seed, 1]).integers(80, 300, n)
    rng = np.random.default_rng([seed, 2])
    spread = rng.normal(size=(8, worlds.WIDTH)) * np.array([3, 2, 1.5, 1, 1, 1, 1, 1])[:, None]
    shared = rng.normal(size=(n, 8)) @ spread
    raw = worlds.planted({"length": 2.0}, n=n, noise=1.0, seed=seed, length=length) + shared
    noise = rng.normal(size=(2, *raw.shape))
    halves = (raw + noise - (raw + noise).mean(2, keepdims=True)).astype(np.float32)
    basis = tuple(np.zeros((0, worlds.WIDTH), dtype=np.float32) for _ in raw)
    denoised, stories = 0.9 * raw.astype(np.float32), worlds.table(n, length=length)
    return worlds.bundle(raw, halves=halves, denoised=denoised, stories=stories, neutral_basis=basis)


def test_a_blank_model_is_absent_everywhere_and_said_to_be_so() -> None:
    geometry = analyse(blank(0), worlds.ratings(), **QUICK)
    assert {layer.finding for layer in geometry.layers} == {"absent"}
    assert len(geometry.layers) == 6
    assert (geometry.encoded, geometry.verdict) == (False, "not encoded")
    assert geometry.sentence.startswith("Valence is not encoded")


def test_false_alarms_stay_at_five_in_a_hundred() -> None:
    """The gate pays for layers, components, routes and variants alike."""
    from heartstrings.geometry.analysis import survey, targets_of

    sizes = {"permutations": 99, "bootstrap": 0}
    alarms, n = [], 12
    for seed in range(n):
        vectors = blank(seed, n=24)
        targets = targets_of(vectors, worlds.ratings(24, seed), seed=seed, **sizes)
        result = survey(vectors, targets, seed=seed, step=lambda: None)
        alarms.append(any(layer.finding != "absent" for layer in result.layers))
        assert alarms[-1] == result.gate.open
    assert sum(alarms) / n < 0.05 + 3 * np.sqrt(0.05 * 0.95 / n)


@pytest.mark.slow
def test_the_gate_s_p_is_uniform_without_valence() -> None:
    from heartstrings.geometry.analysis import survey, targets_of

    ps = []
    for seed in range(300):
        vectors = blank(seed, n=24)
        targets = targets_of(vectors, worlds.ratings(24, seed), permutations=99, bootstrap=0, seed=seed)
        ps.append(survey(vectors, targets, seed=seed, step=lambda: None).gate.p)
    for level in (0.05, 0.2, 0.5):
        assert abs((np.array(ps) <= level + 1e-9).mean() - level) < 3.5 * np.sqrt(level * (1 - level) / 300)


def test_few_emotions_without_a_finding_are_inconclusive() -> None:
    rated = worlds.ratings(18)
    geometry = found(worlds.planted({}, n=18, noise=1.0, layers=1), rated)
    assert {layer.finding for layer in geometry.layers} == {"absent"}
    assert geometry.verdict == "inconclusive"
    assert geometry.detectable_r is not None
    assert geometry.detectable_r > 0.6
    assert "18 rated emotions are too few" in geometry.sentence


@pytest.mark.parametrize(("families", "verdict"), [(5, "inconclusive"), (6, "encoded")])
def test_a_few_families_of_feeling_are_too_few_however_many_words(families: int, verdict: str) -> None:
    """The same vectors, valence on component 1, under names of five families and of six."""
    from heartstrings.corpus.lexicon import built_in_ratings
    from heartstrings.corpus.lexicon import families as of

    words = [[word for word in of() if of()[word] == name]
             for name in ("anger", "joy", "sadness", "calm", "fear", "pride")[:families]]  # fmt: skip
    some = tuple(word for group in words for word in group[:8])
    rated, rng = built_in_ratings(), np.random.default_rng(0)
    valence = rated.arrays(some)[0]
    raw = 3 * np.outer(valence, rng.normal(size=worlds.WIDTH)) + 0.3 * rng.normal(size=(len(some), worlds.WIDTH))
    raw = (raw - raw.mean(0)).astype(np.float32)[None]
    vectors = EmotionVectors(emotions=some, layers=(0,), raw=raw, provenance=worlds.provenance())
    geometry = analyse(vectors, rated, **QUICK)
    assert geometry.verdict == verdict
    assert geometry.layers[0].best_valence.r is not None
    assert geometry.layers[0].best_valence.r > 0.9
    if verdict == "inconclusive":
        assert (geometry.encoded_p, geometry.detectable_r) == (None, None)
        assert geometry.sentence.startswith("Inconclusive: the 40 rated emotions are of 5 families of feeling")


def test_without_ratings_nothing_is_zero() -> None:
    geometry = found(worlds.planted({"valence": 3.0}, layers=1), Ratings({}, "none"))
    layer = geometry.layers[0]
    assert (geometry.verdict, geometry.n_rated, geometry.encoded_p, geometry.detectable_r) == (
        "inconclusive",
        0,
        None,
        None,
    )
    assert layer.pc1_valence.r is None
    assert layer.best_valence.p is None
    assert layer.readout_valence is None
    assert layer.readout_valence_r2 is None
    assert any("no rating" in note for note in geometry.notes)
    assert Geometry.model_validate_json(geometry.model_dump_json()) == geometry


def test_equal_vectors_are_no_finding_either_way() -> None:
    geometry = found(np.ones((2, 18, worlds.WIDTH)), worlds.ratings(18))
    assert (geometry.verdict, geometry.encoded_p, geometry.detectable_r) == ("inconclusive", None, None)
    assert "different vectors" in geometry.sentence
    assert geometry.clusters is None
    assert {layer.best_valence.component for layer in geometry.layers} == {None}


@pytest.mark.parametrize(("share", "families", "low", "high"), [(0.0, 50, 0.7, 0.92), (0.0, 21, 0.8, 1.0),
                                                               (0.3, 21, 0.75, 1.0), (0.6, 21, 0.75, 1.0)])  # fmt: skip
def test_a_component_of_the_detectable_size_is_detected_four_times_in_five(
    share: float, families: int, low: float, high: float
) -> None:
    """Draws a component with exactly that correlation in the population, among nine that have none. `share` of each
    lies between families, as most of the rating does; then four times in five is the least."""
    from heartstrings.geometry import _axes as axes
    from heartstrings.geometry import _spectra as spectra

    rng, n = np.random.default_rng(3), 50 if families == 50 else 170
    family = np.arange(n) % families

    def drawn(share: float, width: int) -> np.ndarray:
        return np.sqrt(share) * rng.normal(size=(families, width))[family] + np.sqrt(1 - share) * rng.normal(
            size=(n, width)
        )

    hits, runs = 0, 200
    for seed in range(runs):
        rating = drawn(0.9, 1)[:, 0]
        target = axes.target("valence", rating, permutations=199, bootstrap=0, seed=seed, family=family)
        scores = drawn(share, 10)
        null = axes.search([spectra.Spectrum(scores, np.ones(10) / 10)], target, first=0)
        size = finding.detectable(null, threshold=0.05)
        assert size is not None
        scores[:, 4] = size * rating + np.sqrt(1 - size**2) * scores[:, 4]
        result = axes.search([spectra.Spectrum(scores, np.ones(10) / 10)], target, first=0)
        hits += bool(result.p_best[0] < 0.05)
    assert low < hits / runs <= high


def test_the_same_seed_gives_the_same_json_and_the_names_others_rely_on() -> None:
    vectors = blank(1)
    one, two = (analyse(vectors, worlds.ratings(), seed=5, **QUICK) for _ in range(2))
    assert one.model_dump_json() == two.model_dump_json()
    value = json.loads(one.model_dump_json())
    for layer in value["layers"]:
        assert {
            "layer",
            "variant",
            "pc1_valence",
            "pc2_arousal",
            "best_valence",
            "readout_valence_r2",
            "finding",
        } <= set(layer)
        assert {"r", "low", "high", "n"} <= set(layer["pc1_valence"])
        assert {"component", "r", "p"} <= set(layer["best_valence"])
    assert [(layer["layer"], layer["variant"]) for layer in value["layers"]] == [
        (layer, variant) for variant in ("raw", "denoised") for layer in range(3)
    ]
    assert Geometry.model_validate_json(one.model_dump_json()) == one


def test_the_shown_layer_is_fixed_in_advance() -> None:
    from heartstrings.geometry.analysis import shown

    raw = worlds.planted({}, layers=3)
    assert shown(worlds.bundle(raw, provenance=worlds.provenance(worlds.model(n_layers=3)))) == (2, "raw")
    assert shown(worlds.bundle(raw, provenance=worlds.provenance(worlds.model(n_layers=30)))) == (2, "raw")
    assert shown(worlds.bundle(raw[:1])) == (0, "raw")


@pytest.mark.parametrize(
    ("n", "more"), [(2, {}), (12, {"permutations": 5}), (12, {"permutations": 99, "bootstrap": -1})]
)
def test_what_cannot_be_analysed_is_refused(n: int, more: dict[str, int]) -> None:
    with pytest.raises(InputError, match="Expected"):
        analyse(worlds.bundle(worlds.planted({}, n=n)), worlds.ratings(n), **more)


def imported(path: Path) -> EmotionVectors:
    """The two layouts of the real vectors, read without the package's own importer."""
    with np.load(path) as stored:
        arrays = {name: stored[name].astype(np.float64) for name in stored.files}
    keys = [(int(name.split("__")[0].removeprefix("layer_")), name.split("__")[1]) if "__" in name else (17, name)
            for name in arrays]  # fmt: skip
    layers, words = sorted({layer for layer, _ in keys}), tuple(sorted({word for _, word in keys}))
    table = dict(zip(keys, arrays.values(), strict=True))
    raw = np.stack([np.stack([table[layer, word] for word in words]) for layer in layers])
    raw -= raw.mean(1, keepdims=True)
    return EmotionVectors(
        emotions=words, layers=tuple(layers), raw=raw.astype(np.float32), provenance=worlds.provenance()
    )


REAL = {
    "gemma-4-e2b-it_layer17_raw": ["pc1"],
    "evb_llama-3.1-8b-instruct_raw": ["pc1"] * 4,
    "evb_qwen2.5-7b-instruct_raw": ["linear only", "linear only", "pc1", "linear only"],
}


@pytest.mark.data
@pytest.mark.parametrize("name", REAL)
def test_real_vectors_give_the_expected_geometry(name: str, shared_data: Path) -> None:
    ratings = read_ratings(shared_data / "ratings" / "vad_171.csv")
    expected = json.loads((shared_data / "vectors" / "expected_geometry.json").read_text())
    geometry = analyse(imported(shared_data / "vectors" / f"{name}.npz"), ratings, umap=False)
    assert [layer.finding for layer in geometry.layers] == REAL[name]
    assert geometry.encoded
    for layer in geometry.layers:
        row = expected[name] if name in expected else expected[f"{name}/layer_{layer.layer}"]
        assert geometry.n_emotions == row["n_emotions"]
        assert layer.pc1_valence.n == row["n_rated"]
        assert layer.pc1_valence.r == pytest.approx(row["pc1_valence"], abs=0.002)
        assert layer.pc2_arousal.r == pytest.approx(row["pc2_arousal"], abs=0.002)
        assert layer.explained[:3] == pytest.approx(row["var"], abs=0.002)
        for best, key in ((layer.best_valence, "best_valence"), (layer.best_arousal, "best_arousal")):
            assert best.r == pytest.approx(row[key][0], abs=0.002)
            assert best.component == row[key][1]
