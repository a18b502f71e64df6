"""`bench.scale` on the smallest organism: every axis runs at two sizes, and the page gets its table and figure.

No test looks at a time.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import scale


def test_every_axis_is_measured_and_written(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "speed.md"
    path.parent.mkdir()
    path.write_text(f"# Speed\n<!-- {scale.MARK}: begin -->\n<!-- {scale.MARK}: end -->\nThe end.", encoding="utf-8")
    scale.main(["--quick", "--repeats", "1", "--out", str(tmp_path / "scale.json"), "--page", str(path)])
    found = json.loads((tmp_path / "scale.json").read_text("utf-8"))
    assert list(found["axes"]) == list(scale.AXES)
    for points in found["axes"].values():
        sizes = [one["size"] for one in points]
        assert sizes == [sizes[0] * factor for factor in scale.QUICK_FACTORS]
        assert all(min(one["seconds"]) > 0 for one in points)
    text = path.read_text("utf-8")
    assert all(one.says in text for one in scale.AXES.values())
    assert text.endswith("The end.")
    assert (path.parent / "assets" / "scale.png").read_bytes().startswith(b"\x89PNG")


def test_the_exponent_is_the_slope_on_logarithmic_scales() -> None:
    grown = [{"size": size, "seconds": [3 * size**0.5, 99.0], "peak_bytes": 7} for size in (2, 4, 8)]
    assert scale.exponent(grown, "seconds") == pytest.approx(0.5)
    assert scale.exponent(grown, "bytes") == pytest.approx(0)


def test_an_unknown_axis_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        scale.main(["--only", "heads"])
    assert "no axis heads; there are stories, tokens" in capsys.readouterr().err
