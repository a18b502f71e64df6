"""How do time and peak memory grow with the size of the work?

    python -m bench.scale [--only stories,tokens,...] [--repeats 2] [--page docs/speed.md] [--out scale.json]

Each axis is measured at 1, 2, 4 and 8 times its first size, all else fixed. Each size has a process of its own: one
call to warm up, then the timed calls (the fastest counts), then one more for its peak memory above the loaded model.
`--quick` runs the smallest organism in this process, at 1 and 2 times, without memory.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.speed import machine, memory, page, subjects, vectors
from bench.speed.harness import Run
from heartstrings import Intervention, Steering
from heartstrings.behaviours.suites import suite
from heartstrings.core.types import Pooling
from heartstrings.corpus import calibration_texts, shipped_stories
from heartstrings.engines.hf._session import calibration_norms
from heartstrings.engines.hf.engine import TorchEngine
from heartstrings.vectors.extraction import extract

MARK = "made by bench.scale"
FACTORS, QUICK_FACTORS = (1, 2, 4, 8), (1, 2)
RESULT = "scale point: "


@dataclass(frozen=True)
class Axis:
    """One kind of size, and the work of a given size."""

    says: str
    """What grows, and what is done with it."""
    first: int
    prepare: Callable[[TorchEngine, int], Run]
    quick: int | None = None
    """The first size on the organism; None: the same."""

    def size(self, factor: int, *, quick: bool) -> int:
        return factor * (self.quick if quick and self.quick else self.first)


def stories(engine: TorchEngine, n: int) -> Run:
    """A whole extraction, its activations written to disk: every layer, two pooling rules. Emotions come with all of
    their topics, so that vectors can be made."""
    whole = shipped_stories()
    some = replace(whole, stories=tuple(sorted(whole.stories, key=lambda story: story.emotion)[:n]))
    rules = (Pooling(start=0), Pooling(start=50))

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            extract(engine, some, out=Path(folder) / "vectors", poolings=rules, calibration=calibration_texts())

    return run


def pooled(engine: TorchEngine, *, texts: int, tokens: int, layers: int | None) -> Run:
    """Means of texts that are all cut at the same length."""
    whole = shipped_stories().texts
    long = ["\n\n".join(whole[at : at + 6]) for at in range(0, 6 * texts, 6)]
    kept = None if layers is None else [round(at) for at in np.linspace(0, engine.info.n_layers - 1, layers)]

    def run() -> None:
        for _ in engine.pool(long, layers=kept, poolings=(Pooling(start=0),), max_tokens=tokens):
            pass

    return run


def cells(engine: TorchEngine, *, scenarios: int = 4, layers: int = 1, doses: int = 2, directions: int = 4) -> Run:
    """One scored question in layers x doses x directions."""
    behaviour = suite("text").behaviour("feels")
    norms = calibration_norms(engine, engine.parts, "block")
    depths = np.linspace(engine.info.n_layers // 3, engine.info.n_layers - 2, layers).round().astype(int).tolist()
    random = np.random.default_rng(0).normal(size=(directions, engine.info.width)).astype(np.float32)
    steerings = [
        Steering((Intervention(layer, direction, dose, float(norms[layer])),))
        for layer in depths
        for dose in np.linspace(-0.1, 0.1, doses).tolist()
        for direction in random
    ]
    asked: list[Any] = [
        behaviour.request(scenario, steering=steering, seed=0)
        for scenario in behaviour.scenarios(n=scenarios, seed=0)
        for steering in steerings
    ]
    return lambda: engine.score(asked)


AXES = {
    "stories": Axis("stories of an extraction, all layers, kept on disk", 24, stories),
    "tokens": Axis(
        "tokens of each of 12 stories, means of all layers",
        64, lambda engine, n: pooled(engine, texts=12, tokens=n, layers=None), quick=8,
    ),
    "layers kept": Axis(
        "layers whose means are kept, 12 stories of 128 tokens",
        3, lambda engine, n: pooled(engine, texts=12, tokens=128, layers=n), quick=1,
    ),
    "directions": Axis(
        "directions of a scored question: 4 scenarios, 1 layer, 2 doses",
        8, lambda engine, n: cells(engine, directions=n), quick=2,
    ),
    "doses": Axis("doses of it, 8 directions", 2, lambda engine, n: cells(engine, doses=n, directions=8)),
    "layers searched": Axis("layers of it, 8 directions", 1, lambda engine, n: cells(engine, layers=n, directions=8)),
    "scenarios": Axis(
        "scenarios of it, 8 directions", 4, lambda engine, n: cells(engine, scenarios=n, directions=8), quick=1
    ),
    "texts": Axis(
        "texts of 16 new tokens, each steered along another direction",
        32, lambda engine, n: vectors.prepare(engine, n, n, 16)(), quick=2,
    ),
    "new tokens": Axis(
        "new tokens of each of 32 texts", 8, lambda engine, n: vectors.prepare(engine, 32, 32, n)(), quick=1
    ),
}  # fmt: skip


def point(axis: str, factor: int, *, quick: bool, repeats: int, device: str) -> dict[str, Any]:
    """Seconds and peak bytes of one size."""
    engine = subjects.engine(subjects.TINY if quick else subjects.SMOLLM2, device=device)
    one = AXES[axis]
    size = one.size(factor, quick=quick)
    run, small = one.prepare(engine, size), one.prepare(engine, one.size(1, quick=quick))
    small()
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    # In a process that did other work before, a peak means nothing.
    peak = None if quick else memory.peak(small, run, device)
    return {"factor": factor, "size": size, "seconds": taken, "peak_bytes": peak}


def measure(given: argparse.Namespace, axis: str) -> list[dict[str, Any]]:
    """Every size of one axis."""
    if given.quick:
        return [point(axis, factor, quick=True, repeats=given.repeats, device=given.device) for factor in QUICK_FACTORS]
    found = []
    for factor in FACTORS:
        asked = ["--point", json.dumps([axis, factor]), "--repeats", str(given.repeats), "--device", given.device]
        found.append(memory.in_process("bench.scale", asked, RESULT, f"{axis} at {factor} times"))
        print(f"{axis} {found[-1]['size']}: {min(found[-1]['seconds']):.2f} s", file=sys.stderr, flush=True)
    return found


def exponent(points: list[dict[str, Any]], of: str) -> float:
    """Slope of a straight line through log size and log time (or bytes): 0 is flat, 1 is proportional."""
    sizes = [math.log(one["size"]) for one in points]
    values = [math.log(max(value(one, of), 1e-9)) for one in points]
    return float(np.polyfit(sizes, values, 1)[0])


def value(one: dict[str, Any], of: str) -> float:
    return float(min(one["seconds"]) if of == "seconds" else one["peak_bytes"] or 0)


def table(results: dict[str, Any]) -> str:
    lines = [
        f"`{results['command']}`, {results['date']}, {results['machine']['processor']}, "
        f"{page.plural(results['machine']['threads'], 'thread')}, {results['model']} in float32. Times are relative to "
        "the first size. An exponent of 0 means flat, 1 proportional.",
        "",
        "| what grows | sizes | first, s | time at 2, 4 and 8 times | exponent | memory above the model, MiB |",
        "|---|---|--:|---|--:|---|",
    ]  # fmt: skip
    for name, points in results["axes"].items():
        seconds = [value(one, "seconds") for one in points]
        sizes = f"{points[0]['size']} to {points[-1]['size']}"
        grown = ", ".join(f"{one / seconds[0]:.2f}" for one in seconds[1:])
        peaks = ", ".join("-" if one["peak_bytes"] is None else f"{one['peak_bytes'] / 2**20:.0f}" for one in points)
        power = exponent(points, "seconds")
        lines.append(f"| {AXES[name].says} | {sizes} | {seconds[0]:.2f} | {grown} | {power:.2f} | {peaks} |")
    return "\n".join([*lines, ""])


def draw(results: dict[str, Any], path: Path) -> None:
    """Time and memory relative to the first size, on logarithmic scales; a dotted line is proportional."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
    colours = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#57606a", "#8c510a")
    markers = "osD^v<>PX"
    for panel, of, title in zip(panels, ("seconds", "bytes"), ("time", "peak memory above the model"), strict=True):
        for place, (name, points) in enumerate(results["axes"].items()):
            values, factors = [value(one, of) for one in points], [one["factor"] for one in points]
            if values[0] > 0:
                panel.plot(
                    factors, [one / values[0] for one in values], color=colours[place % 9], marker=markers[place % 9],
                    linewidth=1.4, markersize=5, label=name,
                )  # fmt: skip
        panel.plot(FACTORS, FACTORS, ":", color=page.GREY, linewidth=1)
        panel.set(xscale="log", yscale="log", xlabel="size, first = 1", title=f"{title}, first size = 1")
        panel.set_xticks(FACTORS, [str(factor) for factor in FACTORS])
        panel.set_yticks((1, 2, 4, 8), ("1", "2", "4", "8"))
        panel.minorticks_off()
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def write(results: dict[str, Any], path: Path) -> None:
    """The table and the figure into a page, in place of an earlier run's."""
    figure = path.parent / "assets" / "scale.png"
    figure.parent.mkdir(exist_ok=True)
    draw(results, figure)
    link = f"![Time and memory against size](assets/{figure.name})\n\n"
    path.write_text(page.replaced(path.read_text("utf-8"), MARK, link + table(results)), encoding="utf-8")


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(AXES), help="axes, with commas between them")
    parser.add_argument("--repeats", type=int, default=2, help="timed calls of each size")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--page", type=Path, help="write the table and the figure into this page")
    parser.add_argument("--out", type=Path, help="the JSON file")
    parser.add_argument("--point", help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.point:
        axis, factor = json.loads(given.point)
        print(RESULT + json.dumps(point(axis, factor, quick=False, repeats=given.repeats, device=given.device)))
        return
    unknown = sorted(set(given.only.split(",")) - set(AXES))
    if unknown:
        parser.error(f"no axis {', '.join(unknown)}; there are {', '.join(AXES)}")
    page.check(parser, given.page, MARK)
    results = {
        "command": "python -m bench.scale",
        "date": datetime.date.today().isoformat(),
        "model": subjects.TINY if given.quick else subjects.SMOLLM2,
        "machine": machine.describe(given.device),
        "versions": machine.versions(),
        "axes": {axis: measure(given, axis) for axis in given.only.split(",")},
    }
    if given.out:
        given.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    if given.page:
        write(results, given.page)
    print(table(results))


if __name__ == "__main__":
    main()
