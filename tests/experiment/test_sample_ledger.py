"""The ledger of samples: whole after any crash, one writer, exact numbers."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heartstrings.core.errors import InputError, MissingExtra
from heartstrings.experiment.ledger import APPLICATION_ID, SCHEMA_VERSION, Cell, Sample, SampleLedger
from heartstrings.experiment.plan import Plan

PLAN = Plan(model="organism:steerable")


def cell(**more: object) -> Cell:
    values = {"phase": "test", "behaviour": "choice", "kind": "direction", "direction": "calm", "layer": 3, "dose": 0.1}
    return Cell(**(values | more))


def sample(scenario: str = "choice/0000", repeat: int = 0, outcome: float | None = 0.25, **more: object) -> Sample:
    return Sample(
        cell=cell(**more), scenario=scenario, group=scenario[:8], repeat=repeat, outcome=outcome, valid=0.5, text=None,
        detail={},
    )  # fmt: skip


def test_what_goes_in_comes_out_bit_by_bit(tmp_path):
    rng = np.random.default_rng(0)
    odd = [5e-324, 0.1 + 0.2, 1 / 3, 1.0, 0.0, float(np.nextafter(1, 0)), *rng.random(50).tolist()]
    rows = [
        Sample(
            cell=cell(dose=dose), scenario=f"s/{n:03d}", group="g", repeat=n % 2, outcome=value,
            valid=None if n % 3 else value, text=None if n % 2 else 'He said: "naïve"\x00\n 😀',
            detail={} if n % 5 else {"log_perplexity": -value, "ends": 1.0},
        )
        for n, value in enumerate(odd)
        for dose in (-0.1, 0.1 + 0.2)
    ]  # fmt: skip
    with SampleLedger(tmp_path / "new" / "l.sqlite", PLAN) as ledger:
        assert ledger.count() == 0
        ledger.add(rows)
        assert ledger.count() == len(rows)
        assert {(one.cell, one.scenario, one.repeat) for one in rows} == ledger.keys()
        found = ledger.samples()
    assert found == sorted(rows, key=lambda one: (one.cell.dose, one.scenario, one.repeat))
    with SampleLedger.read(tmp_path / "new" / "l.sqlite") as again:
        assert again.samples() == found
        assert again.plan == PLAN


def test_the_order_does_not_depend_on_the_order_of_arrival(tmp_path):
    rows = [
        sample(f"s/{n}", repeat, behaviour=behaviour, layer=layer)
        for n in range(3)
        for repeat in (0, 1)
        for behaviour in ("sums", "choice")
        for layer in (10, 9)
    ]
    orders = []
    for seed in range(3):
        with SampleLedger(tmp_path / f"{seed}.sqlite", PLAN) as ledger:
            for row in np.random.default_rng(seed).permutation(len(rows)).tolist():
                ledger.add([rows[row]])
            orders.append(ledger.samples())
    assert orders[0] == orders[1] == orders[2]
    assert [one.cell.layer for one in orders[0][:12]] == [9] * 6 + [10] * 6


def test_some_of_the_cells(tmp_path):
    rows = [
        sample(phase=phase, behaviour=behaviour, kind=kind, direction=direction, layer=layer)
        for phase in ("select", "test")
        for behaviour in ("choice", "sums")
        for kind, direction in (("direction", "calm"), ("span", "span/0"), ("span", "span/1"))
        for layer in (1, 2)
    ]
    with SampleLedger(tmp_path / "l.sqlite", PLAN) as ledger:
        ledger.add(rows)
        assert len(ledger.samples(phase="select")) == 12
        assert len(ledger.samples(kind="span", direction="span/1", layer=2)) == 4
        (one,) = ledger.samples(phase="test", behaviour="sums", kind="direction", direction="calm", layer=1)
        assert one.cell == cell(behaviour="sums", layer=1)
        assert ledger.samples(direction="no such") == []
        assert len(ledger.keys(phase="test", behaviour="sums")) == 6


def test_a_batch_is_there_or_not(tmp_path):
    with SampleLedger(tmp_path / "l.sqlite", PLAN) as ledger:
        ledger.add([sample("a")])
        with pytest.raises(InputError, match="already has"):
            ledger.add([sample("b"), sample("a")])
        with pytest.raises(ValueError, match="JSON compliant"):
            ledger.add([sample("c"), replace(sample("d"), detail={"x": float("nan")})])
        assert [one.scenario for one in ledger.samples()] == ["a"]
        ledger.add([sample("b"), sample("a", repeat=1)])
        assert ledger.count() == 3


def test_another_plan_is_refused_with_what_differs(tmp_path):
    with SampleLedger(tmp_path / "l.sqlite", PLAN) as ledger:
        ledger.add([sample()])
    with pytest.raises(InputError, match="seed was 0 and is now 7") as caught:
        SampleLedger(tmp_path / "l.sqlite", PLAN.changed(seed=7))
    assert "--out" in caught.value.fix
    with SampleLedger(tmp_path / "l.sqlite", PLAN) as ledger:  # and the lock was let go
        assert ledger.count() == 1


def test_facts_that_must_stay(tmp_path):
    with SampleLedger(tmp_path / "l.sqlite", PLAN) as ledger:
        ledger.bind("weights", "abc", "a model")
        ledger.bind("weights", "abc", "a model")
        with pytest.raises(InputError, match="begun with a model of fingerprint abc, and now it is def"):
            ledger.bind("weights", "def", "a model")
        assert ledger.fact("plan_hash") == PLAN.hash
        assert ledger.fact("nothing") is None


HOLD = """
import sys
from heartstrings.experiment.ledger import SampleLedger
from heartstrings.experiment.plan import Plan
with SampleLedger(sys.argv[1], Plan(model="organism:steerable")):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_on_one_ledger(tmp_path):
    path = tmp_path / "l.sqlite"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"another process \(number {other.pid}\) is writing to"):
            SampleLedger(path, PLAN)
        with SampleLedger.read(path) as reader:  # readers are welcome meanwhile
            assert reader.count() == 0
        os.kill(other.pid, signal.SIGKILL)
        other.communicate()
    with SampleLedger(path, PLAN) as ledger:  # a killed process holds nothing
        ledger.add([sample()])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["l.sqlite"]


