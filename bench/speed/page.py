"""The tables and the figure of docs/speed.md, from the JSON of a run."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

MARK = "made by bench.speed"
GPU_MARK = "made by bench.gpu"
TITLES = {
    "extraction": "Means of all layers",
    "sweep_generate": "A dose sweep of written texts",
    "sweep_score": "Cells of a question with two options",
    "steered_decoding": "What steering costs while texts are written",
    "vectors": "Different vectors in a batch of {rows} rows",
    "start_up": "Start-up",
}
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#57606a"
"""Told apart by the colour-blind too (Okabe and Ito); the markers differ as well."""


def write(results: dict[str, Any], path: Path) -> None:
    """Replace what an earlier run wrote into the page, and the figure beside it."""
    figure = path.parent / "assets" / "speed.png"
    figure.parent.mkdir(exist_ok=True)
    draw(results, figure)
    link = f"![Times relative to Heartstrings, and the speed of steered decoding](assets/{figure.name})\n\n"
    path.write_text(replaced(path.read_text("utf-8"), MARK, link + tables(results)), encoding="utf-8")


def replaced(text: str, mark: str, new: str) -> str:
    """The text with `new` between the two comments that name `mark`."""
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"found no place for the tables; expected one {begin} and one {end} in the page; add them")
    head, _, tail = text.partition(begin)
    return f"{head}{begin}\n\n{new}\n{end}{tail.partition(end)[2]}"


def check(parser: argparse.ArgumentParser, path: Path | None, mark: str) -> None:
    """Refuse a page that cannot be written before anything is measured."""
    try:
        if path is not None:
            replaced(path.read_text("utf-8"), mark, "")
    except (OSError, ValueError) as problem:
        parser.error(f"--page {path}: {problem}")


def tables(results: dict[str, Any]) -> str:
    """Where it was measured, then one table a case."""
    return "\n".join([where(results), *(table(case) for case in results["cases"])])


def gpu_tables(results: dict[str, Any]) -> str:
    """The tables of `bench.gpu`, and the contrasts on the GPU beside those on the CPU."""
    found = results["contrasts"]
    if found is None:
        return tables(results) + "\nSmolLM2 is not installed, so contrasts were not compared.\n"
    lines = [
        f"### Contrasts of {found['model']} beside float32 on the CPU", "",
        "| dtype | largest difference | least cosine |", "|---|---|---|",
        *(f"| {dtype} | {found[dtype]['largest_difference']:.0e} | {found[dtype]['least_cosine']:.6f} |"
          for dtype in ("float32", "bfloat16")),
        "", f"{found['emotions']} emotions, {found['stories']} stories. "
        "Differences are relative to a layer's largest value.",
    ]  # fmt: skip
    return "\n".join([tables(results), *lines, ""])


def where(results: dict[str, Any]) -> str:
    machine = results["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    seconds = results["seconds"]
    duration = f"{seconds / 60:.0f} minutes" if seconds > 100 else f"{seconds:.0f} seconds"
    words = [
        f"`{results['command']}`, {results['date']}: {plural(results['rounds'], 'interleaved round')} in {duration}. "
        f"{machine['gpu'] or machine['processor']}, {plural(machine['threads'], 'thread')} of "
        f"{plural(machine['cores'], 'core')}, Python {machine['python']}; {packages}."
    ]
    if (machine["load_before"] or 0) > 0.5:
        words.append(
            f"The machine was busy when the run began (load {machine['load_before']:.1f}), so "
            "the speeds are too low. Ratios are less affected, since the ways take turns."
        )
    return " ".join(words) + "\n"


def table(case: dict[str, Any]) -> str:
    title = TITLES[case["bench"]].format(**case["work"])
    lines = [f"### {title}" + (f": {case['model']}" if case["unit"] else ""), ""]
    columns = [name for name in COLUMNS if any(COLUMNS[name](case, way) for way in case["ways"])]
    lines += [f"| way | {' | '.join(heading(name, case) for name in columns)} |", "|---" * (len(columns) + 1) + "|"]
    for way in case["ways"]:
        if way["status"] != "measured":
            lines.append(f"| {way['name']} | {' | '.join([way['status']] + [''] * (len(columns) - 1))} |")
            continue
        lines.append(f"| {way['name']} | {' | '.join(COLUMNS[name](case, way) or '' for name in columns)} |")
    return "\n".join([*lines, "", below(case), ""])


def heading(name: str, case: dict[str, Any]) -> str:
    return {
        "rate": f"{case['unit']} a second",
        "seconds": "seconds (range)",
        "over": f"time, {case['ways'][0]['name']} = 1 (range)",
        "share": "share of the matrix products' rate",
        "memory": "memory above the model",
        "error": "largest difference",
    }[name]


def _rate(case: dict[str, Any], way: dict[str, Any]) -> str:
    return number(way["rate"]["median"]) if way.get("rate") else ""


def _seconds(case: dict[str, Any], way: dict[str, Any]) -> str:
    if case["unit"] or not way.get("seconds"):
        return ""
    ranked = sorted(way["seconds"])
    middle = (ranked[len(ranked) // 2] + ranked[(len(ranked) - 1) // 2]) / 2
    return f"{middle:.2f} ({ranked[0]:.2f} to {ranked[-1]:.2f})"


def _over(case: dict[str, Any], way: dict[str, Any]) -> str:
    over = way.get("time_over_first")
    if not over or not case["unit"]:
        return ""
    if way["name"] == case["ways"][0]["name"]:
        return "1"
    return f"{over['median']:.2f} ({over['low']:.2f} to {over['high']:.2f})"


def _share(case: dict[str, Any], way: dict[str, Any]) -> str:
    return f"{way['share_of_matmul']['median']:.0%}" if way.get("share_of_matmul") else ""


def _memory(case: dict[str, Any], way: dict[str, Any]) -> str:
    return f"{way['peak_bytes'] / 2**20:.0f} MiB" if way.get("peak_bytes") is not None else ""


def _error(case: dict[str, Any], way: dict[str, Any]) -> str:
    if way.get("error") is None or way["name"] == case["ways"][0]["name"]:
        return ""
    if case["bench"] == "sweep_generate":
        return "same tokens" if way["error"] == 0 else f"{way['error']:.0%} of the texts"
    if way["error"] == 0:
        return "0"
    return f"{way['error']:.0e}"


COLUMNS = {"rate": _rate, "seconds": _seconds, "over": _over, "share": _share, "memory": _memory, "error": _error}


def below(case: dict[str, Any]) -> str:
    """What was done, how operations are counted, and the notes of ways."""
    work = case["work"]
    said = {
        "extraction": "{texts} texts of {tokens} tokens, {layers} layers of width {width}, from token {from_token} on.",
        "sweep_generate": "{settings} settings x {prompts} prompts x {new_tokens} new tokens, at block {layer}.",
        "sweep_score": "{layers} layers x {doses} doses x {directions} directions; a prompt of {prompt_tokens} tokens.",
        "vectors": "{rows} rows x {new_tokens} new tokens, steered at block {layer}.",
        "steered_decoding": "{rows} rows x {new_tokens} new tokens, steered at block {layer}.",
    }.get(case["bench"], "")
    words = [said.format(**work)] if said else []
    if case["matmul"] and case["flops"]:
        rates = " and ".join(
            f"{spread['median'] / 1e9:.0f} GFLOP/s in {name}" for name, spread in case["matmul"].items()
        )
        words.append(f"Square matrix products reached {rates} in the same rounds.")
        first = case["ways"][0]["dtype"]
        rate = case["matmul"][first]["median"] * case["units"] / case["flops"]
        words.append(
            f"At that rate {number(rate)} {case['unit']} a second would be the limit in {first} "
            f"({case['flops_counted']})."
        )
    flat = case.get("flat")
    if flat:
        verdict = "The aim is met" if flat["holds"] else "The aim is missed"
        words.append(
            f"{verdict}: within {flat['within']:.0%} of the unsteered time (largest ratio {flat['largest']:.2f})."
        )
    words += [f"{way['name']}: {way['note']}." for way in case["ways"] if way["note"]]
    return " ".join(words)


def plural(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def draw(results: dict[str, Any], path: Path) -> None:
    """Times relative to ours with their ranges, a panel a case; the speed of decoding by the number of vectors."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    shown = [case for case in results["cases"] if case["unit"]]
    if not shown:
        return
    heights = [1.2 + 0.34 * len(case["ways"]) for case in shown]
    figure, panels = pyplot.subplots(
        len(shown), 1, figsize=(9, sum(heights)), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for case, panel in zip(shown, panels[:, 0], strict=True):
        panel.set_title(f"{TITLES[case['bench']].format(**case['work'])}, {case['model']}", loc="left", fontsize=10)
        if case["bench"] == "vectors":
            draw_vectors(case, panel)
        else:
            draw_ratios(case, panel)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=9)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def draw_ratios(case: dict[str, Any], panel: Any) -> None:
    names = [way["name"] for way in case["ways"]]
    for place, way in enumerate(case["ways"]):
        over = way.get("time_over_first")
        if not over:
            panel.text(0.05, place, way["status"], va="center", fontsize=9, color=GREY)
            continue
        own = way["name"].startswith("heartstrings")
        colour, marker = (BLUE, "o") if own else (ORANGE, "s")
        panel.plot([over["low"], over["high"]], [place, place], color=colour, linewidth=2)
        panel.plot([over["median"]], [place], marker, color=colour, markersize=6)
    panel.axvline(1, color=GREY, linewidth=1, linestyle=":")
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_xlim(left=0)
    panel.set_xlabel(f"time, {names[0]} = 1; marker: median, line: range of the rounds", fontsize=9)


def draw_vectors(case: dict[str, Any], panel: Any) -> None:
    names = [way["name"] for way in case["ways"]]
    for place, way in enumerate(case["ways"]):
        rate = way["rate"]
        panel.plot([place, place], [rate["low"], rate["high"]], color=BLUE, linewidth=2)
        panel.plot([place], [rate["median"]], "o", color=BLUE, markersize=6)
    panel.set_xticks(range(len(names)), [re.sub(" vectors?", "", name) for name in names])
    panel.set_xlim(-0.5, len(names) - 0.5)
    panel.set_ylim(bottom=0)
    panel.set_xlabel("different vectors in the batch; marker: median, line: range of the rounds", fontsize=9)
    panel.set_ylabel(f"{case['unit']} a second", fontsize=9)
