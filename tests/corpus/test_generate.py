"""Writing stories through a real local HTTP server: nothing lost, nothing asked twice, nothing made up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heartstrings.core.endpoint import Client, Stopped
from heartstrings.core.errors import InputError, ModelError
from heartstrings.corpus import read_neutral, read_stories
from heartstrings.corpus._ledger import Ledger
from heartstrings.corpus._prompts import parse, story_prompt
from heartstrings.corpus._writers import Answer, Call
from heartstrings.corpus.endpoint import EndpointWriter
from heartstrings.corpus.generate import StoryPlan, generate_neutral, generate_stories
from story_server import prose, serving, well_behaved

pytest.importorskip("httpx")

PLAN = StoryPlan(emotions=("calm", "sad", "joyful"), topics=("rain", "a bus"), stories=4, per_call=2, words=60)
CALLS = 3 * 2 * 2


def writer(url: str, **changes: Any) -> EndpointWriter:
    return EndpointWriter(url, "tiny", **{"backoff": 0.01, "timeout": 5.0, "concurrency": 4, **changes})


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()][1:]


def test_a_run_and_the_same_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret-key")
    seen: list[tuple[int, int]] = []
    with serving(delay=0.02) as server:
        corpus = generate_stories(PLAN, writer(server.url), tmp_path, lambda *at: seen.append(at))
        assert len(server.requests) == CALLS
        assert 2 <= server.most_at_once <= 4
        assert server.keys == {"Bearer s3cret-key"}
        again = generate_stories(PLAN, writer(server.url), tmp_path)
        assert len(server.requests) == CALLS
    assert seen[0] == (0, CALLS)
    assert seen[-1] == (CALLS, CALLS)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len(corpus) == 3 * 2 * 4
    assert corpus.author == "tiny"
    assert corpus.prompt_hash is not None
    assert sum(corpus.filtered.values()) == 0
    assert (again.hash, again.prompt_hash, again.stories) == (corpus.hash, corpus.prompt_hash, corpus.stories)
    # The file is the corpus, with what a reader needs to know of the run.
    read = read_stories(tmp_path / "stories.jsonl")
    assert (read.stories, read.prompt_hash, read.filtered) == (corpus.stories, corpus.prompt_hash, corpus.filtered)
    record = json.loads((tmp_path / "stories.json").read_text())
    assert (record["content_hash"], record["plan"]["temperature"]) == (corpus.hash, 1.0)
    # Crossed, and told in both persons equally for every emotion and topic.
    cells = {(story.emotion, story.topic, story.perspective) for story in corpus.stories}
    assert len(cells) == 3 * 2 * 2
    assert all("s3cret" not in path.read_text() for path in tmp_path.iterdir())
    assert len({request["seed"] for request in server.requests}) == CALLS


def test_the_prompt_forbids_the_words() -> None:
    system, user = story_prompt("joyful", "rain", n=2, words=100)
    assert system[0] == "system"
    for word in ("joyful", "joy", "joyous", "happiness", "rain", "90 to 110", "[[1]]", "first person", "third person"):
        assert word in user[1]


def test_every_kind_of_trouble_is_waited_out(tmp_path: Path) -> None:
    kinds = ["500", "429", "garbage", "cut", "short", "hang up", "503"]
    asked: dict[str, int] = {}

    def trouble(number: int, body: dict[str, Any]) -> str | None:
        key = json.dumps([body["messages"], body["seed"]])
        asked[key] = asked.get(key, 0) + 1
        return kinds[(len(asked) + asked[key]) % len(kinds)] if asked[key] <= 2 else None

    with serving(trouble=trouble) as server:
        corpus = generate_stories(PLAN, writer(server.url), tmp_path)
        assert len(server.requests) == 3 * CALLS
        assert set(server.completed.values()) == {1}
    assert len(corpus) == 24
    assert len(entries(tmp_path / "calls.jsonl")) == CALLS


def test_a_slow_server_is_given_up_and_what_came_is_kept(tmp_path: Path) -> None:
    slow: list[bool] = [True]

    def trouble(number: int, body: dict[str, Any]) -> str | None:
        if slow[0] and "rain" in body["messages"][1]["content"] and " sad" in body["messages"][1]["content"][:120]:
            time.sleep(1.2)
        return None

    with serving(trouble=trouble) as server:
        with pytest.raises(ModelError, match=r"2 calls had no answer; the last: no answer within 0\.5 s") as caught:
            generate_stories(PLAN, writer(server.url, timeout=0.5, tries=2), tmp_path)
        assert "10 finished calls" in str(caught.value)
        assert not (tmp_path / "stories.jsonl").exists()
        slow[0] = False
        before = len(server.requests)
        assert len(generate_stories(PLAN, writer(server.url), tmp_path)) == 24
        assert len(server.requests) == before + 2


def test_a_dead_server_stops_the_run_soon(tmp_path: Path) -> None:
    with serving(trouble=lambda number, body: "500") as server:
        big = replace(PLAN, topics=tuple(f"topic {n}" for n in range(50)))
        with pytest.raises(ModelError, match=r"4 requests in a row had no answer from .*HTTP 500 \(2 tries\)"):
            generate_stories(big, writer(server.url, tries=2, concurrency=2), tmp_path)
        assert len(server.requests) < 20
        url = server.url
    with pytest.raises(ModelError, match=r"ConnectError|refused|no answer"):
        generate_stories(PLAN, writer(url, tries=1), tmp_path)
    assert entries(tmp_path / "calls.jsonl") == []


def test_an_interrupted_run_does_not_wait_for_a_slow_answer() -> None:
    hurry = threading.Event()

    def trouble(number: int, body: dict[str, Any]) -> str | None:
        if body["seed"]:
            hurry.wait(20)
        return None

    with serving(trouble=trouble) as server:
        answers = writer(server.url).answers(Call((("user", "Write 1"),), seed, 1.0, 1.0, 9) for seed in range(9))
        assert next(answers)[0].seed == 0
        start = time.monotonic()
        answers.close()
        assert time.monotonic() - start < 5
        assert len(server.requests) <= 4
        hurry.set()


def test_threads_that_are_stopped_do_not_hide_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def write(client: Client, call: Call) -> Answer:
        if call.seed:
            raise Stopped
        time.sleep(0.1)
        raise ModelError("the server is gone")

    monkeypatch.setattr("heartstrings.corpus.endpoint._write", write)
    calls = (Call((("user", "Write 1"),), seed, 1.0, 1.0, 9) for seed in range(4))
    with pytest.raises(ModelError, match="the server is gone"):
        next(iter(writer("http://localhost:1/v1").answers(calls)))


def test_a_wrong_key_is_said_at_once_and_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "s3cret-key")
    with serving(trouble=lambda number, body: "401") as server:
        with pytest.raises(ModelError, match=r"HTTP 401 .*MY_KEY") as caught:
            generate_stories(PLAN, writer(server.url, key_variable="MY_KEY"), tmp_path)
        assert len(server.requests) <= 4
    assert "s3cret" not in str(caught.value)
    assert "***" in str(caught.value)


def test_empty_refused_and_unreadable_answers_are_never_stories(tmp_path: Path) -> None:
    def text(body: dict[str, Any]) -> str:
        prompt = body["messages"][1]["content"]
        if "calm" in prompt[:120] and "rain" in prompt:
            return ""
        if "calm" in prompt[:120]:
            return "I'm sorry, but I can't write that."
        if "sad" in prompt[:120] and "a bus" in prompt:
            return "Here are two. " + prose("x", 90)
        if "sad" in prompt[:120]:
            return f"[[1]]\n{prose(str(body['seed']), 60)}"
        return well_behaved(body)

    with serving(text=text) as server:
        corpus = generate_stories(replace(PLAN, retries=1), writer(server.url), tmp_path)
        bad = 2 + 2 + 2  # calls of calm on each topic, and of sad on the bus
        assert len(server.requests) == CALLS + bad
        seeds = [request["seed"] for request in server.requests]
        assert len(set(seeds)) == len(seeds)
        generate_stories(replace(PLAN, retries=1), writer(server.url), tmp_path)
        assert len(server.requests) == CALLS + bad
    assert corpus.emotions == ("joyful", "sad")
    assert len(corpus) == 8 + 2
    assert json.loads((tmp_path / "stories.json").read_text())["answers"] == {
        "empty answer": 4, "refused answer": 4, "unreadable answer": 4,
        "calls without stories": 6, "stories missing": 6 * 2 + 2,
    }  # fmt: skip


def test_nothing_usable_is_an_error_and_leaves_no_corpus(tmp_path: Path) -> None:
    with serving(text=lambda body: "No.") as server, pytest.raises(InputError, match="'unreadable answer': 12"):
        generate_stories(replace(PLAN, retries=0), writer(server.url), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["calls.jsonl"]


def test_leaks_and_answers_that_stop_at_the_limit_are_filtered(tmp_path: Path) -> None:
    def text(body: dict[str, Any]) -> str:
        answer = well_behaved(body)
        return answer.replace("The ", "Sadly, the ", 1) if "feels sad" in body["messages"][1]["content"] else answer

    with serving(text=text, finish="length") as server:
        corpus = generate_stories(PLAN, writer(server.url), tmp_path)
    # Of two stories a call, the second may be cut anywhere; the first names the emotion where it is sadness.
    assert corpus.filtered["cut off"] == CALLS
    assert corpus.filtered["inflection"] == 4
    assert len(corpus) == CALLS - 4
    listed = [json.loads(line) for line in (tmp_path / "dropped.jsonl").read_text().splitlines()]
    assert len(listed) == CALLS + 4
    assert {row["reason"] for row in listed} == {"cut off", "inflection"}


def test_the_budget_stops_and_another_run_goes_on(tmp_path: Path) -> None:
    with serving() as server:
        some = generate_stories(replace(PLAN, max_calls=7), writer(server.url), tmp_path)
        assert len(server.requests) == 7
        assert "5 of 12" in some.notes[0]
        # Topic by topic: what there is, is crossed.
        assert {story.emotion for story in some.stories} == set(PLAN.emotions)
        whole = generate_stories(PLAN, writer(server.url), tmp_path)
        assert len(server.requests) == CALLS
    assert len(whole) == 24
    assert whole.notes == ()


def test_another_seed_model_or_temperature_is_another_call(tmp_path: Path) -> None:
    with serving() as server:
        for number, (plan, name) in enumerate(
            [(PLAN, "a"), (replace(PLAN, seed=1), "a"), (replace(PLAN, temperature=0.5), "a"), (PLAN, "b")], start=1
        ):
            generate_stories(plan, replace(writer(server.url), model=name), tmp_path)
            assert len(server.requests) == number * CALLS
        generate_stories(PLAN, replace(writer(server.url), model="a", concurrency=1, tries=2), tmp_path)
        assert len(server.requests) == 4 * CALLS


def test_neutral_dialogues(tmp_path: Path) -> None:
    with serving() as server:
        neutral = generate_neutral(PLAN, writer(server.url), tmp_path, per_topic=3)
        assert len(server.requests) == 4
        assert generate_neutral(PLAN, writer(server.url), tmp_path, per_topic=3).texts == neutral.texts
        assert len(server.requests) == 4
    assert len(neutral) == 6
    record = json.loads((tmp_path / "neutral.json").read_text())
    assert (record["content_hash"], record["texts"]) == (neutral.hash, 6)
    assert record["filtered"] == {"too short": 0, "cut off": 0, "near duplicate": 0}
    assert read_neutral(tmp_path / "neutral.jsonl").hash == neutral.hash


RUN = """
import sys
from heartstrings.corpus.endpoint import EndpointWriter
from heartstrings.corpus.generate import StoryPlan, generate_stories
plan = StoryPlan(emotions=("calm", "sad", "joyful"), topics=tuple(f"topic {n}" for n in range(8)), stories=2,
                 per_call=2, words=60)
