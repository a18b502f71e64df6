"""Every suite and recipe at its own sizes: there are as many scenarios as it asks, and a whole ledger has a verdict.

The cells are the package's own, from the plan to the last control; the answers are simulated (no model is imitated).
Scenarios and cells are never fewer than a plan asks: that is what broke. Of control directions three a kind are
enough where no answer hangs on them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import typer

import models
from heartstrings import cli
from heartstrings.behaviours.base import Behaviour
from heartstrings.behaviours.choices.two_options import TwoOptions, pair_of
from heartstrings.behaviours.roles import CHOSEN, Suite
from heartstrings.behaviours.suites import SUITES, every_behaviour, suite_of
from heartstrings.behaviours.text.likelihood import InWords
from heartstrings.cli import _console as console
from heartstrings.core.errors import InputError
from heartstrings.experiment import cells
from heartstrings.experiment import sample_counts as sizes
from heartstrings.experiment.cells import Chosen, Job, Planned, anywhere, check_scenarios, check_template, select_jobs
from heartstrings.experiment.dry_run import out_of_reach
from heartstrings.experiment.layer_choice import choose_layer
from heartstrings.experiment.ledger import Sample
from heartstrings.experiment.plan import Plan, searched_layers
from heartstrings.experiment.plan_files import preset, write_plan
from heartstrings.verdict import decide
from heartstrings.verdict.results import Answer, AnswerCard, Verdict
from heartstrings.workflows import run as pipeline
from heartstrings.workflows.atlas import AtlasSettings
from heartstrings.workflows.values import whole_numbers

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
DEPTH = 32
"""Blocks of the model that is not there."""
BEST = searched_layers(preset("full", "simulated", suite="text"), DEPTH)[1]
"""The layer at which directions work; half as well at others."""
ANSWERS = get_args(Answer)
NOT_TOLD_APART = "does not tell the options"


def run(*args: str) -> int:
    command = typer.main.get_command(cli.app)
    return console.guarded(lambda: command.main(args=[*args], prog_name="heartstrings", standalone_mode=False))


def of_suite(name: str, settings: str, **changes: Any) -> Plan:
    return preset(settings, "organism:steerable" if name == "organism" else "simulated", suite=name, **changes)


def every_size() -> Iterator[Any]:
    """Each suite under both settings, once where they come to the same."""
    seen: set[str] = set()
    for name in SUITES:
        for settings in ("quick", "full"):
            plan = of_suite(name, settings)
            if plan.hash not in seen:
                seen.add(plan.hash)
                slow = pytest.mark.slow if name in ("standard", "full", "chat") else ()
                yield pytest.param(plan, id=f"{name}-{settings}", marks=slow)


SIZES = list(every_size())


def recipe(file: Path) -> Plan:
    """The plan of a recipe, as `heartstrings run --config` makes it; `test_recipes` goes through the command line."""
    given = tomllib.loads(file.read_text(encoding="utf-8"))
    (plan,) = pipeline.plans_for(
        [given["plan"]["model"]], "full", suite=given["suite"], directions=tuple(given["emotion"].split(",")),
        layers=whole_numbers("--layers", given["layers"]),
    ).values()  # fmt: skip
    return plan


# --- how many scenarios there are -------------------------------------------------------------------------------------


@pytest.mark.parametrize("plan", SIZES)
def test_every_suite_has_as_many_scenarios_as_it_asks(plan: Plan) -> None:
    check_scenarios(plan, suite_of(plan))


@pytest.mark.parametrize("name", [name for name, make in SUITES.items() if make().judged])
def test_there_are_as_many_where_a_judge_reads_too(name: str) -> None:
    plan = of_suite(name, "full", judges=("self",))
    suite = suite_of(plan)
    asked = [one for one in (*suite.harm, *suite.capability, *suite.writing) if one in suite.judged]
    assert asked
    check_scenarios(plan, replace(suite, effects=suite.effects[:1], harm=tuple(asked)))


@pytest.mark.slow
@pytest.mark.parametrize("suite", [None, CHOSEN])
def test_every_behaviour_can_be_asked_by_itself(suite: str | None) -> None:
    """As `--behaviour` does, in `run` (the suite that has it) and in `evaluate` (none)."""
    for name, one in every_behaviour().items():
        judges = ("self",) if getattr(one, "decides", False) else ()
        changes = {} if suite is None else {"suite": suite}
        plan = preset("full", "simulated", effects=(name,), judges=judges, **changes)
        found = suite_of(plan)
        check_scenarios(plan, found)
        assert sizes.searched(plan, found, one) >= 2
        assert sizes.tested(plan, one) >= 2


TOO_MANY = [
    ("chat", {"effect": 5000}, "5020 scenarios of activities-anchored"),
    ("chat-words", {"select": 5000}, "activities-anchored-words"),
    ("agents", {"effect": 84, "dialogue": 84}, "'reward-hacking' has 84 scenarios: 0 would choose layers and 84 be"),
    ("text-quick", {"select": 80}, "behaviour 'feels' has 80 scenarios: 80 would choose layers and 0 be reported"),
]


@pytest.mark.parametrize(("suite", "samples", "said"), TOO_MANY, ids=[name for name, *_ in TOO_MANY])
def test_more_than_there_are_is_refused_before_anything_loads(
    suite: str, samples: dict[str, int], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The model does not exist, and is not even looked for: what is told is the number of scenarios."""
    plan = preset("full", "nobody/no-such-model", suite=suite, samples=samples)
    with pytest.raises(InputError, match="scenarios") as error:
        pipeline.sampled(plan, tmp_path / "out", AtlasSettings(), progress=console.bars(True))
    assert said in str(error.value)
    write_plan(tmp_path / "plan.toml", plan)
    for verb in ("run", "evaluate"):
        assert run(verb, "--plan", str(tmp_path / "plan.toml"), "--out", str(tmp_path / "out")) == 2
        told = capfd.readouterr().err
        assert said in told
        assert "Ask for fewer" in told
    assert not (tmp_path / "out").exists()