def test_a_reader_sees_what_is_written_while_it_is_open(tmp_path):
    with SampleLedger(tmp_path / "l.sqlite", PLAN) as ledger, SampleLedger.read(tmp_path / "l.sqlite") as reader:
        ledger.add([sample()])
        assert reader.count() == 1
        with pytest.raises(InputError, match="opened to read"):
            reader.add([sample("b")])
        with pytest.raises(InputError, match="opened to read"):
            reader.bind("a", "b", "c")


KILLED = """
import os, signal, sys
from heartstrings.experiment.ledger import Cell, Sample, SampleLedger
from heartstrings.experiment.plan import Plan
ledger = SampleLedger(sys.argv[1], Plan(model="organism:steerable"))
cell = Cell(phase="test", behaviour="choice", kind="baseline", direction="", layer=-1, dose=0.0)
def rows(batch):
    for n in range(100):
        if batch == 3 and n == 50:
            os.kill(os.getpid(), signal.SIGKILL)
        yield Sample(cell=cell, scenario=f"{batch}/{n}", group="", repeat=0, outcome=0.5, valid=1.0, text="x" * 500,
                     detail={})
for batch in range(4):
    ledger.add(rows(batch))
"""


def test_killed_within_a_transaction(tmp_path):
    """Half a batch was handed to SQLite when the process died: none of it is there, and all before it is."""
    path = tmp_path / "l.sqlite"
    found = subprocess.run([sys.executable, "-c", KILLED, str(path)], capture_output=True, text=True)
    assert found.returncode == -signal.SIGKILL, found.stderr
    with SampleLedger.read(path) as reader:
        assert reader.count() == 300
    with SampleLedger(path, PLAN) as ledger:
        assert {one.scenario.split("/")[0] for one in ledger.samples()} == {"0", "1", "2"}


def old_file(path: Path, *, application: int = APPLICATION_ID, version: str = "0") -> None:
    """A ledger as version 0 wrote it, by hand."""
    db = sqlite3.connect(path)
    db.executescript(f"""
        PRAGMA application_id = {application};
        CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
        CREATE TABLE samples (
            phase TEXT NOT NULL, behaviour TEXT NOT NULL, kind TEXT NOT NULL, direction TEXT NOT NULL,
            layer INTEGER NOT NULL, dose REAL NOT NULL, scenario TEXT NOT NULL, repeat INTEGER NOT NULL,
            cluster TEXT NOT NULL, outcome REAL, valid REAL, text TEXT,
            PRIMARY KEY (phase, behaviour, kind, direction, layer, dose, scenario, repeat)
        ) STRICT, WITHOUT ROWID;
        INSERT INTO samples VALUES ('test', 'choice', 'direction', 'calm', 3, 0.1, 's', 0, 'g', 0.25, NULL, 'so');
    """)
    facts = {"schema_version": version, "plan_hash": PLAN.hash, "plan": PLAN.model_dump_json(), "package_version": "0"}
    db.executemany("INSERT INTO meta VALUES (?, ?)", facts.items())
    db.commit()
    db.close()


def test_a_file_of_version_0_is_brought_up_to_date(tmp_path):
    path = tmp_path / "l.sqlite"
    old_file(path)
    before = path.read_bytes()
    wanted = [Sample(cell=cell(), scenario="s", group="g", repeat=0, outcome=0.25, valid=None, text="so", detail={})]
    with SampleLedger.read(path) as reader:  # a reader leaves the file alone
        assert reader.samples() == wanted
    assert path.read_bytes() == before
    with SampleLedger(path, PLAN) as ledger:
        assert ledger.samples() == wanted
        assert ledger.fact("schema_version") == str(SCHEMA_VERSION)
        ledger.add([replace(sample(), detail={"ends": 1.0})])
    with SampleLedger(path, PLAN) as ledger:
        assert ledger.count() == 2


