"""The verbs, end to end, on tiny random models and on the bundled organisms."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import typer

import models
from heartstrings import cli
from heartstrings.cli import _console as console
from heartstrings.corpus import calibration_texts, shipped_neutral, shipped_stories
from heartstrings.vectors.emotion_vectors import EmotionVectors
from heartstrings.workflows import atlas


def run(*args: str) -> int:
    command = typer.main.get_command(cli.app)
    return console.guarded(lambda: command.main(args=[*args], prog_name="heartstrings", standalone_mode=False))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, stories and neutral texts in one folder."""
    folder = tmp_path_factory.mktemp("cli")
    models.folder(folder / "model", "llama")
    emotions = ("calm", "angry", "sad", "joyful", "afraid", "at ease")
    texts = models.stories(len(emotions) * 4, words=(60, 90), seed=1)
    rows = [
        {"emotion": emotions[i % 6], "topic": f"topic {i // 6}", "text": text + ".", "author": "nobody"}
        for i, text in enumerate(texts)
    ]
    (folder / "stories.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (folder / "neutral.txt").write_text("\n".join(models.stories(8, words=(60, 90), seed=2)), encoding="utf-8")
    return folder


def extract(tiny: Path, out: Path, *more: str) -> int:
    return run(
        "extract", str(tiny / "model"), "--stories", str(tiny / "stories.jsonl"),
        "--neutral", str(tiny / "neutral.txt"), "--out", str(out), *more,
    )  # fmt: skip


def printed(capfd: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capfd.readouterr().out)


def test_extract_and_its_promised_names(tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert extract(tiny, tmp_path / "b", "--weighting", "token", "--offset", "40", "--json") == 0
    said = printed(capfd)
    assert said["emotions"] == 6
    assert said["pooling"] == "from40"
    vectors = EmotionVectors.load(tmp_path / "b")
    assert vectors.emotions == ("afraid", "angry", "at ease", "calm", "joyful", "sad")
    assert vectors.layers == (0, 1, 2, 3)
    assert vectors.vector("at ease", layer=2, variant="denoised").dtype == np.float32
    assert vectors.provenance.weighting == "token"
    assert not (tmp_path / "b" / ".work").exists()


def test_geometry_json_schema(tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The names that other programs rely on."""
    assert extract(tiny, tmp_path / "b") == 0
    capfd.readouterr()
    ratings = tmp_path / "r.csv"
    words = ("calm,.6,-.8", "angry,-.7,.7", "sad,-.8,-.3", "joyful,.9,.5", "afraid,-.8,.6", "at ease,.7,-.6")
    ratings.write_text("emotion,valence,arousal\n" + "\n".join(words) + "\n", encoding="utf-8")
    assert run("geometry", str(tmp_path / "b"), "--ratings", str(ratings), "--permutations", "99", "--json") == 0
    layers = printed(capfd)["layers"]
    assert [(one["layer"], one["variant"]) for one in layers] == [
        (layer, variant) for variant in ("raw", "denoised") for layer in range(4)
    ]
    for one in layers:
        assert {"r", "low", "high", "n"} <= one["pc1_valence"].keys()
        assert {"r", "low", "high", "n"} <= one["pc2_arousal"].keys()
        assert {"component", "r", "p"} <= one["best_valence"].keys()
        assert "readout_valence_r2" in one
        assert one["finding"] in {"pc1", "other component", "linear only", "absent"}
        assert one["pc1_valence"]["n"] == 6


def test_settings_file_stands_for_flags(tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "run.toml"
    settings.write_text(
        f'stories = "{tiny / "stories.jsonl"}"\nno-neutral = true\n[extract]\noffset = 45\nlayers = "1,3"\n'
        f'out = "{tmp_path / "b"}"\n',
        encoding="utf-8",
    )
    assert run("extract", str(tiny / "model"), "--config", str(settings), "--offset", "42", "--json") == 0
    said = printed(capfd)
    assert said["layers"] == [1, 3]
    assert said["pooling"] == "from42"  # the command line has the last word
    assert said["variants"] == ["raw"]


@pytest.mark.slow
def test_export_import_info_compare(tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert extract(tiny, tmp_path / "one") == 0
    assert extract(tiny, tmp_path / "two", "--pooling", "window", "--stop", "58") == 0
    assert run("export", str(tmp_path / "one"), "--out", str(tmp_path / "v.npz")) == 0
    assert run("import", str(tmp_path / "v.npz"), "--out", str(tmp_path / "back")) == 0
    one, back = EmotionVectors.load(tmp_path / "one"), EmotionVectors.load(tmp_path / "back")
    np.testing.assert_allclose(back.raw, one.raw, rtol=0, atol=1e-6)
    capfd.readouterr()
    assert run("info", str(tmp_path / "one"), "--json") == 0
    assert printed(capfd)["provenance"]["pooling"]["start"] == 50
    assert run("info", str(tiny / "model"), "--json") == 0
    assert printed(capfd)["n_layers"] == 4
    folders = [str(tmp_path / "one"), str(tmp_path / "two")]
    assert run("compare", *folders, "--permutations", "99", "--out", str(tmp_path / "side"), "--json") == 0
    said = printed(capfd)
    assert said["n_common"] == 6
    assert said["pairs"][0]["same_space"] is True
    assert Path(said["report"]).stat().st_size > 100_000


def test_geometry_with_the_model_and_with_another(
    tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The logit lens needs the model; another one is refused, unless forced, and then it is said."""
    assert extract(tiny, tmp_path / "b") == 0
    other = models.folder(tmp_path / "other", "llama", seed=1)
    args = ("geometry", str(tmp_path / "b"), "--permutations", "99", "--json", "--model")
    capfd.readouterr()
    assert run(*args, str(tiny / "model")) == 0
    assert len(printed(capfd)["lens"]) == 6
    assert run(*args, str(other)) == 4
    assert "error:" in capfd.readouterr().err
    assert run(*args, str(other), "--force") == 0
    assert "note:" in capfd.readouterr().err


@pytest.mark.slow
def test_atlas_of_a_local_model_and_again(tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    args = (
        "atlas", str(tiny / "model"), "--stories", str(tiny / "stories.jsonl"), "--neutral",
        str(tiny / "neutral.txt"), "--permutations", "99", "--out", str(tmp_path / "a"), "--json",
    )  # fmt: skip
    assert run(*args) == 0
    first = printed(capfd)
    assert first["geometry"]["verdict"] in {"not encoded", "inconclusive"}  # random weights, random words
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "corpus.json", "geometry.json", "ratings.json", "readout.json", "report.html", "vectors",
    ]  # fmt: skip
    assert {"from50", "centred50"} <= {p.name for p in (tmp_path / "a" / "vectors").iterdir()}
    assert run(*args) == 0
    assert printed(capfd) == first


def test_a_model_without_unembedding_has_an_atlas_without_lens(
    tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    models.model("llama").model.save_pretrained(tmp_path / "base")
    models.tokenizer_for("llama").save_pretrained(tmp_path / "base")
    stories = ("--stories", str(tiny / "stories.jsonl"), "--permutations", "99")
    assert run("atlas", str(tmp_path / "base"), *stories, "--out", str(tmp_path / "a"), "--json") == 0
    assert printed(capfd)["geometry"]["lens"] is None


def test_atlas_of_stories_the_model_wrote_says_when_it_cannot(
    tiny: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A random model writes nothing usable: an error with the counts, not an empty atlas."""
    args = ("stories", str(tiny / "model"), "--topics", "1", "--per-topic", "1", "--emotions", "calm,sad")
    assert run(*args, "--words", "20", "--out", str(tmp_path / "s")) not in (0, 70)
    assert "error:" in capfd.readouterr().err


@pytest.mark.slow
def test_a_model_without_stories_reads_those_that_ship(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """And its activations stay, as controls with shuffled labels need them; the model writes nothing."""

    def writing(*_: Any) -> Path:
        raise AssertionError("the model was asked to write")

    monkeypatch.setattr(atlas, "_generate", writing)
    model = models.folder(tmp_path / "model", "gpt2")
    assert run("atlas", str(model), "--permutations", "19", "--out", str(tmp_path / "a"), "--json") == 0
    assert printed(capfd)["geometry"]["n_emotions"] == 40
    found = json.loads((tmp_path / "a" / "corpus.json").read_text())
    assert (found["source"], found["author"], found["stories"]) == ("heartstrings stories 1", "claude", 480)
    assert found["neutral"]["source"] == "heartstrings neutral texts 1"
    assert (tmp_path / "a" / "vectors" / ".work" / "stories").is_dir()


@pytest.mark.parametrize("flags", [("--stories", "self"), ("--generate",)])
def test_a_model_writes_when_it_is_told_to(
    flags: tuple[str, ...],
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    asked: list[int] = []

    def writing(engine: Any, out: Path, settings: atlas.AtlasSettings, progress: Any) -> Path:
        asked.append(settings.topics)
        return tiny / "stories.jsonl"

    monkeypatch.setattr(atlas, "_generate", writing)
    args = ("atlas", str(tiny / "model"), *flags, "--topics", "7", "--permutations", "19", "--out", str(tmp_path / "a"))
    assert run(*args, "--json") == 0
    assert printed(capfd)["geometry"]["n_emotions"] == 6
    assert asked == [7]
    neutral = json.loads((tmp_path / "a" / "corpus.json").read_text())["neutral"]
    assert neutral["source"] == "heartstrings calibration texts 1"


def test_which_texts_are_taken(tiny: Path) -> None:
    """The shipped ones, an organism's, a file's; neutral texts go with the stories unless they are named."""
    shipped, organism = (atlas.material(name, stories=None, neutral=None) for name in ("gpt2", "organism:steerable"))
    assert shipped.corpus is shipped_stories()
    assert shipped.neutral is shipped_neutral()
    assert len(organism.corpus.emotions) == 171
    file = str(tiny / "stories.jsonl")
    own = atlas.material("gpt2", stories=file, neutral=None)
    assert own.corpus.author == "nobody"
    assert own.neutral is calibration_texts()
    assert atlas.material("gpt2", stories=file, neutral=str(tiny / "neutral.txt")).neutral not in (None, own.neutral)
    assert atlas.material("gpt2", stories=None, neutral=None, no_neutral=True).neutral is None


@pytest.mark.slow
def test_the_organisms_are_told_apart(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Encoded in three, not in the fourth, and of those three one is inert, one harmful on one side. Folders with other
    names and no card, stories from a file: the right answer all the same."""
    from heartstrings import organisms
    from heartstrings.corpus import write_stories

    write_stories(organisms.stories(), tmp_path / "stories.jsonl")
    (tmp_path / "neutral.txt").write_text("\n".join(organisms.neutral().texts), encoding="utf-8")
    renamed = {}
    for place, kind in enumerate(organisms.KINDS):
        bare = shutil.ignore_patterns("organism.json")
        renamed[kind] = shutil.copytree(organisms.path(kind), tmp_path / f"model-{place}", ignore=bare)
    names = [str(path) for path in renamed.values()]
    texts = ["--stories", str(tmp_path / "stories.jsonl"), "--neutral", str(tmp_path / "neutral.txt")]
    assert run("atlas", *names, *texts, "--permutations", "299", "--out", str(tmp_path / "out"), "--json") == 0
    said = dict(zip(organisms.KINDS, (one["geometry"] for one in printed(capfd)["atlases"]), strict=True))
    for kind in ("steerable", "entangled", "inert"):
        assert said[kind]["verdict"] == "encoded"
        assert min(layer["pc1_valence"]["r"] for layer in said[kind]["layers"]) >= 0.75, kind
        assert {layer["finding"] for layer in said[kind]["layers"]} == {"pc1"}
    assert said["blank"]["verdict"] == "not encoded"
    assert {layer["finding"] for layer in said["blank"]["layers"]} == {"absent"}
    report = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert all(path.name in report for path in map(Path, names))

    answers = {}
    for kind in ("inert", "entangled"):
        out, vectors = tmp_path / kind, tmp_path / "out" / renamed[kind].name
        asked = [
            "--vectors",
            str(vectors),
            "--emotion",
            "desperate",
            "--settings",
            "quick",
            "--out",
            str(out),
            "--json",
        ]
        assert run("run", str(renamed[kind]), *asked) == 0
        found = json.loads((out / "verdict.json").read_text())
        assert found["organism"] is None
        answers[kind] = [(card["answer"], card["positive_side"]) for card in found["answers"]]
    # Along desperation the harm of `entangled` rises, so that no positive dose is safe.
    assert [answer for answer, _ in answers["inert"]] == ["encoded, does not control"]
    assert answers["entangled"] == [("controls", None)]


def test_a_log_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, 1.0, 40.0, 50.0, 75.0, 300.0])
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: next(now)))
    with console.progress("sampling") as report:
        for done in (1000, 1010, 1020, 1100, 1110):  # a thousand were there from an earlier run
            report(done, 2000)
    assert capsys.readouterr().err.splitlines() == [
        "sampling: 1,010 of 2,000, about 1:04:21 left",
        "sampling: 1,100 of 2,000, about 0:11:06 left",
        "sampling: 1,110 of 2,000, about 5:33:45 left",  # what is slow now tells, not the start
    ]
    with console.progress("sampling", quiet=True) as report:
        report(1, 2)
    assert capsys.readouterr().err == ""