def test_a_dialogue_that_chooses_its_own_layers_keeps_the_scenarios_that_are_reported() -> None:
    """42 tasks in two wordings: with 70 to report, 14 are left to choose layers by, whatever `select` says."""
    plan = preset("full", "simulated", effects=("reward-hacking",), samples={"effect": 70, "dialogue": 70})
    suite = suite_of(plan)
    one = suite.behaviour("reward-hacking")
    assert (plan.samples.select, plan.samples.dialogue) == (20, 70)
    assert (sizes.searched(plan, suite, one), sizes.tested(plan, one)) == (14, 70)
    whole = plan.changed(samples={"effect": 84, "dialogue": 84})
    with pytest.raises(InputError, match="0 would choose layers and 84 be reported"):
        check_scenarios(whole, suite)
    check_scenarios(whole.changed(layers=(9,)), suite)


def test_what_follows_a_follower_takes_the_layers_of_the_one_that_was_searched() -> None:
    plan = preset("full", "simulated", suite="standard", effects=("feels-arousal", "feels", "tone", "blackmail"))
    suite = suite_of(plan)
    assert {sizes.leader(plan, suite, name) for name in plan.effects} == {"feels"}


def test_questions_that_no_effect_needs_are_not_counted() -> None:
    """Those of a theme and of tone, where the next word alone is an effect."""
    plan = preset("full", "simulated", suite="text", effects=("feels",))
    asked = {one.name for one in cells._asked(plan, suite_of(plan))}
    assert {"things", "feels-known", "prose", "clozes", "facts-in-words"} <= asked
    assert not {"vignette-honesty-plain", "vignette-known", "tone"} & asked


# --- simulated answers ------------------------------------------------------------------------------------------------


UNCOMPARED = ("baseline", "direction", "stripped", "prompting")


@dataclass(frozen=True)
class World:
    """What steering truly does. Everything is 0 unless said."""

    moved: float = 0.0
    """Change of every effect behaviour between the ends of the slope window, along a tested direction."""
    control: float = 0.01
    """Standard deviation of the same over controls."""
    noise: float = 0.02
    """Standard deviation of one answer's change, and of a scenario's own part in the effect."""
    known: float = 0.85
    """Questions with a known answer; 0.5 is chance."""
    first_letter: float = 0.0
    """How much likelier than half an answer by letter is A, whatever is asked."""
    log_loss: Callable[[float], float] = lambda dose: 0.0
    """Rise at a dose, in nats a token."""
    nats: float = 0.05
    """Standard deviation of one text's log-loss change."""
    flips: float = 0.0
    """Share of the capability answers that come out the other way by chance when steered, as often right as wrong."""


