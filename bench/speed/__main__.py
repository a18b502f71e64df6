"""Measures Heartstrings beside other libraries, and writes JSON, a figure and the tables of docs/speed.md.

    make bench                                            everything (about 50 minutes on two idle cores)
    .venv-bench/bin/python -m bench.speed --only extraction,vectors --rounds 3 --out speed.json
    python -m bench.speed --quick --peers no --out speed.json       seconds, on the smallest organism

Without `--page` the documentation is left alone. `scripts/setup.sh bench` makes the environment with the other
libraries; one that is missing is reported as not installed. A way that gives other numbers than ours stops the run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shlex
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from bench.speed import (
    extraction,
    machine,
    memory,
    page,
    schema,
    start_up,
    subjects,
    sweep_generate,
    sweep_score,
    vectors,
)
from bench.speed.harness import Case, LeftOut, Run, Way, compare

BENCHES: dict[str, ModuleType] = {
    module.NAME: module for module in (extraction, sweep_generate, sweep_score, vectors, start_up)
}
MATMUL_SIZE = {"full": 2048, "quick": 256}


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(BENCHES), help="benches, with commas between them")
    parser.add_argument("--rounds", type=int, help="timed rounds, after one to warm up (3; 1 with --quick)")
    parser.add_argument("--quick", action="store_true", help="little work, on the smallest organism")
    parser.add_argument("--peers", choices=("yes", "no"), default="yes", help="also run the other libraries")
    parser.add_argument("--memory", choices=("yes", "no"), default="yes", help="also measure peak memory")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of torch; all cores if left out")
    parser.add_argument("--out", type=Path, help="the JSON file; default: bench/results/MACHINE.json")
    parser.add_argument("--page", type=Path, help="write tables and figure of --out into this page")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    unknown = sorted(set(given.only.split(",")) - set(BENCHES))
    if unknown:
        parser.error(f"no bench {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    if given.rounds is None:
        given.rounds = 1 if given.quick else 3
    if given.rounds < 1:
        parser.error(f"{given.rounds} rounds; 1 or more are needed")
    page.check(parser, given.page, page.MARK)
    return given


def cases(given: argparse.Namespace, size: str) -> list[Case]:
    """Every case asked for, with its models."""
    found = []
    for name in given.only.split(","):
        module = BENCHES[name]
        for model in (subjects.TINY,) if given.quick and name != start_up.NAME else module.MODELS:
            found.append(module.case(model, size, given.device))
    return found


def without_peers(case: Case) -> Case:
    """The ways of this package and of plain loops stay; the other libraries are named as left out."""

    def left_out() -> Run:
        raise LeftOut("--peers no")

    ways = [
        Way(way.name, left_out, dtype=way.dtype) if way.name.split(",")[0] in machine.PEERS else way
        for way in case.ways
    ]
    return replace(case, ways=tuple(ways))


def measure_memory(given: argparse.Namespace) -> None:
    """The process that `memory.ask` starts."""
    bench, model, name = json.loads(given.memory_of)
    runs = []
    for size in ("one", "quick" if given.quick else "full"):
        case = BENCHES[bench].case(model, size, given.device)
        ways = {way.name: way for way in case.ways}
        if name not in ways:
            sys.exit(
                f"bench.speed: {bench} has no such way: {name}; expected one of: {'; '.join(ways)}; name one of these"
            )
        runs.append(ways[name].prepare())
    print(memory.MARK + json.dumps(memory.peak(*runs, given.device)))


def main(words: list[str] | None = None) -> None:
    warnings.filterwarnings("ignore")  # the libraries' own, about versions
    given = arguments(words)
    if given.threads:
        torch.set_num_threads(given.threads)
    if given.memory_of:
        measure_memory(given)
        return
    began = time.perf_counter()
    size = "quick" if given.quick else "full"
    described = machine.describe(given.device)
    out = given.out or memory.ROOT / "bench" / "results" / f"{machine.label(described)}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, Any]] = []
    results: dict[str, Any] = {
        "schema_version": schema.VERSION,
        "command": "python -m bench.speed " + shlex.join(sys.argv[1:] if words is None else words),
        "date": datetime.date.today().isoformat(),
        "quick": given.quick,
        "rounds": given.rounds,
        "seconds": 0.0,
        "machine": described,
        "versions": machine.versions(),
        "cases": found,
    }
    for case in cases(given, size):
        if given.peers == "no":
            case = without_peers(case)
        needs_rate = case.flops is not None
        gauge = (lambda: machine.gauge(given.device, MATMUL_SIZE[size])) if needs_rate else None
        result = compare(case, rounds=given.rounds, gauge=gauge)
        if case.memory and given.memory == "yes":
            add_memory(given, result)
        found.append(result)
        # After each case, so that an interrupted run leaves what it has measured.
        results["seconds"] = time.perf_counter() - began
        schema.ResultsJson.model_validate(results)
        out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print(page.tables(results))
    if given.page:
        page.write(results, given.page)


def add_memory(given: argparse.Namespace, result: dict[str, Any]) -> None:
    same = ["--device", given.device] + ["--quick"] * given.quick
    if given.threads:
        same += ["--threads", str(given.threads)]
    for entry in result["ways"]:
        if entry["status"] == "measured":
            entry["peak_bytes"] = memory.ask(same, result["bench"], result["model"], entry["name"])


if __name__ == "__main__":
    main()
