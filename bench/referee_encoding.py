"""Is valence called encoded where there is none, and found where there is one?

    OMP_NUM_THREADS=1 python bench/referee_encoding.py [--runs 200] [--seed 0] [--own]

Emotions come in families of feeling, and most of the variance of valence lies between the families. So a model that
knows the families and nothing of valence has components that follow valence by chance. Here such models are drawn:
every family of the lexicon has a place at random, every emotion one of its own around it, and no axis is valence. Then
models with a valence axis. The package's own search, readout and gate decide. docs/calibration.md keeps the table.

With `--own`: is each emotion itself read on held-out topics, where it is encoded and where it is not? Stories are
drawn, not vectors; docs/geometry.md keeps that table.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from heartstrings.core.types import Provenance
from heartstrings.corpus import shipped_stories
from heartstrings.corpus.lexicon import Ratings, built_in_ratings, emotions, families
from heartstrings.geometry import _axes as axes
from heartstrings.geometry import _finding as finding
from heartstrings.geometry import _readouts as readouts
from heartstrings.geometry._spectra import gram, spectrum, treat
from heartstrings.geometry.analysis import targets_of
from heartstrings.geometry.own_emotion import Kernels, Stories, arrange, own_emotions
from heartstrings.stats.intervals import wilson
from heartstrings.vectors.emotion_vectors import EmotionVectors

WIDTH = 512
SPREAD = np.arange(1, WIDTH + 1) ** -0.5
"""Standard deviation by dimension: a power law, as residual streams have, so that a few dimensions lead."""
PERMUTATIONS = 199
FALSE_ALARMS, POWER = "at most 0.05", "at least 0.80"
ENCODED = "valence is called encoded"


@dataclass(frozen=True)
class World:
    """Vectors of emotions whose truth is known; the rest of their variance is noise that every emotion has alone."""

    words: str
    of_families: float = 0.0
    """Share of the variance that lies between families, each at a random place."""
    of_valence: float = 0.0
    """Share of the variance that lies along one axis, valence."""
    layers: int = 1
    """Each is drawn anew: the hardest case for a search."""
    which: str = "171 words"

    def draw(self, rng: np.random.Generator) -> tuple[EmotionVectors, Ratings]:
        names, ratings = words_of(self.which, rng)
        grouped = families()
        family = np.unique([grouped[name] for name in names], return_inverse=True)[1]
        valence = built_in_ratings().arrays(names)[0]
        valence = (valence - valence.mean()) / valence.std()
        parts = (1 - self.of_families - self.of_valence, self.of_families, self.of_valence)
        alone, shared, along = (np.sqrt(part) for part in parts)
        raw = np.empty((self.layers, len(names), WIDTH), dtype=np.float32)
        for layer in raw:
            places = rng.normal(size=(int(family.max()) + 1, WIDTH))[family]
            noise = alone * rng.normal(size=layer.shape) + shared * places
            layer[:] = noise * SPREAD + along * np.outer(valence, rng.normal(size=WIDTH) * SPREAD)
        raw -= raw.mean(1, keepdims=True)
        layers, provenance = tuple(range(self.layers)), Provenance(package_version="0", source="derived", model=None)
        return EmotionVectors(emotions=names, layers=layers, raw=raw, provenance=provenance), ratings


def words_of(which: str, rng: np.random.Generator) -> tuple[tuple[str, ...], Ratings]:
    """The emotions of a bundle and their ratings: all of the lexicon, some of it rated, or the shipped stories' 40."""
    ratings = built_in_ratings()
    if which == "40 words":
        return tuple(sorted({story.emotion for story in shipped_stories().stories})), ratings
    if which == "171 words, 126 rated":
        rated = rng.choice(emotions(), 126, replace=False)
        return emotions(), Ratings({str(word): ratings.values[str(word)] for word in rated}, "some")
    return emotions(), ratings


WORLDS = (
    *(
        World(f"families at random hold {share:.0%}", of_families=share, layers=layers)
        for layers in (1, 4) for share in (0.1, 0.2, 0.3)
    ),
    World("families at random hold 20%", of_families=0.2, which="171 words, 126 rated"),
    World("families at random hold 20%", of_families=0.2, which="40 words"),
    World("no structure"),
    World("no structure", layers=4),
    World("no structure", which="40 words"),
    World("families at random hold 20%, a valence axis 8%", of_families=0.2, of_valence=0.08),
    World("families at random hold 20%, a valence axis 8%", of_families=0.2, of_valence=0.08, layers=4),
    World("families at random hold 20%, a valence axis 8%", of_families=0.2, of_valence=0.08, which="40 words"),
    World("families at random hold 20%, a valence axis 2%", of_families=0.2, of_valence=0.02),
    World("families at random hold 20%, a valence axis 2%", of_families=0.2, of_valence=0.02, which="40 words"),
)  # fmt: skip


def decide(vectors: EmotionVectors, ratings: Ratings, *, seed: int) -> tuple[finding.Gate, float]:
    """The gate over all layers, and the largest |r| of a component with valence in the first layer."""
    goals = targets_of(vectors, ratings, permutations=PERMUTATIONS, bootstrap=0, seed=seed)
    spectra = [spectrum(gram(treat(layer, "plain"))) for layer in vectors.raw]
    found = axes.search(spectra, goals.valence, first=0)
    reading = readouts.read(vectors.raw, None, (goals.valence,), seed=seed)[0]
    return finding.gate([found], [reading]), axes.best_of(found, 0).r or 0.0