def without_validity(one: Behaviour) -> bool:
    """Behaviours of likelihood: every answer is one."""
    return isinstance(one, InWords) or (one.ask == "choice" and ".text." in type(one).__module__)


def outcomes(world: World, job: Job, draw: np.random.Generator, plan: Plan) -> np.ndarray:
    """One a scenario, cell and repeat. A direction with a declared sign moves that way."""
    one, n = job.behaviour, len(job.scenarios)
    shape = (n, len(job.cells), job.repeats)
    doses = np.array([cell.dose for cell in job.cells])
    steered = np.array([cell.layer >= 0 for cell in job.cells])
    if one.role == "capability":
        right = np.repeat((draw.random(n) < 0.7).astype(float)[:, None], shape[1], axis=1)
        flipped = (draw.random(right.shape) < world.flips) & steered
        return np.repeat(np.where(flipped, 1 - right, right)[:, :, None], job.repeats, axis=2)
    base = draw.normal(0.45, 0.05, n)
    if isinstance(one, TwoOptions):  # both orders of a pair have the same content
        of_pair: dict[str, float] = {}
        base = np.array([of_pair.setdefault(pair_of(s.id), draw.normal(0.4, 0.05)) for s in job.scenarios])
    if one.role == "harm":
        base = draw.uniform(0.03, 0.06, n)
    if one.role == "check":
        base = draw.normal(world.known, 0.1, n)
    pushes = np.zeros((n, len(job.cells)))
    if one.role in ("effect", "matched"):
        strength: dict[tuple[str, str], float] = {}
        for at, cell in enumerate(job.cells):
            if cell.kind == "baseline" or cell.kind == "prompting":
                continue
            sign = plan.sign(one.name, cell.direction) or 1
            moved = sign * world.moved if cell.kind == "direction" and one.role == "effect" else None
            if moved is None:
                moved = strength.setdefault((cell.kind, cell.direction), draw.normal(0, world.control))
            share = 1.0 if cell.layer == BEST else 0.5
            pushes[:, at] = (
                share * draw.normal(moved, world.noise, n) * np.clip(doses[at] / (2 * max(plan.window)), -0.75, 0.75)
            )
    rate = base[:, None] + pushes
    if world.first_letter and isinstance(one, TwoOptions):
        at_first = np.array([1.0 if scenario.data["target"] == "A" else -1.0 for scenario in job.scenarios])
        rate = 0.5 + world.first_letter * at_first[:, None] + np.zeros_like(rate)
    spread = world.noise if one.role in ("effect", "matched", "check") else 0.2 * world.noise
    found = np.clip(rate + draw.normal(0, spread, rate.shape), 0, 1)[:, :, None] + np.zeros(shape)
    return (draw.random(shape) < found).astype(float) if one.ask == "dialogue" else found


def details(world: World, job: Job, draw: np.random.Generator) -> Iterator[dict[str, float]]:
    """One a scenario, cell and repeat, in the order of `Job.items`."""
    own = {scenario.id: draw.normal(3.0, 0.3) for scenario in job.scenarios}
    for item in job.items():
        cell = item.cell
        if job.behaviour.role == "cost":
            rise = world.log_loss(cell.dose) + draw.normal(0, world.nats) if cell.layer >= 0 else 0.0
            yield {"log_loss": own[item.scenario.id] + rise, "kl": cell.dose**2}
        elif job.behaviour.role in ("writing", "effect") and job.behaviour.ask == "text":
            found = {"distinct_2": draw.normal(0.95, 0.01), "n_words": 24.0}
            if job.behaviour.role == "writing":
                found |= {"ends": 1.0}
            else:
                found |= {"same_script": 1.0, "coverage": 0.1, "tone_unnamed": 0.5}
            if cell.kind in UNCOMPARED:
                found["log_perplexity"] = own[item.scenario.id] + draw.normal(0, world.nats)
            yield found
        else:
            yield {}


