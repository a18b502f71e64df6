"""How often do contrasts of topic, length, person and dialogue pass for emotions? Tested as directions are.

    python bench/held_out_contrasts.py RUN --out contrasts [--behaviour feels]

RUN is a finished folder of `heartstrings run` whose vectors kept their activations. From the same stories the contrasts
that have nothing to do with emotion are made: each topic against the others, long stories against short ones, the first
person against the third, dialogue against none (upper against lower third). Each is asked what the tested directions
were, with its own search for a layer, and the verdict compares it with the controls of RUN. It passes if p is under
alpha and the interval of its effect excludes zero: what an answer of `controls` needs before the gates, which could
only take answers away. At most alpha of them should. A topic's contrast is made of what the `topic` controls are
mixtures of, so those say less than the others.

Prints Markdown. Stopped at any moment, the same command goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from heartstrings.behaviours.suites import suite_of
from heartstrings.cli._console import bars
from heartstrings.experiment.controls import StoryActivations, direction_set, read_story_activations
from heartstrings.experiment.ledger import CONTROL_KINDS, SampleLedger
from heartstrings.experiment.plan import Plan, searched_layers
from heartstrings.experiment.run import run_experiment
from heartstrings.stats.intervals import wilson
from heartstrings.vectors.bundle import main_bundle
from heartstrings.vectors.emotion_vectors import EmotionVectors, project_out
from heartstrings.verdict import decide
from heartstrings.workflows.atlas import open_model
from heartstrings.workflows.run import ATLAS
from held_out_controls import Rows, passes


def contrasts(stories: StoryActivations, layers: Sequence[int]) -> dict[str, Float32[np.ndarray, "layer width"]]:
    """Mean of some stories minus the mean of others, denoised as the vectors are."""
    table, vectors = stories.vectors.stories, stories.vectors
    assert table is not None
    assert vectors.neutral_basis is not None
    groups: dict[str, tuple[np.ndarray, np.ndarray]] = {
        f"topic {number}": (table.topic == number, table.topic != number) for number in range(len(table.topics))
    }
    for name in ("words", "person", "dialogue"):
        values = getattr(table, name).astype(np.float64)
        low, high = np.nanquantile(values, [1 / 3, 2 / 3])
        upper, lower = values >= high, values <= low
        if not (upper & lower).any() and upper.sum() >= 20 and lower.sum() >= 20:
            groups[name] = (upper, lower)
    sums = {name: np.zeros((2, len(layers), vectors.width)) for name in groups}
    columns = [stories.store.layers.index(layer) for layer in layers]
    for at, batch in stories._batches():
        states = batch.vectors[:, columns].astype(np.float64)
        for name, sides in groups.items():
            for side, members in enumerate(sides):
                sums[name][side] += np.einsum("s,slw->lw", members[at].astype(float), states)
    found = {}
    for name, sides in groups.items():
        raw = (sums[name][0] / sides[0].sum() - sums[name][1] / sides[1].sum()).astype(np.float32)
        clean = [
            project_out(row[None], vectors.neutral_basis[vectors.layers.index(layer)])[0]
            for row, layer in zip(raw, layers, strict=True)
        ]
        found[name] = np.stack(clean)
    return found


def with_contrasts(vectors: EmotionVectors, stories: StoryActivations, layers: Sequence[int]) -> EmotionVectors:
    """Vectors of these contrasts in the place of emotions."""
    made = contrasts(stories, layers)
    rows = np.zeros((len(vectors.layers), len(made), vectors.width), dtype=np.float32)
    rows[:] = 1.0  # layers that are not searched are not steered at
    for at, layer in enumerate(layers):
        rows[vectors.layers.index(layer)] = np.stack([one[at] for one in made.values()])
    names = tuple(name.replace(" ", "-") for name in made)
    return EmotionVectors(
        emotions=names, layers=vectors.layers, raw=rows, denoised=rows, provenance=vectors.provenance,
        norms=vectors.norms, neutral_basis=vectors.neutral_basis,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("contrasts"))
    parser.add_argument("--behaviour", default="feels")
    args = parser.parse_args()
    with SampleLedger.read(args.run / "ledger.sqlite") as ledger:
        was, there = ledger.plan, list(ledger.samples())
    bundle = main_bundle(was.vectors or args.run / ATLAS)
    vectors = EmotionVectors.load(bundle)
    stories = read_story_activations(bundle, vectors)
    assert stories is not None, "the run's vectors kept no activations"
    engine = open_model(was.model, revision=was.revision, dtype=was.dtype, device=None)
    layers = searched_layers(was, engine.info.n_layers)
    tested = with_contrasts(vectors, stories, layers)
    asked = was.changed(
        effects=(args.behaviour,), directions=tested.emotions, raises=(), lowers=(), prompting=False, confirm=(),
        controls=dict.fromkeys(CONTROL_KINDS, 0), claims={"mixture": 0, "other": 0, "stripped": False},
        doses=tuple(sorted({*was.compared(args.behaviour), 0.0})), small_doses=(), slope_from=0.0,
    )  # fmt: skip
    suite = replace(suite_of(asked), capability=(), harm=(), matched=(), writing=(), cost=())
    args.out.mkdir(parents=True, exist_ok=True)
    directions = direction_set(asked, tested, layers=layers, stories=None)
    with SampleLedger(args.out / "ledger.sqlite", asked) as ledger, bars(quiet=False) as progress:
        run_experiment(
            asked, engine, directions, ledger, suite=suite, progress=partial(progress, "sampling")
        )  # fmt: skip
        rows = list(ledger.samples())

    beside = [row for row in there if row.cell.behaviour == args.behaviour and row.cell.kind in CONTROL_KINDS]
    print("\n| contrast | block | effect, points | p | passes |\n|---|--:|--:|--:|---|")
    passed = 0
    for name in tested.emotions:
        plan = _alone(was, args.behaviour, name)
        mine = [row for row in rows if row.cell.kind == "baseline" or row.cell.direction == name]
        mine += [row for row in there if row.cell.behaviour != args.behaviour and row.cell.kind == "baseline"]
        (card,) = decide(plan, Rows([*mine, *beside]), suite, model=was.model, encoded="encoded").answers
        good = passes(card, plan)
        passed += good
        print(f"| {name} | {card.layer} | {100 * (card.effect.value or 0):+.0f} | {card.p} | {'yes' if good else ''} |")
    share = wilson(passed, len(tested.emotions))
    print(f"\n{passed} of {len(tested.emotions)} pass ({share.low:.1%} to {share.high:.1%})")


def _alone(was: Plan, behaviour: str, name: str) -> Plan:
    """The plan of RUN with this contrast as its only direction, whose sign nobody declared."""
    return was.changed(
        effects=(behaviour,), directions=(name,), raises=(), lowers=(), prompting=False, confirm=(behaviour,),
        claims={"mixture": 0, "other": 0, "stripped": False},
    )  # fmt: skip


if __name__ == "__main__":
    main()
