"""Bad input at the command line: one clear line, a non-zero exit, no traceback, nothing half-written.

Files that are damaged in themselves are in test_bad_input_files.py; here it is flags, folders and models.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from safetensors.torch import load_file, save_file

import models
from heartstrings import cli
from heartstrings.cli import _console as console

TEXT = "the rain had stopped and she walked home along the grey river with the others while it grew dark again"
WORDS = TEXT.split()


def run(*args: str) -> int:
    """The command in this process: a fresh interpreter a case would take minutes."""
    command = typer.main.get_command(cli.app)
    return console.guarded(lambda: command.main(args=[*args], prog_name="heartstrings", standalone_mode=False))


def write_stories(path: Path, *, emotions: tuple[str, ...] = ("calm", "angry", "sad"), words: int = 90) -> Path:
    rng = np.random.default_rng(0)
    rows = [
        {"emotion": emotion, "topic": f"topic {t}", "text": " ".join(rng.choice(WORDS, words)) + ".", "author": "test"}
        for emotion in emotions
        for t in range(4)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.folder(tmp_path_factory.mktemp("model") / "tiny", "llama")


@pytest.fixture(scope="module")
def bundle(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    stories = write_stories(folder / "stories.jsonl")
    assert (
        run("extract", str(model), "--stories", str(stories), "--no-neutral", "--out", str(folder / "b"), "--json") == 0
    )
    return folder / "b"


Case = tuple[str, Callable[[Path, Path], list[str]], str]


def extract(model: Path, folder: Path, *more: str, stories: Path | None = None) -> list[str]:
    stories = stories or write_stories(folder / "stories.jsonl")
    return ["extract", str(model), "--stories", str(stories), "--out", str(folder / "out"), "--no-neutral", *more]


def text_file(name: str, text: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_text(text, encoding="utf-8")
        return folder / name

    return make


def stories_of(text: str) -> Callable[[Path, Path], list[str]]:
    return lambda model, folder: extract(model, folder, stories=text_file("s.jsonl", text)(folder))


def nan_model(model: Path, folder: Path) -> list[str]:
    broken = folder / "nan"
    broken.mkdir()
    for file in model.iterdir():
        if file.name != "model.safetensors":
            (broken / file.name).write_bytes(file.read_bytes())
    weights = load_file(model / "model.safetensors")
    next(iter(weights.values())).fill_(torch.nan)
    save_file(weights, broken / "model.safetensors", metadata={"format": "pt"})
    return extract(broken, folder)


def pickled_model(model: Path, folder: Path) -> list[str]:
    broken = folder / "pickled"
    broken.mkdir()
    for file in model.iterdir():
        if file.name != "model.safetensors":
            (broken / file.name).write_bytes(file.read_bytes())
    torch.save(load_file(model / "model.safetensors"), broken / "pytorch_model.bin")
    return extract(broken, folder)


def unknown_architecture(model: Path, folder: Path) -> list[str]:
    broken = folder / "unknown"
    broken.mkdir()
    for file in model.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    config = json.loads((broken / "config.json").read_text())
    config |= {"model_type": "no-such-model", "architectures": ["NoSuchModel"]}
    (broken / "config.json").write_text(json.dumps(config))
    return extract(broken, folder)


def torn_weights(model: Path, folder: Path) -> list[str]:
    broken = folder / "torn"
    broken.mkdir()
    for file in model.iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    whole = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    return extract(broken, folder)


def no_tokenizer(model: Path, folder: Path) -> list[str]:
    broken = folder / "untokenized"
    broken.mkdir()
    for file in model.iterdir():
        if not file.name.startswith(("token", "special", "chat")):
            (broken / file.name).write_bytes(file.read_bytes())
    return extract(broken, folder)


ONE = json.dumps({"emotion": "calm", "topic": "t", "text": " ".join(WORDS * 4) + ".", "author": "a"}) + "\n"

CASES: list[Case] = [
    ("no verb like it", lambda m, f: ["extrakt"], "extrakt"),
    ("no flag like it", lambda m, f: extract(m, f, "--offsett", "3"), "offsett"),
    ("flag without value", lambda m, f: extract(m, f, "--offset"), "offset"),
    ("flag not a number", lambda m, f: extract(m, f, "--offset", "many"), "--offset.*integer"),
    ("negative offset", lambda m, f: extract(m, f, "--offset", "-1"), "offset"),
    ("unknown pooling", lambda m, f: extract(m, f, "--pooling", "middle"), "from, window, centred"),
    ("window without end", lambda m, f: extract(m, f, "--pooling", "window"), "--stop"),
    ("end without window", lambda m, f: extract(m, f, "--stop", "90"), "--stop"),
    ("empty window", lambda m, f: extract(m, f, "--pooling", "window", "--stop", "20"), "offset"),
    ("unknown weighting", lambda m, f: extract(m, f, "--weighting", "words"), "story, token"),
    ("unknown site", lambda m, f: extract(m, f, "--site", "head"), "block, attention, mlp"),
    ("layer out of range", lambda m, f: extract(m, f, "--layers", "99"), "99"),
    ("layers no numbers", lambda m, f: extract(m, f, "--layers", "first"), "first"),
    ("no layer selected", lambda m, f: extract(m, f, "--layers", "9:9"), "no layer"),
    ("unknown dtype", lambda m, f: extract(m, f, "--dtype", "float7"), "float7"),
    ("budget of nothing", lambda m, f: extract(m, f, "--token-budget", "0"), "token"),
    ("no tokens at all", lambda m, f: extract(m, f, "--max-tokens", "0"), "max_tokens|max-tokens|tokens"),
    ("no model folder", lambda m, f: extract(f / "nothing", f), "nothing"),
    ("folder without config", lambda m, f: extract(f, f), "config"),
    ("unknown organism", lambda m, f: ["atlas", "organism:happy", "--out", str(f / "out")], "steerable"),
    ("hub model not at hand", lambda m, f: ["info", "no-such-owner/no-such-model"], "no-such-owner/no-such-model"),
    ("unknown architecture", unknown_architecture, "no-such-model"),
    ("NaN weights", nan_model, "NaN"),
    ("torn weights", torn_weights, "[Ss]afetensor|weights"),
    ("pickled weights", pickled_model, "safetensors"),
    ("no tokenizer", no_tokenizer, "tokenizer"),
    ("no stories file", lambda m, f: extract(m, f, stories=f / "none.jsonl"), "none.jsonl"),
    ("stories of its own, to extract from", lambda m, f: ["extract", str(m), "--stories", "self", "--out",
                                                          str(f / "out")], "heartstrings stories"),
    ("its own stories and a file", lambda m, f: ["atlas", str(m), "--generate", "--stories",
                                                 str(write_stories(f / "s.jsonl")), "--out", str(f / "out")], "one of"),
    ("stories on no topic", lambda m, f: ["atlas", str(m), "--stories", "self", "--topics", "0", "--out",
                                          str(f / "out")], "1 to 100"),
    ("empty stories file", stories_of(""), "s.jsonl"),
    ("bad JSON in line 2", stories_of(ONE + "{oops\n"), "2"),
    ("JSON but no story", stories_of("[1, 2]\n"), "1"),
    ("story without text", stories_of(json.dumps({"emotion": "calm", "topic": "t"}) + "\n"), "text|stories"),
    ("one emotion", stories_of(ONE), "emotion"),
    ("texts of a few tokens", stories_of("".join(json.dumps({"emotion": e, "topic": "t", "text": "It rained."}) + "\n"
                                               for e in ("calm", "sad"))), "offset"),
    ("all stories too short", lambda m, f: extract(m, f, "--offset", "5000"), "offset"),
    ("no neutral file", lambda m, f: [*extract(m, f)[:-1], "--neutral", str(f / "no.txt")], "no.txt"),
    ("empty neutral file", lambda m, f: [*extract(m, f)[:-1], "--neutral", str(text_file("n.txt", "")(f))], "n.txt"),
    ("neutral texts too short", lambda m, f: [*extract(m, f)[:-1], "--neutral",
                                              str(text_file("n.txt", "Water is wet.\nIce is cold.\n")(f))], "neutral"),
    ("no bundle", lambda m, f: ["geometry", str(f / "none")], "none"),
    ("folder is no bundle", lambda m, f: ["geometry", str(f)], "bundle"),
    ("info on nothing", lambda m, f: ["info", str(f)], "bundle.json"),
    ("one bundle to compare", lambda m, f: ["compare", str(f)], "two"),
    ("no file to import", lambda m, f: ["import", str(f / "v.npz"), "--out", str(f / "out")], "v.npz"),
    ("a file of no format",
     lambda m, f: ["import", str(text_file("v.npz", "hello")(f)), "--out", str(f / "out")], "v.npz"),
    ("no settings file", lambda m, f: extract(m, f, "--config", str(f / "c.toml")), "c.toml"),
    ("settings with a typo",
     lambda m, f: extract(m, f, "--config", str(text_file("c.toml", "[extract]\nofset=3\n")(f))), "offset"),
    ("model named twice", lambda m, f: ["atlas", str(m), str(m), "--out", str(f / "out")], "twice"),
    ("no scenarios file", lambda m, f: ["atlas", str(m), "--scenarios", str(f / "sc.jsonl"), "--stories",
                                        str(write_stories(f / "s.jsonl")), "--out", str(f / "out")], "sc.jsonl"),
    ("too many topics", lambda m, f: ["stories", str(m), "--topics", "101", "--out", str(f / "out")], "100"),
    ("endpoint no URL", lambda m, f: ["stories", "m", "--endpoint", "localhost", "--out", str(f / "out")], "localhost"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "says"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_one_clear_error(
    arguments: Callable[[Path, Path], list[str]],
    says: str,
    model: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    args = arguments(model, tmp_path)
    capfd.readouterr()
    code = run(*args)
    output, errors = capfd.readouterr()
    assert code not in (0, 70), errors
    assert errors.count("error:") == 1, errors
    assert "Traceback" not in errors + output
    assert re.search(says, errors), errors
    assert output == ""
    left = sorted(p for p in (tmp_path / "out").rglob("*") if p.is_file()) if (tmp_path / "out").exists() else []
    assert [p for p in left if p.name in {"bundle.json", "vectors.safetensors", "geometry.json", "report.html"}] == []


BUNDLE_CASES: list[Case] = [
    ("no such emotion", lambda b, f: ["export", str(b), "--direction", "calmm", "--out", str(f / "v.npz")], "calm"),
    ("not an expression",
     lambda b, f: ["export", str(b), "--direction", "calm -", "--out", str(f / "v.npz")], "calm -"),
    ("no such format", lambda b, f: ["export", str(b), "--format", "xml", "--out", str(f / "v.npz")], "xml"),
    ("no such variant", lambda b, f: ["export", str(b), "--variant", "denoised", "--out", str(f / "v.npz")], "raw"),
    ("no such ratings", lambda b, f: ["geometry", str(b), "--ratings", str(f / "r.csv")], "r.csv"),
    ("ratings without valence", lambda b, f: ["geometry", str(b), "--ratings",
                                              str(text_file("r.csv", "emotion,x\ncalm,1\n")(f))], "valence"),
    ("ratings of other words",
     lambda b, f: ["geometry", str(b), "--ratings",
                   str(text_file("r.csv", "emotion,valence,arousal\nx,.1,.2\ny,.3,.1\n")(f))], "rated"),
    ("the same bundle twice", lambda b, f: ["compare", str(b), str(b)], "twice"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "says"), [c[1:] for c in BUNDLE_CASES], ids=[c[0] for c in BUNDLE_CASES])
def test_one_clear_error_about_a_bundle(
    arguments: Callable[[Path, Path], list[str]],
    says: str,
    bundle: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    args = arguments(bundle, tmp_path)
    assert run(*args) not in (0, 70)
    output, errors = capfd.readouterr()
    assert errors.count("error:") == 1, errors
    assert "Traceback" not in errors + output
    assert re.search(says, errors), errors
    assert not (tmp_path / "v.npz").exists()


def test_other_stories_do_not_overwrite(
    bundle: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = (bundle / "vectors.safetensors").read_bytes()
    other = write_stories(tmp_path / "other.jsonl", words=80)
    assert run("extract", str(model), "--stories", str(other), "--no-neutral", "--out", str(bundle)) not in (0, 70)
    assert "--overwrite" in capfd.readouterr().err
    assert (bundle / "vectors.safetensors").read_bytes() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(*extract(model, tmp_path, "--device", "cuda")) not in (0, 70)
    assert "cuda" in capfd.readouterr().err.lower()


@pytest.mark.slow
def test_full_disk(model: Path, tmp_path: Path) -> None:
    """A file system with no room: one error, exit code not 0, no bundle; it goes on once there is room."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(small)], capture_output=True).returncode
        == 0
    )
    if not mounted:
        pytest.skip("mounting a small file system needs root")
    args = [*extract(model, tmp_path)]
    args[args.index("--out") + 1] = str(small / "out")
    command = [sys.executable, "-m", "heartstrings", *args]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode not in (0, 70), done.stderr
        assert "disk is full" in done.stderr or "space" in done.stderr.lower(), done.stderr
        assert "Traceback" not in done.stderr
        assert not list(small.rglob("bundle.json"))
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_file_too_large_for_the_limits(model: Path, tmp_path: Path) -> None:
    """As above for users who cannot mount: the operating system refuses to let a file grow."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # noqa: E731
    command = [sys.executable, "-m", "heartstrings", *extract(model, tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, preexec_fn=limit)
    assert done.returncode not in (0, 70), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error:") == 1
    assert not list((tmp_path / "out").rglob("bundle.json"))


def test_a_folder_that_may_not_be_written(model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("in the way")
    args = extract(model, tmp_path)
    args[args.index("--out") + 1] = str(tmp_path / "file" / "out")
    assert run(*args) not in (0, 70)
    assert "error:" in capfd.readouterr().err


def test_interrupt(model: Path, tmp_path: Path) -> None:
    """Ctrl-C: exit code 130 and a word on how to go on."""
    code = (
        # Interrupted while the model is being loaded: after the command line is up, long before it is done.
        "import os, signal, sys, time; from heartstrings import cli; from heartstrings.workflows import atlas\n"
        # It sleeps, since another thread may take the signal and tell this one a moment later.
        "atlas.open_model = lambda *a, **k: (os.kill(os.getpid(), signal.SIGINT), time.sleep(20))\n"
        "cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *extract(model, tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ,
    )
    assert done.returncode == 130, done.stderr
    assert "run the same command again" in done.stderr
