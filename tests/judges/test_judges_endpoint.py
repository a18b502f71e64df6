"""A judge behind a real HTTP server that is slow, failing, rate-limiting, malformed: nothing lost, nothing twice."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from heartstrings.core.errors import InputError, ModelError
from heartstrings.judges import Budget, Case, EndpointJudge, JudgeCache, OverBudget, rubric
from judge_server import JudgeServer, by_length, judging

pytest.importorskip("httpx")

MISALIGNMENT = rubric("misalignment")
CASES = [Case(f"case/{i:04d}", f"Question {i}?", "x" * (i + 1)) for i in range(40)]


def endpoint(server: JudgeServer, **changes: Any) -> EndpointJudge:
    return EndpointJudge(server.url, "m", **{"backoff": 0.01, "timeout": 5, **changes})


def assert_all_right(judged: list[Any], cases: list[Case] = CASES) -> None:
    assert [one.case for one in judged] == [case.id for case in cases]
    assert [one.scores["alignment"] for one in judged] == [len(case.answered) % 101 for case in cases]


def test_results_are_in_order_and_the_asking_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUDGE_KEY", "sk-hidden")
    path = tmp_path / "judges.sqlite"
    with judging() as server, JudgeCache(path) as cache:
        judge = endpoint(server, cache=cache, seed=3, concurrency=1, key_variable="JUDGE_KEY")
        assert_all_right(judge.judge(CASES, MISALIGNMENT))
        assert server.texts != [case.answered for case in CASES]
        assert all(body["temperature"] == 0 and body["model"] == "m" for body in server.requests)
        everything = json.dumps(server.requests)
        assert "case/" not in everything  # an id may name the condition
        assert "sk-hidden" not in everything + path.read_bytes().decode("latin-1")
    with judging() as other:
        assert endpoint(other, seed=3, concurrency=1).judge(CASES, MISALIGNMENT)
        assert other.texts == server.texts  # the same seed, the same order
        assert endpoint(other, seed=4, concurrency=1).judge(CASES, MISALIGNMENT)
        assert other.texts[len(CASES) :] != server.texts
    db = sqlite3.connect(path)
    assert db.execute("SELECT seed, cases FROM runs").fetchall() == [(3, 40)]
    db.close()


def test_what_is_judged_is_not_asked_again_and_raw_answers_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "judges.sqlite"
    with judging() as server:
        with JudgeCache(path) as cache:
            first = endpoint(server, cache=cache).judge(CASES, MISALIGNMENT)
        with JudgeCache(path) as cache:
            renamed = [Case(f"other/{case.id}", case.asked, case.answered) for case in CASES[::-1]]
            again = endpoint(server, cache=cache).judge(renamed, MISALIGNMENT)
            assert len(server.requests) == 40
            assert [one.raw for one in again] == [one.raw for one in first[::-1]]
            assert first[5].raw == (by_length("x" * 6, ""),)
            # Another judge, model, rubric or text is another judgement.
            endpoint(server, cache=cache, name="second").judge(CASES[:1], MISALIGNMENT)
            EndpointJudge(server.url, "other", cache=cache).judge(CASES[:1], MISALIGNMENT)
            endpoint(server, cache=cache, body={"top_k": 1}).judge(CASES[:1], MISALIGNMENT)
            endpoint(server, cache=cache).judge([Case("a", "Why?", "x")], MISALIGNMENT)
            assert len(server.requests) == 44


def test_the_same_text_twice_is_asked_once() -> None:
    with judging(delay=0.02) as server:
        judged = endpoint(server).judge([Case(f"{i}", "Q?", "xyz") for i in range(8)], MISALIGNMENT)
        assert len(server.requests) == 1
        assert [one.case for one in judged] == [f"{i}" for i in range(8)]


TROUBLES = ["500", "503", "429", "garbage", "shape", "cut", "short", "hang up", "huge", None, None, None]


def test_every_kind_of_trouble_is_waited_out() -> None:
    with judging(trouble=lambda number, text: TROUBLES[number % len(TROUBLES)]) as server:
        assert_all_right(endpoint(server, concurrency=4, tries=99, backoff=0).judge(CASES, MISALIGNMENT))
        assert set(server.answered.values()) == {1}
        assert server.most_at_once <= 4


def test_retry_after_is_kept() -> None:
    def trouble(number: int, text: str) -> str | None:
        return "429" if number == 0 else None

    with judging(trouble=trouble, retry_after="0.6") as server:
        endpoint(server, backoff=0.001).judge(CASES[:1], MISALIGNMENT)
        assert server.times[1] - server.times[0] >= 0.6


@pytest.mark.parametrize("bad", ["drip", "slow"])
def test_a_slow_answer_is_given_up_and_the_others_are_kept(bad: str) -> None:
    slow = CASES[7].answered

    def say(text: str, message: str) -> str:
        if bad == "slow" and text == slow:
            time.sleep(0.8)
        return by_length(text, message)

    trouble = lambda number, text: "drip" if bad == "drip" and text == slow else None  # noqa: E731
    with judging(say=say, trouble=trouble) as server, JudgeCache() as cache:
        judge = endpoint(server, cache=cache, timeout=0.3, tries=2)
        start = time.monotonic()
        judged = judge.judge(CASES, MISALIGNMENT)
        assert time.monotonic() - start < 5
        assert [one.status for one in judged].count("no answer") == 1
        assert judged[7].status == "no answer"
        assert "0.3 s (2 tries)" in judged[7].note
        server.trouble, server.say, asked = (lambda number, text: None), by_length, len(server.requests)
        assert_all_right(endpoint(server, cache=cache).judge(CASES, MISALIGNMENT))
        assert len(server.requests) == asked + 1  # only what had no answer


def test_a_dead_server_stops_soon_and_a_refusal_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with judging(trouble=lambda number, text: "500") as server:
        with pytest.raises(ModelError, match=r"4 requests in a row .* HTTP 500"):
            endpoint(server, concurrency=2, tries=2).judge(CASES, MISALIGNMENT)
        assert len(server.requests) <= 12
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with judging(trouble=lambda number, text: "401") as server:
        with pytest.raises(ModelError, match="HTTP 401") as caught:
            endpoint(server, concurrency=2).judge(CASES, MISALIGNMENT)
        assert len(server.requests) <= 2
        assert "sk-secret" not in str(caught.value)


def test_a_text_that_the_server_will_not_take_costs_only_itself() -> None:
    with judging(trouble=lambda number, text: "400" if text == "xxx" else None) as server:
        judged = endpoint(server).judge(CASES, MISALIGNMENT)
        assert [one.case for one in judged if one.status != "read"] == ["case/0002"]
        assert len(server.requests) == 40


@pytest.mark.parametrize(
    "reply",
    ["", "Misaligned.", '{"alignment": 3}', '{"alignment": 3, "coherence": 101}', '{"alignment": NaN, "coherence": 5}'],
)
def test_unreadable_is_asked_again_once_and_then_missing(reply: str, tmp_path: Path) -> None:
    stubborn = {case.answered for case in CASES[:3]}
    with judging(say=lambda text, message: reply if text in stubborn else by_length(text, message)) as server:
        with JudgeCache(tmp_path / "judges.sqlite") as cache:
            for _ in range(2):  # and not asked a third time by another run
                judged = endpoint(server, cache=cache).judge(CASES, MISALIGNMENT)
                assert [one.status for one in judged] == ["unreadable"] * 3 + ["read"] * 37
                assert [(one.scores, one.raw) for one in judged[:3]] == [(None, (reply, reply))] * 3
        assert len(server.texts) == 43


def test_a_second_reply_that_can_be_read_counts() -> None:
    def say(text: str, message: str) -> str:
        return by_length(text, message) if "could not be read" in message else "Well, hard to say."

    with judging(say=say) as server:
        judged = endpoint(server).judge(CASES[:5], MISALIGNMENT)
        assert_all_right(judged, CASES[:5])
        assert {len(one.raw) for one in judged} == {2}


def test_a_budget_in_calls_holds_and_another_run_goes_on(tmp_path: Path) -> None:
    with judging(delay=0.005) as server:
        for calls, left in ((15, 25), (15, 25), (30, 10)):  # what earlier runs spent counts
            with JudgeCache(tmp_path / "judges.sqlite") as cache, pytest.raises(OverBudget) as caught:
                endpoint(server, cache=cache, budget=Budget(calls=calls)).judge(CASES, MISALIGNMENT)
            assert (caught.value.left, caught.value.total) == (left, 40)
            assert f"{left} of 40 cases are left" in str(caught.value)
            assert len(server.requests) == calls
        with JudgeCache(tmp_path / "judges.sqlite") as cache:
            assert_all_right(endpoint(server, cache=cache, budget=Budget(calls=40)).judge(CASES, MISALIGNMENT))
        assert len(server.requests) == 40
        assert set(server.answered.values()) == {1}


def test_failed_calls_count_too() -> None:
    with judging(trouble=lambda number, text: "500" if number % 2 else None) as server:
        with pytest.raises(OverBudget):
            endpoint(server, budget=Budget(calls=20)).judge(CASES, MISALIGNMENT)
        assert len(server.requests) == 20


@pytest.mark.parametrize("usage", [{"prompt_tokens": 400, "completion_tokens": 50}, None])
def test_a_budget_in_money_is_never_passed(usage: dict[str, int] | None) -> None:
    budget = Budget(money=0.02, price_in=1, price_out=4)
    with judging(usage=usage, delay=0.002) as server, JudgeCache() as cache:
        with pytest.raises(OverBudget) as caught:
            endpoint(server, cache=cache, budget=budget).judge(CASES, MISALIGNMENT)
        spent, n = cache.spent("m", "m"), len(server.requests)
        assert spent.money <= 0.02
        assert caught.value.left == 40 - n
        if usage:
            assert spent.money == pytest.approx(n * 0.0006)
            assert spent.money > 0.02 - 0.003  # it went on until a call at its dearest no longer fitted
        else:  # a server that does not say counts at the most that it can have cost
            assert spent.money > n * 0.0008
            assert cache._db.execute("SELECT count(*) FROM calls WHERE NOT settled").fetchone() == (n,)


RUN = """
import sys
from heartstrings.judges import Case, EndpointJudge, JudgeCache, rubric
cache, seed = JudgeCache(sys.argv[2]), int(sys.argv[3])
judge = EndpointJudge(sys.argv[1], "m", cache=cache, backoff=0.01, concurrency=4, seed=seed)
cases = [Case(f"case/{i:04d}", f"Question {i}?", "x" * (i + 1)) for i in range(40)]
judged = judge.judge(cases, rubric("misalignment"))
assert [one.scores["alignment"] for one in judged] == [i + 1 for i in range(40)]
"""


def start(server: JudgeServer, path: Path, seed: int = 0) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", RUN, server.url, str(path), str(seed)])


def test_kill_and_go_on(tmp_path: Path) -> None:
    path = tmp_path / "judges.sqlite"
    with judging(delay=0.1) as server:
        process = start(server, path)
        until = time.monotonic() + 60
        while len(server.requests) < 15 and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(0.2)
        with JudgeCache(path) as cache:
            kept = cache._db.execute("SELECT count(DISTINCT key) FROM answers").fetchone()[0]
            assert kept >= 8
            asked, server.delay = len(server.requests), 0.0
            assert_all_right(endpoint(server, cache=cache).judge(CASES, MISALIGNMENT))
            assert len(server.requests) == asked + 40 - kept
            # A call is booked before it goes out. The kill may fall in between: too much is booked, never too little.
            assert 0 <= cache.spent("m", "m").calls - len(server.requests) <= 4
            rows = cache._db.execute("SELECT count(*) FROM answers").fetchone()[0]
            assert rows == 40


def test_two_processes_share_the_work(tmp_path: Path) -> None:
    path = tmp_path / "judges.sqlite"
    with judging(delay=0.05) as server:
        both = [start(server, path, seed) for seed in (0, 0)]
        assert [process.wait(60) for process in both] == [0, 0]
        assert Counter(server.texts).most_common(1)[0][1] == 1
        assert len(server.requests) == 40


def test_files_that_are_no_cache_are_refused_and_left_alone(tmp_path: Path) -> None:
    text, other = tmp_path / "a.sqlite", tmp_path / "b.sqlite"
    text.write_bytes(b"hello " * 1000)
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    before = other.read_bytes()
    for path in (text, other):
        with pytest.raises(InputError, match="cache of judges"):
            JudgeCache(path)
    assert other.read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [{"base_url": "localhost"}, {"model": ""}, {"tries": 0}, {"timeout": 0}, {"concurrency": 0}, {"backoff": -1}],
)
def test_settings_that_make_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        EndpointJudge(**{"base_url": "http://localhost/v1", "model": "m", **changes})
    with pytest.raises(InputError):
        Budget(money=1)
    with pytest.raises(InputError):
        Budget(price_in=-1)


def test_two_cases_of_one_id_are_refused() -> None:
    with judging() as server, pytest.raises(InputError, match="case/0000"):
        endpoint(server).judge([CASES[0], CASES[0]], MISALIGNMENT)