def answered(world: World, job: Job, draw: np.random.Generator, plan: Plan) -> Iterator[Sample]:
    """Every sample of a job."""
    values = outcomes(world, job, draw, plan)
    row = {scenario.id: at for at, scenario in enumerate(job.scenarios)}
    column = {cell: at for at, cell in enumerate(job.cells)}
    found = [float(values[row[item.scenario.id], column[item.cell], item.repeat]) for item in job.items()]
    if without_validity(job.behaviour) or job.behaviour.role == "cost":
        valid = [None] * len(found)
    else:  # a letter's probability is never quite 1
        valid = draw.uniform(0.96, 0.98, len(found)).tolist() if job.behaviour.ask == "choice" else [1.0] * len(found)
    text = "He opened the door." if job.behaviour.ask != "choice" else None
    every = zip(job.items(), found, valid, details(world, job, draw), strict=True)
    for item, outcome, share, detail in every:
        yield Sample(
            cell=item.cell, scenario=item.scenario.id, group=item.scenario.group, repeat=item.repeat,
            outcome=None if job.behaviour.role == "cost" else outcome, valid=share, text=text, detail=detail,
        )  # fmt: skip


class Ledger:
    """Rows in memory, with a ledger's method."""

    def __init__(self, rows: list[Sample]) -> None:
        self.rows = rows

    def samples(self) -> list[Sample]:
        return self.rows


def fewer(job: Job, controls: int | None) -> Job:
    """Every scenario; of control directions so many a kind, None: all."""
    kept = [
        cell for cell in job.cells
        if controls is None or cell.kind in UNCOMPARED or number(cell.direction) < controls
    ]  # fmt: skip
    return job.of(job.scenarios, kept)


def number(control: str) -> int:
    return int(control.partition("/")[2].partition(":")[0])


def chosen(plan: Plan, suite: Suite, names: Planned, rows: list[Sample], layers: Sequence[int]) -> Chosen:
    """By the rule that the experiment and the verdict share."""
    searches: dict[tuple[str, str, str], list[Sample]] = {}
    for row in rows:
        searches.setdefault((row.cell.behaviour, row.cell.kind, row.cell.direction), []).append(row)
    found = {}
    for effect, one in anywhere(plan, names, layers[0]):
        search = searches.get((sizes.leader(plan, suite, effect), one.kind, one.direction), [])
        layer = choose_layer(search).layer
        found[effect, one] = layers[0] if layer is None else layer
    return found


def simulated(plan: Plan, world: World, *, controls: int | None = None, seed: int = 0) -> list[Sample]:
    """Every sample of a plan in the order of an experiment: layers are chosen by what came out before."""
    draw = np.random.default_rng(seed)
    suite, names, layers = suite_of(plan), Planned(plan), searched_layers(plan, DEPTH)
    first = [fewer(job, controls) for job in select_jobs(plan, suite, names, layers)]
    rows = [row for job in first for row in answered(world, job, draw, plan)]
    for job in cells.test_jobs(plan, suite, names, chosen(plan, suite, names, rows, layers)):
        rows += answered(world, fewer(job, controls), draw, plan)
    return rows


def judge(plan: Plan, rows: list[Sample]) -> Verdict:
    return decide(plan, Ledger(rows), suite_of(plan), model=plan.model, encoded="encoded")


def check_whole(plan: Plan, verdict: Verdict) -> None:
    """An answer for every effect and direction, and nothing is missing but the controls that were left out."""
    assert [(card.behaviour, card.direction) for card in verdict.answers] == [
        (effect, direction) for effect in plan.effects for direction in plan.directions
    ]
    suite = suite_of(plan)
    for card in verdict.answers:
        assert card.answer in ANSWERS
        assert card.sentence
        assert card.effect.low is not None, card.behaviour
        assert len(card.checks) >= len(suite.checks_of(card.behaviour))
        assert all(check.holds for check in card.checks), card.checks
        assert {gate.state for gate in card.gates} <= {"holds", "unclear"}, card.gates
        open_ends = ("controls are not finished", "not examined", "control questions were not asked", "could be fitted")
        assert [words for words in card.missing if not words.endswith(open_ends)] == []
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