def test_a_migration_that_fails_changes_nothing(tmp_path, monkeypatch):
    path = tmp_path / "l.sqlite"
    old_file(path)

    def half(db: sqlite3.Connection) -> None:
        db.execute("ALTER TABLE samples ADD COLUMN detail TEXT NOT NULL DEFAULT '{}'")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("heartstrings.experiment.ledger.MIGRATIONS", {0: half})
        with pytest.raises(KeyboardInterrupt):
            SampleLedger(path, PLAN)
    with SampleLedger(path, PLAN) as ledger:
        assert ledger.count() == 1


@pytest.mark.parametrize("opened", [lambda path: SampleLedger(path, PLAN), SampleLedger.read], ids=["write", "read"])
def test_files_that_are_no_ledger(tmp_path, opened):
    path = tmp_path / "l.sqlite"
    path.write_bytes(b"not a database at all, but long enough to look at" * 40)
    with pytest.raises(InputError, match="damaged or no ledger"):
        opened(path)
    path.unlink()
    old_file(path, application=0)
    with pytest.raises(InputError, match="no ledger of samples"):
        opened(path)
    path.unlink()
    old_file(path, version="3")
    with pytest.raises(InputError, match=r"of version 3.*Update"):
        opened(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError):
        opened(path)


def test_a_damaged_ledger(tmp_path):
    path = tmp_path / "l.sqlite"
    with SampleLedger(path, PLAN) as ledger:
        ledger.add([sample(f"s/{n}") for n in range(2000)])
    content = bytearray(path.read_bytes())
    content[20_000:60_000] = bytes(40_000)
    path.write_bytes(content)
    with SampleLedger.read(path) as reader, pytest.raises(InputError, match="damaged"):
        reader.samples()


def test_no_ledger_to_read(tmp_path):
    with pytest.raises(InputError, match="no ledger"):
        SampleLedger.read(tmp_path / "l.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk(tmp_path):
    with SampleLedger(tmp_path / "l.sqlite", PLAN) as ledger:
        ledger.add([sample()])
        pages = ledger._db.execute("PRAGMA page_count").fetchone()[0]
        ledger._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own error for a full disk
        with pytest.raises(InputError, match="disk is full") as caught:
            ledger.add([sample(f"s/{n}") for n in range(1000)])
        assert "finished samples are kept" in caught.value.fix
        ledger._db.execute("PRAGMA max_page_count = 1000000")
        ledger.add([sample(f"s/{n}") for n in range(1000)])
        assert ledger.count() == 1001


def test_a_folder_that_may_only_be_read(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write anywhere")
    with SampleLedger(tmp_path / "l.sqlite", PLAN) as ledger:
        ledger.add([sample()])
    os.chmod(tmp_path, 0o500)
    try:
        with SampleLedger.read(tmp_path / "l.sqlite") as reader:
            assert reader.count() == 1
        with pytest.raises(InputError, match="cannot write"):
            SampleLedger(tmp_path / "l.sqlite", PLAN)
    finally:
        os.chmod(tmp_path, 0o700)


def test_parquet(tmp_path, monkeypatch):
    pq = pytest.importorskip("pyarrow.parquet")
    rows = [
        sample("a", outcome=1 / 3),
        replace(sample("b", outcome=None), text="é\n", detail={"ends": 1.0, "log_perplexity": 0.1 + 0.2}),
        replace(sample("c", dose=-0.1), detail={"distinct_2": 0.7}),
    ]
    with SampleLedger(tmp_path / "l.sqlite", PLAN) as ledger:
        ledger.add(rows)
        path = ledger.export_parquet(tmp_path / "out" / "samples.parquet")
        wanted = ledger.samples()
        table = pq.read_table(path)
        assert table.schema.metadata[b"plan_hash"].decode() == PLAN.hash
        found = []
        for row in table.to_pylist():
            detail = {n.removeprefix("detail_"): row.pop(n) for n in list(row) if n.startswith("detail_")}
            parts = {n: row.pop(n) for n in Cell.model_fields}
            kept = {n: value for n, value in detail.items() if value is not None}
            found.append(Sample(cell=Cell(**parts), detail=kept, **row))
        assert found == wanted
        with pytest.raises(InputError, match="cannot write"):
            ledger.export_parquet(tmp_path / "l.sqlite" / "x.parquet")
        monkeypatch.setitem(sys.modules, "pyarrow", None)
        with pytest.raises(MissingExtra, match="parquet"):
            ledger.export_parquet(tmp_path / "y.parquet")


def test_parquet_of_nothing(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    with SampleLedger(tmp_path / "l.sqlite", PLAN) as ledger:
        table = pq.read_table(ledger.export_parquet(tmp_path / "empty.parquet"))
    assert table.num_rows == 0
    assert {"phase", "dose", "group", "outcome"} <= set(table.column_names)
