"""The TOML file has the names of the flags, and refuses names that no flag has."""

from __future__ import annotations

from pathlib import Path

import pytest

from heartstrings.cli._settings import read_settings
from heartstrings.core.errors import InputError
from heartstrings.core.layers import parse_layers

FLAGS = {
    "extract": frozenset({"offset", "max_tokens", "stories"}),
    "geometry": frozenset({"ratings", "seed"}),
}


def write(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_own_table_wins_over_the_top_of_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        'offset = 20\nseed = 3\n[extract]\noffset = 50\nmax-tokens = 256\n[geometry]\nratings = "r.csv"\n',
    )
    assert read_settings(path, "extract", FLAGS) == {"offset": 50, "max_tokens": 256}
    assert read_settings(path, "geometry", FLAGS) == {"seed": 3, "ratings": "r.csv"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[extract]\nofset = 1\n", "Did you mean offset"),
        ("ofset = 1\n", "Did you mean offset"),
        ("[extrac]\noffset = 1\n", "extract, geometry"),
        ("[extract\n", "is not TOML"),
    ],
)
def test_unknown_names_are_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_settings(write(tmp_path, text), "extract", FLAGS)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no settings file"):
        read_settings(tmp_path / "none.toml", "extract", FLAGS)


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        (None, None),
        ("all", None),
        ("3,5,3", [3, 5]),
        ("0:6:2", [0, 2, 4]),
        ("-1", [5]),
        ("4:", [4, 5]),
        ("1,4:", [1, 4, 5]),
    ],
)
def test_layers(text: str | None, layers: list[int] | None) -> None:
    assert parse_layers(text, 6) == layers


@pytest.mark.parametrize("text", ["six", "6", "-7", "7:9", "1:2:3:4", "", "1,,2", "0:6:0"])
def test_layers_that_are_not_there(text: str) -> None:
    with pytest.raises(InputError):
        parse_layers(text, 6)