@pytest.mark.parametrize("plan", SIZES)
def test_a_whole_ledger_of_every_suite_has_a_verdict(plan: Plan) -> None:
    check_whole(plan, judge(plan, simulated(plan, World(moved=0.3), controls=3)))


@pytest.mark.parametrize("plan", SIZES)
def test_every_limit_can_be_held_at_the_sizes_that_a_suite_asks(plan: Plan) -> None:
    """Where nothing gets worse, every gate holds at the smallest doses, so that `controls` can be reached."""
    for card in judge(plan, simulated(plan, World(moved=0.3), controls=1)).answers:
        assert not {gate.name for gate in card.gates if gate.state != "holds" and abs(gate.dose) < 0.2}, card.behaviour
        assert card.positive_side is not None, card.behaviour


@pytest.mark.parametrize("plan", SIZES)
def test_what_is_out_of_reach_is_told_before_the_first_sample(plan: Plan) -> None:
    assert out_of_reach(plan, suite_of(plan)) == ()


def test_a_plan_of_too_few_requests_is_told_how_many_are_needed() -> None:
    plan = of_suite("chat", "full", samples={"harm": 40})
    assert out_of_reach(plan, suite_of(plan)) == tuple(
        f"{name}: 20 situations cannot hold the limit of harm, 5 points, even if nothing changes (63 can), so that "
        "`controls` is out of reach"
        for name in ("misalignment", "compliance")
    )


@pytest.mark.slow
@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.stem)
def test_a_whole_ledger_of_every_recipe_has_a_verdict(file: Path) -> None:
    plan = recipe(file)
    check_scenarios(plan, suite_of(plan))
    check_whole(plan, judge(plan, simulated(plan, World(moved=0.3), controls=3)))


# --- which answers the suites in plain text can give ------------------------------------------------------------------


@cache
def of_text(name: str) -> Plan:
    return of_suite(name, "full")


def cards(name: str, world: World, *, seed: int = 0) -> list[AnswerCard]:
    plan = of_text(name)
    return list(judge(plan, simulated(plan, world, seed=seed)).answers)


TEXTS = pytest.mark.parametrize("name", ["text-quick", pytest.param("text", marks=pytest.mark.slow)])


@TEXTS
def test_a_large_effect_without_costs_is_control_with_a_range(name: str) -> None:
    for card in cards(name, World(moved=0.3)):
        assert (card.p or 1.0) < 0.05
        assert card.answer == "controls", (card.sentence, card.more)
        assert card.range == (-0.2, 0.2)


@TEXTS
def test_at_chance_on_known_answers_nothing_is_said_of_any_effect(name: str) -> None:
    """With a large effect as with none: no denial either."""
    for moved in (0.3, 0.0) if name == "text-quick" else (0.0,):
        found = [card for card in cards(name, World(moved=moved, known=0.5)) if card.checks]
        assert "feels" in {card.behaviour for card in found}
        for card in found:
            assert card.answer == "inconclusive", card.sentence
            assert NOT_TOLD_APART in card.sentence
            assert "does not control" not in card.sentence


@TEXTS
def test_unfinished_checks_keep_the_answer_open_and_are_named(name: str) -> None:
    plan = of_text(name)
    checks = {one.name: one for one in suite_of(plan).check}
    rows = simulated(plan, World(moved=0.3))
    asked = {one: {row.scenario for row in rows if row.cell.behaviour == one} for one in checks}
    left_out = {max(scenarios) for scenarios in asked.values()}
    verdict = judge(plan, [row for row in rows if row.scenario not in left_out])
    for card in (card for card in verdict.answers if card.checks):
        assert card.answer == "inconclusive"
        (check,) = suite_of(plan).checks_of(card.behaviour)
        assert f"{check.name}: 1 questions with a known answer are not asked yet" in card.missing
        assert check.name in card.sentence
        assert [one.holds for one in card.checks] == [None]


@TEXTS
def test_no_effect_is_never_control(name: str) -> None:
    found = [card for seed in range(3 if name == "text-quick" else 1) for card in cards(name, World(), seed=seed)]
    assert {card.answer for card in found} <= {"encoded, does not control", "inconclusive"}
    assert "encoded, does not control" in {card.answer for card in found}


