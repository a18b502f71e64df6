"""`make bench` at its quick setting: what it writes has its schema, and a way with other numbers stops it.

No test looks at a time: whatever they are, they are only checked to be there.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench import gpu, scale
from bench.speed import __main__ as speed
from bench.speed import extraction, harness, machine, memory, page, schema, subjects, sweep_generate, sweep_score
from bench.speed.harness import Case, LeftOut, Way, WrongNumbers, compare, relative

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["--quick", "--peers", "no", "--memory", "no", "--rounds", "1"]


def run(tmp_path: Path, *words: str) -> schema.ResultsJson:
    out = tmp_path / "speed.json"
    speed.main([*QUICK, *words, "--out", str(out)])
    return schema.ResultsJson.model_validate_json(out.read_text("utf-8"))


def blank_page(tmp_path: Path) -> Path:
    path = tmp_path / "docs" / "speed.md"
    path.parent.mkdir()
    marks = (f"<!-- {mark}: {end} -->" for mark in (page.MARK, page.GPU_MARK) for end in ("begin", "end"))
    path.write_text("\n".join(["# Speed", *marks, "The end."]), encoding="utf-8")
    return path


def test_the_quick_setting_measures_checks_and_writes_the_page(tmp_path: Path) -> None:
    path = blank_page(tmp_path)
    found = run(tmp_path, "--page", str(path))
    assert [case.bench for case in found.cases] == list(speed.BENCHES)
    assert found.quick
    assert found.rounds == 1
    assert set(found.versions) == set(machine.PACKAGES)
    assert found.machine["threads"] == torch.get_num_threads()
    for case in found.cases:
        for way in case.ways:
            if way.name.split(",")[0] in machine.PEERS:
                assert way.status == "left out"
                assert way.why == "--peers no"
                continue
            assert way.status == "measured"
            assert way.seconds is not None
            assert len(way.seconds) == 1
            assert way.seconds[0] > 0
            if way.tolerance is not None:
                assert way.error is not None
                assert way.error <= way.tolerance
    by_name = {case.bench: case for case in found.cases}
    assert {way.name for way in by_name["extraction"].ways} >= {"heartstrings", *machine.PEERS}
    assert set(by_name["extraction"].matmul) == {"float32", "bfloat16"}
    assert all(way.share_of_matmul for way in by_name["extraction"].ways if way.status == "measured")
    assert by_name["vectors"].flat is not None
    text = path.read_text("utf-8")
    assert text.startswith("# Speed")
    assert text.endswith("The end.")
    for case in found.cases:
        assert all(f"| {way.name} |" in text for way in case.ways)
    assert "(assets/speed.png)" in text
    assert (path.parent / "assets" / "speed.png").read_bytes().startswith(b"\x89PNG")
    # Another run takes the place of the first.
    page.write(found.model_dump(), path)
    assert path.read_text("utf-8").count("### Start-up") == 1


def slightly(result: Any) -> Any:
    return result * (1 + 1e-3)


def one_token_off(result: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
    return [(*result[0][:-1], result[0][-1] + 1), *result[1:]]


@pytest.mark.parametrize(
    ("module", "function", "wrong"),
    [
        (extraction, "base_loop", slightly),
        (extraction, "file_loop", slightly),
        (sweep_generate, "hooked", one_token_off),
        (sweep_score, "a_pass_a_cell", slightly),
    ],
    ids=lambda value: getattr(value, "NAME", None) or getattr(value, "__name__", value),
)
def test_a_way_with_other_numbers_stops_the_run(
    module: Any, function: str, wrong: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(module, function)

    def changed(*given: Any) -> Any:
        way = right(*given)
        return lambda: wrong(way())

    monkeypatch.setattr(module, function, changed)
    with pytest.raises(
        WrongNumbers, match=rf"^{module.NAME}, organism:steerable: the numbers of .* differ from those of"
    ):
        run(tmp_path, "--only", module.NAME)
    assert not (tmp_path / "speed.json").exists()


def test_means_are_compared_where_both_define_them_alike() -> None:
    """An attention sink is left out of our mean only, so the mean of its text and layer is not compared."""
    values = np.ones((4, 3, 2), np.float32)
    plain = np.ones((4, 3), np.bool_)
    plain[1, 0] = False
    reference = extraction.Means(values, plain)
    other = values.copy()
    other[1, 0] = 5
    assert extraction.all_layers(other, reference) == 0
    other[2, 2] = 2
    assert extraction.all_layers(other, reference) == 1
    assert extraction.blocks_only(other, reference) == 0
    assert extraction.all_layers(other[:3], reference) == float("inf")
    assert extraction.all_layers(values, extraction.Means(values, np.zeros_like(plain))) == float("inf")


def test_numbers_that_are_not_finite_are_wrong() -> None:
    assert relative(np.array([1.0, np.nan]), np.ones(2)) == float("inf")
    assert relative(np.ones(3), np.ones(2)) == float("inf")
    assert relative(np.array([1.0, 1.5]), np.array([1.0, 2.0])) == 0.25


def test_the_ways_take_turns_and_are_compared_in_every_round() -> None:
    ran: list[str] = []

    def way(name: str, results: list[float]) -> Way:
        def once() -> np.ndarray:
            ran.append(name)
            return np.array([results[min(ran.count(name), len(results)) - 1]])

        return Way(name, lambda: once, relative, 1e-4)

    case = Case("made up", "none", (way("ours", [1.0]), way("theirs", [1.0])), unit="numbers", units=10)
    found = compare(case, rounds=6)
    assert ran[:2] == ["ours", "theirs"]
    rounds = [tuple(ran[start : start + 2]) for start in range(0, len(ran), 2)]
    assert all(sorted(one) == ["ours", "theirs"] for one in rounds)
    assert len(set(rounds)) == 2
    assert [len(entry["seconds"]) for entry in found["ways"]] == [6, 6]
    ran.clear()
    late = Case("made up", "none", (way("ours", [1.0]), way("theirs", [1.0, 1.0, 2.0])))
    with pytest.raises(WrongNumbers, match="theirs"):
        compare(late, rounds=3)


def test_a_library_that_is_missing_is_reported() -> None:
    def absent() -> Any:
        raise ModuleNotFoundError("No module named 'peer'")

    def unwanted() -> Any:
        raise LeftOut("--peers no")

    ours = Way("ours", lambda: lambda: 1)
    case = Case("extraction", "none", (ours, Way("peer", absent), Way("other", unwanted)), unit="tokens")
    found = compare(case, rounds=1)
    assert [entry["status"] for entry in found["ways"]] == ["measured", "not installed", "left out"]
    assert found["ways"][1]["why"] == "No module named 'peer'"
    assert "| peer | not installed |" in page.table({**found, "work": dict.fromkeys(WORK, 1)})
    schema.CaseJson.model_validate(found)


WORK = ("texts", "tokens", "layers", "width", "from_token")


def test_a_peer_that_breaks_stops_the_run() -> None:
    def broken() -> Any:
        raise TypeError("another version of the library")

    with pytest.raises(TypeError, match="another version"):
        compare(Case("made up", "none", (Way("ours", lambda: lambda: 1), Way("peer", broken))), rounds=1)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from proc(5)")
def test_peak_memory_is_that_of_the_work() -> None:
    def full() -> None:
        for _ in range(3):
            np.ones(2**23).sum()  # 64 MiB, one after the other

    used = memory.peak(lambda: None, full, "cpu")
    assert used is not None
    assert 60 * 2**20 < used < 100 * 2**20


def test_the_memory_of_one_way_is_measured_in_a_process() -> None:
    name = "loop, sorted batches of 8, base model"
    used = memory.ask(["--quick"], "extraction", subjects.TINY, name)
    if Path("/proc/self/clear_refs").exists():
        assert used is not None
        assert 2**20 < used < 2**28
    with pytest.raises(RuntimeError, match="no such way"):
        memory.ask(["--quick"], "extraction", subjects.TINY, "no such way")


def test_a_borrowed_model_shares_weights_and_nothing_else() -> None:
    model = subjects.engine(subjects.TINY).model
    other = subjects.borrowed(model)
    assert [id(one) for one in other.parameters()] == [id(one) for one in model.parameters()]
    assert not {id(module) for module in other.modules()} & {id(module) for module in model.modules()}


def test_an_unknown_bench_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        speed.main(["--only", "extraction,nothing"])
    assert "no bench nothing; there are extraction, sweep_generate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bench", "quick"), [(speed, ["--quick"]), (scale, ["--quick"]), (gpu, ["--device", "cpu", "--tiny"])]
)
def test_a_page_that_cannot_be_written_is_refused_before_anything_is_measured(
    bench: Any, quick: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "page.md"
    for said in ("No such file", "found no place for the tables"):
        with pytest.raises(SystemExit):
            bench.main([*quick, "--page", str(path)])
        assert said in capsys.readouterr().err
        path.write_text("# Speed", encoding="utf-8")


def test_a_page_without_a_place_for_the_tables_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected one <!-- made by bench\.speed: begin -->"):
        page.replaced("# Speed", page.MARK, "table")


def test_the_page_has_its_places_and_stored_results_their_schema() -> None:
    text = (ROOT / "docs" / "speed.md").read_text("utf-8")
    for mark in (page.MARK, page.GPU_MARK):
        assert page.replaced(text, mark, "") != ""
    assert ("(assets/speed.png)" in text) == (ROOT / "docs" / "assets" / "speed.png").exists()
    assert re.search(r"^bench:.*\n\t@scripts/setup.sh bench\n\t.*--page docs/speed.md$", makefile(), re.MULTILINE)
    for path in (ROOT / "bench" / "results").glob("*.json"):
        kind = schema.GpuJson if "contrasts" in json.loads(path.read_text("utf-8")) else schema.ResultsJson
        kind.model_validate_json(path.read_text("utf-8"))


def makefile() -> str:
    return (ROOT / "Makefile").read_text("utf-8")


def test_the_gpu_bench_runs_at_a_tiny_size(tmp_path: Path) -> None:
    out, path = tmp_path / "gpu.json", blank_page(tmp_path)
    gpu.main(["--device", "cpu", "--tiny", "--rounds", "1", "--out", str(out), "--page", str(path)])
    found = schema.GpuJson.model_validate_json(out.read_text("utf-8"))
    assert [case.bench for case in found.cases] == ["extraction", "steered_decoding", "sweep_generate"]
    assert all(way.status == "measured" for case in found.cases for way in case.ways)
    assert found.contrasts is not None
    assert found.contrasts["float32"]["largest_difference"] < 1e-5
    assert found.contrasts["bfloat16"]["least_cosine"] > 0.99
    assert "### Contrasts of organism:steerable" in path.read_text("utf-8")


def test_the_gpu_bench_refuses_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="torch finds no CUDA device; one GPU with 40 GB or more was expected; run it"):
        gpu.main([])


def test_the_gpu_bench_notices_other_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    right = extraction.single_loop

    def changed(*given: Any) -> Any:
        way = right(*given)
        return lambda: 2 * way()

    monkeypatch.setattr(extraction, "single_loop", changed)
    with pytest.raises(harness.WrongNumbers, match="loop over single texts"):
        gpu.main(["--device", "cpu", "--tiny", "--rounds", "1", "--out", str(tmp_path / "gpu.json")])