def rows(runs: int, seed: int, worlds: Sequence[World] = WORLDS) -> list[tuple[str, str, str, float, int]]:
    """(world, event, nominal rate, measured rate, number of runs) of every world."""
    out = []
    for number, world in enumerate(worlds):
        said = 0
        for run in range(runs):
            vectors, ratings = world.draw(np.random.default_rng([seed, number, run]))
            said += finding.verdict(decide(vectors, ratings, seed=run)[0]) == "encoded"
        layers = "one layer" if world.layers == 1 else f"{world.layers} layers"
        nominal = POWER if world.of_valence else FALSE_ALARMS
        out.append((f"{world.words}; {world.which}, {layers}", ENCODED, nominal, said / runs, runs))
    return out


@dataclass(frozen=True)
class Told:
    """Stories of the 40 shipped emotions on 12 topics, with topic effects. What is said of shares is of their variance;
    the rest is each story's own."""

    words: str
    in_topic: float = 0.0
    """Share that the stories of one family have in common within a topic, at another random place in each."""
    families: float = 0.0
    """Share that lies between families, at places that are the same in all topics."""
    quiet: bool = False
    """Half of the families, drawn at random, have no place but the mean of all; their emotions are the ones counted."""
    own: float = 0.0
    """Share that lies between emotions."""

    def draw(self, stories: Stories, rng: np.random.Generator) -> tuple[list[Kernels], np.ndarray]:
        """Two layers, and which emotions are counted."""
        family, n = stories.family[stories.emotion], int(stories.family.max()) + 1
        counted = (
            np.isin(stories.family, rng.permutation(n)[: n // 2]) if self.quiet else np.ones(len(stories.emotions))
        )
        layers = []
        for _ in range(2):
            states = np.sqrt(1 - self.in_topic - self.families - self.own) * rng.normal(size=(len(family), OF_STORIES))
            topics = rng.normal(size=(int(stories.topic.max()) + 1, OF_STORIES))
            states += np.sqrt(self.in_topic) * rng.normal(size=(n, len(topics), OF_STORIES))[family, stories.topic]
            states += np.sqrt(self.own) * rng.normal(size=(len(stories.emotions), OF_STORIES))[stories.emotion]
            places = rng.normal(size=(n, OF_STORIES))[stories.family]
            if self.quiet:
                loud = counted == 0
                places[~loud] = 0
                places[loud] -= places[loud].mean(0)
            states += np.sqrt(self.families) * places[stories.emotion]
            states = states * SPREAD[:OF_STORIES] + 2 * topics[stories.topic]
            between = states[stories.half == 1] @ states[stories.half == 0].T
            layers.append((between, between.T))
        return layers, counted.astype(bool)


OF_STORIES = 32
TOLD = (
    Told("nothing encoded"),
    Told("a family's stories share 20% within a topic", in_topic=0.2),
    Told("a family's stories share 50% within a topic", in_topic=0.5),
    Told("other families hold 20%, the emotion's own is at their mean", families=0.2, quiet=True),
    Told("families hold 20%, the same in all topics", families=0.2),
    Told("emotions hold 5%", own=0.05),
    Told("emotions hold 20%", own=0.2),
)


def own_rows(runs: int, seed: int) -> list[tuple[str, str, float, float, float]]:
    """(world, rate that it should have, measured rate, its standard error over runs, mean AUC) of every world."""
    names = tuple(sorted({story.emotion for story in shipped_stories().stories}))
    emotion, topic = (grid.ravel() for grid in np.meshgrid(np.arange(len(names)), np.arange(12), indexing="ij"))
    stories = arrange(names, emotion, topic, topic % 2)
    assert stories is not None
    out = []
    for number, world in enumerate(TOLD):
        shares, aucs = [], []
        for run in range(runs):
            layered, counted = world.draw(stories, np.random.default_rng([seed, number, run]))
            found = own_emotions(layered, stories, (0, 1), permutations=PERMUTATIONS, seed=run)
            mine = [one for one, there in zip(found, counted, strict=True) if there]
            shares.append(np.mean([one.p is not None and one.p <= 0.05 for one in mine]))
            aucs.append(np.mean([one.auc for one in mine]))
        encoded = world.own or (world.families and not world.quiet)
        rate, error = float(np.mean(shares)), float(np.std(shares, ddof=1) / np.sqrt(runs))
        out.append((world.words, "read" if encoded else FALSE_ALARMS, rate, error, float(np.mean(aucs))))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--own", action="store_true", help="each emotion for itself, in place of valence")
    given = parser.parse_args()
    if given.own:
        print("| world | should be | p <= .05 | standard error | mean AUC, best of two layers |\n|---|---|--:|--:|--:|")
        for world, nominal, rate, error, auc in own_rows(given.runs, given.seed):
            print(f"| {world} | {nominal} | {rate:.3f} | {error:.3f} | {auc:.2f} |")
        return
    print("| world | event | should be | measured | 95% interval |\n|---|---|---|--:|---|")
    for world, event, nominal, rate, runs in rows(given.runs, given.seed):
        share = wilson(round(rate * runs), runs)
        print(f"| {world} | {event} | {nominal} | {rate:.3f} | {share.low:.3f} to {share.high:.3f} |")


if __name__ == "__main__":
    main()