@TEXTS
def test_a_rise_of_log_loss_at_the_smallest_dose_is_no_control(name: str) -> None:
    """All but 0 is over the limit, so the doses of the slope window are left out and nothing is claimed."""
    for card in cards(name, World(moved=0.3, log_loss=lambda dose: float(dose != 0))):
        assert card.answer in ("controls, no safe range", "inconclusive"), card.sentence
        states = {gate.state for gate in card.gates if gate.name.startswith("log-loss")}
        assert states == {"fails"}
        assert card.range is None


@TEXTS
def test_a_rise_of_log_loss_at_the_largest_dose_ends_the_range_before_it(name: str) -> None:
    for card in cards(name, World(moved=0.3, log_loss=lambda dose: float(abs(dose) > 0.15))):
        assert (card.answer, card.range) == ("controls", (-0.1, 0.1)), card.sentence
        assert "log-loss (" in card.sentence


# --- letters ----------------------------------------------------------------------------------------------------------


def pushback(world: World) -> list[AnswerCard]:
    plan = of_suite("chat", "full", effects=("pushback",), layers=(9,))
    return list(judge(plan, simulated(plan, world, controls=3)).answers)


def test_answers_by_letter_alone_show_nothing() -> None:
    """The model says A, on questions with a known answer as on the others: all is at one half, and nothing moves it."""
    for card in pushback(World(first_letter=0.45)):
        assert card.answer == "inconclusive"
        assert f"{NOT_TOLD_APART} of pushback apart" in card.sentence
        assert "known-letters" in card.sentence
        assert "differ by the order of the options and not by the question" in card.sentence
        assert {check.what: check.holds for check in card.checks} == {
            "known answers": False, "content beyond position": False,
        }  # fmt: skip


@pytest.mark.parametrize("noise", [0.02, 0.0])
def test_answers_by_letter_show_nothing_even_where_facts_are_known(noise: float) -> None:
    """To the last digit the same in every pair, too: there is no p then."""
    world = World(first_letter=0.45, noise=noise)
    plan = of_suite("chat", "full", effects=("pushback",), layers=(9,))
    rows = [row for row in simulated(plan, world, controls=3) if row.cell.behaviour != "known-letters"]
    known = [row for row in simulated(plan, World(), controls=3) if row.cell.behaviour == "known-letters"]
    for card in judge(plan, [*rows, *known]).answers:
        assert card.answer == "inconclusive"
        assert f"{NOT_TOLD_APART} of pushback apart" in card.sentence
        assert "known-letters" not in card.sentence
        assert [check.holds for check in card.checks] == [True, False]


def test_answers_by_content_are_told_apart() -> None:
    assert not any(NOT_TOLD_APART in card.sentence for card in pushback(World(moved=0.3)))


# --- what a model can be asked at all ---------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["run", "evaluate"])
def test_questions_in_the_organisms_language_are_refused_to_a_chat_model(
    verb: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(verb, "nobody/chat", "--behaviour", "preferences", "--out", str(tmp_path / "out")) == 2
    said = " ".join(capfd.readouterr().err.split())
    assert "a question in the organisms' small language" in said
    assert "activities-anchored" in said
    assert not (tmp_path / "out").exists()


def test_chats_are_refused_to_a_model_without_a_template_before_its_atlas(tmp_path: Path) -> None:
    model = str(models.folder(tmp_path / "model", "gpt_neox", chat=False))
    plan = preset("quick", model, suite="chat")
    with pytest.raises(InputError, match="no chat template") as error:
        pipeline.sampled(plan, tmp_path / "out", AtlasSettings(), progress=console.bars(True))
    assert "--suite text" in str(error.value)
    assert not (tmp_path / "out" / pipeline.ATLAS).exists()


@pytest.mark.parametrize("name", SUITES)
def test_only_plain_suites_are_asked_without_a_template(name: str) -> None:
    plan = of_suite(name, "quick")
    check_template(plan, suite_of(plan), "simulated", template=True)
    if name in ("text", "text-quick"):
        check_template(plan, suite_of(plan), "simulated", template=False)
    else:
        with pytest.raises(InputError, match="no chat template"):
            check_template(plan, suite_of(plan), "simulated", template=False)