corpus = generate_stories(plan, EndpointWriter(sys.argv[1], "tiny", concurrency=3, backoff=0.01), sys.argv[2])
print(len(corpus), corpus.hash)
"""


def test_kill_and_go_on(tmp_path: Path) -> None:
    out, calls = tmp_path / "run", tmp_path / "run" / "calls.jsonl"
    with serving(delay=0.06) as server:
        finished: list[int] = []
        for target in (5, 13):
            process = subprocess.Popen([sys.executable, "-c", RUN, server.url, str(out)])
            until = time.monotonic() + 20
            while not calls.exists() or calls.read_bytes().count(b"\n") <= target:
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.005)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            finished.append(len(entries(calls)))
        # As if the last line had been under way when the machine stopped.
        with calls.open("ab") as file:
            file.write(b'{"key": "00", "text": "tor')
        done = subprocess.run([sys.executable, "-c", RUN, server.url, str(out)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert len(entries(calls)) == 24
        assert finished[0] < finished[1] < 24
        asked = {}
        for request in server.requests:
            key = json.dumps([request["messages"], request["seed"]])
            asked[key] = asked.get(key, 0) + 1
        # Only calls that were under way at a kill, at most three each time, are made again.
        assert len(asked) == 24
        assert sum(asked.values()) <= 24 + 2 * 3
        whole = subprocess.run(
            [sys.executable, "-c", RUN, server.url, str(tmp_path / "b")], capture_output=True, text=True
        )
    assert done.stdout == whole.stdout != ""


def test_neutral_dialogues_are_filtered(tmp_path: Path) -> None:
    def text(body: dict[str, Any]) -> str:
        if "a bus" in body["messages"][1]["content"]:
            return f"[[1]]\nPerson: How long?\n[[2]]\n{prose(str(body['seed']), 60)[:-1]}"
        return f"[[1]]\n{prose('same', 60)}\n[[2]]\n{prose('same', 60)}"

    with serving(text=text) as server:
        neutral = generate_neutral(PLAN, writer(server.url), tmp_path, per_topic=2)
    assert neutral.texts == (prose("same", 60),)
    assert json.loads((tmp_path / "neutral.json").read_text())["filtered"] == {
        "too short": 1, "cut off": 1, "near duplicate": 1,
    }  # fmt: skip


def test_an_absent_library_is_named() -> None:
    code = (
        "import sys\nsys.modules['httpx'] = sys.modules['datasets'] = None\n"
        "from heartstrings.corpus import read_stories\n"
        "from heartstrings.corpus.endpoint import EndpointWriter\n"
        "from heartstrings.core.errors import MissingExtra\n"
        "for act in (lambda: EndpointWriter('http://x', 'y'), lambda: read_stories('some/stories')):\n"
        "    try:\n        act()\n    except MissingExtra as error:\n        print(error)\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "heartstrings[endpoint]" in said
    assert "heartstrings[hub]" in said


def test_a_ledger_survives_any_cut_and_refuses_other_damage(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    with Ledger(path) as ledger:
        ledger.add("a", {"text": "été"})
        ledger.add("b", {"text": "x"})
    content = path.read_bytes()
    starts = [at + 1 for at, byte in enumerate(content) if byte == ord("\n")]
    for size in range(len(content) + 1):
        path.write_bytes(content[:size])
        with Ledger(path) as ledger:
            assert list(ledger.entries) == ["a", "b"][: max(sum(start <= size for start in starts) - 1, 0)]
            assert ledger.torn == (size > 0 and size not in starts)
            ledger.add("c", {"text": "y"})
        with Ledger(path) as ledger:
            assert ledger.entries["c"] == {"text": "y"}
            assert ledger.torn == 0
    path.write_bytes(content.replace(b'"key": "a"', b'"key: "a"'))
    with pytest.raises(InputError, match=r"calls\.jsonl:2 is damaged"):
        Ledger(path)
    path.write_bytes(b'{"other": 1}\n' + content)
    with pytest.raises(InputError, match="no ledger"):
        Ledger(path)
    path.write_bytes(content)
    with Ledger(path), pytest.raises(InputError, match="in use"):
        Ledger(path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        Ledger(tmp_path / "file" / "calls.jsonl")


def test_a_full_disk_is_one_clear_error_and_keeps_what_there_is(tmp_path: Path) -> None:
    pytest.importorskip("resource")
    code = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000))\n" + RUN
    with serving() as server:
        command = [sys.executable, "-c", code, server.url, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert "InputError: cannot write" in done.stderr
        assert "finished calls are kept" in done.stderr
        kept = entries(tmp_path / "calls.jsonl")
        assert 1 <= len(kept) < 24
        with Ledger(tmp_path / "calls.jsonl") as ledger:
            assert (len(ledger.entries), ledger.torn) == (len(kept), 0)
    assert [path.name for path in tmp_path.iterdir()] == ["calls.jsonl"]


@pytest.mark.parametrize(
    ("answer", "n", "pieces", "verdict"),
    [
        ("[[1]]\nOne.\n\n[[2]]\nTwo.", 2, ((1, "One."), (2, "Two.")), "ok"),
        ("Sure!\n\n**[[1]]**\n\nOne.\n---\n## [[2]]\nTwo\nlines.\n", 2, ((1, "One."), (2, "Two\nlines.")), "ok"),
        ("Story 1:\nOne.\nStory 2:\nTwo.", 2, ((1, "One."), (2, "Two.")), "ok"),
        ("[[2]]\nTwo.\n[[1]]\nOne.\n[[7]]\nSeven.", 2, ((1, "One."), (2, "Two.")), "ok"),
        ("[[1]]\nOne.\n[[2]]\n", 2, ((1, "One."),), "ok"),
        ("<think>[[1]]\nNo.</think>[[1]]\nOne.", 1, ((1, "One."),), "ok"),
        ("No thoughts shown.</think>\n[[1]]\nOne.", 1, ((1, "One."),), "ok"),
        ("<think>still at it", 1, (), "empty"),
        ("  \n", 1, (), "empty"),
        ("Just one story.", 1, ((1, "Just one story."),), "ok"),
        ("Just one story.", 2, (), "unreadable"),
        ("I cannot help with that.", 1, (), "refused"),
        ("[[1]]\n\n[[2]]\n", 2, (), "unreadable"),
        ('[[1]]\n"I\'m sorry," he said.', 1, ((1, '"I\'m sorry," he said.'),), "ok"),
    ],
)
def test_answers_are_taken_apart(answer: str, n: int, pieces: tuple[tuple[int, str], ...], verdict: str) -> None:
    assert parse(answer, n=n) == (pieces, verdict)


@pytest.mark.parametrize(
    "changes",
    [
        {"emotions": ("sad",)}, {"emotions": ("sad", "sad")}, {"emotions": ("sad", " ")},
        {"emotions": ("sad", "Calm")}, {"topics": ()},
        {"topics": ("a", "a")}, {"stories": 0}, {"per_call": 0}, {"words": 3}, {"retries": -1},
        {"temperature": -0.1}, {"temperature": float("nan")}, {"top_p": 0.0}, {"max_calls": 0},
    ],
)  # fmt: skip
def test_plans_that_make_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        replace(PLAN, **changes)


@pytest.mark.parametrize(
    "changes", [{"base_url": "localhost:80"}, {"model": ""}, {"concurrency": 0}, {"tries": 0}, {"timeout": 0.0}]
)
def test_endpoints_that_make_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        replace(writer("http://localhost"), **changes)
