"""What a verdict says: frozen values that serialise to `verdict.json` (docs/verdict.md).

A number that could not be computed is None, never 0. Rates and their changes are fractions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ValidationError

from heartstrings.core.checks import first_problem
from heartstrings.core.errors import InputError
from heartstrings.core.notebook import html_table
from heartstrings.core.types import Frozen, Site
from heartstrings.experiment.dose_fit import DoseFit
from heartstrings.experiment.ledger import ControlKind
from heartstrings.experiment.plan import Thresholds
from heartstrings.stats.estimate import Estimate, estimate
from heartstrings.stats.intervals import Interval

SCHEMA_VERSION = 2
"""2: six answers, `shape` and `shown`. A verdict of version 1 is read too: it lacks these two."""

Answer = Literal[
    "controls",
    "controls, no safe range",
    "moves, not specifically",
    "encoded, does not control",
    "not encoded",
    "inconclusive",
]
Pushed = Literal["direction"] | ControlKind
Encoded = Literal["encoded", "not encoded", "inconclusive", "not examined"]


class DosePoint(Frozen):
    """One dose on a curve."""

    dose: float
    estimate: Estimate
    n: int
    """Samples with a grade."""
    missing: int = 0

    @classmethod
    def at(cls, dose: float, interval: Interval) -> DosePoint:
        return cls(dose=dose, estimate=estimate(interval), n=interval.n, missing=interval.missing)


class Curve(Frozen):
    """A quantity over the dose grid, the baseline at dose 0."""

    behaviour: str
    outcome_name: str
    points: tuple[DosePoint, ...]
    change: tuple[DosePoint, ...]
    """Against the baseline, paired by scenario; its 95% interval is the one that is held against a threshold."""
    band: tuple[DosePoint, ...] = ()
    """The same changes with intervals that hold at all doses together, at 95% (`heartstrings.stats.bands`)."""


class ControlGroup(Frozen):
    """Slopes of one kind of control direction, at each one's own layer."""

    kind: ControlKind
    slopes: tuple[float, ...]
    p: float
    """(b + 1) / (n + 1), b the controls whose largest contrast is at least the one that is told of the direction."""
    envelope: tuple[DosePoint, ...]
    """Mean outcome of the controls by dose; low and high are the lowest and the highest control."""


class Reliability(Frozen):
    """Slopes prompt by prompt (arXiv 2407.12404, 2505.22637)."""

    slopes: tuple[float, ...]
    """Least-squares change of the outcome per unit of dose, one a prompt."""
    against: Estimate
    """Share of prompts that move against the mean slope (Wilson)."""
    story_coherence: float | None
    """Mean cosine between the stories' activation differences (story minus centre) and the emotion's vector."""


class LayerChoice(Frozen):
    """What one searched layer did on the select half."""

    layer: int
    slope: Estimate
    """Outcome per unit of dose between the two doses that were compared."""
    chosen: bool
    points: tuple[DosePoint, ...] = ()
    """The outcome at these doses and at the baseline."""

    @property
    def change(self) -> Estimate:
        """Outcome at the higher of the two doses minus outcome at the lower one."""
        doses = [point.dose for point in self.points if point.dose != 0]
        return self.slope.times(max(doses) - min(doses)) if doses else Estimate(value=None, low=None, high=None)


class ControlCost(Frozen):
    """How far each control of one kind moves the next-token distribution on neutral prose."""

    kind: ControlKind
    points: tuple[DosePoint, ...]
    """Mean over the controls by dose, in nats a token; low and high are the lowest and the highest control."""


class GateKind(NamedTuple):
    """What is limited by gates of one kind, and in which direction it gets worse."""

    about: str
    """What a range of doses keeps, in words."""
    measured: str
    worse: Literal[-1, 1]
    """1: a rise is bad; -1: a drop is."""
    in_nats: bool = False
    """Change and limit are nats a token; else fractions."""


GATE_KINDS: Mapping[str, GateKind] = {
    "accuracy": GateKind("accuracy", "accuracy", -1),
    "harm": GateKind("unrelated harm", "harm", 1),
    "valid": GateKind("validity", "the share of valid answers", -1),
    "perplexity": GateKind("coherence", "perplexity", 1, in_nats=True),
    "repetition": GateKind("coherence", "the share of distinct word pairs", -1),
    "endings": GateKind("coherence", "the share of texts that end properly", -1),
    "script": GateKind("coherence", "the share of letters in the openings' script", -1),
    "log-loss": GateKind("log-loss", "log-loss", 1, in_nats=True),
}
"""By the first word of a gate's name."""


class Gate(Frozen):
    """One condition on the operating range at one dose."""

    dose: float
    name: str
    """`accuracy` (the mean over the capability behaviours), `harm: harm`, `valid: choice`, `perplexity`, `repetition`,
    `endings`."""
    change: Estimate
    """Each bound at 95% by itself."""
    limit: float
    """The side that must stay under the limit: a drop of accuracy or a rise of harm, as a positive number."""
    state: Literal["holds", "fails", "unclear", "missing"]
    """`holds`: the bound on the bad side is under the limit. `fails`: the bound on the other side, corrected over the
    gates, is over it. Else `unclear`."""

    @property
    def kind(self) -> GateKind:
        """What is limited; of a name that this version does not know, a share."""
        first = self.name.partition(":")[0]
        return GATE_KINDS.get(first, GateKind(first, first, -1))

    @property
    def of(self) -> str:
        """The behaviour that it is about, where the name has one; else empty."""
        return self.name.partition(": ")[2]

    @property
    def in_nats(self) -> bool:
        """Whether change and limit are nats a token; else they are fractions."""
        return self.kind.in_nats


class TextSample(Frozen):
    """One text at one dose, for people to read."""

    dose: float
    scenario: str
    prompt: str
    text: str
    outcome: float | None
    log_perplexity: float | None
    worst: bool = False
    """The least coherent text at this dose."""
    clearest: bool = False
    """Its scenario is the one whose outcome moves most, between the ends of the slope window, the way that the mean
    moves."""


class PromptBaseline(Frozen):
    """The behaviour when the emotion is asked for in words, unsteered."""

    form: str
    emotion: str
    outcome: Estimate
    change: Estimate


class Strength(Frozen):
    """How much one activity is preferred, from pairwise choices: Bradley-Terry log-strength, the mean held at 0."""

    item: str
    dose: float
    strength: Estimate
    n: int
    """Pairs it took part in."""


class Check(Frozen):
    """Questions of the effect's form with a known answer, asked unsteered: does the model tell the options apart?"""

    behaviour: str
    outcome: Estimate
    """Mean of the right answer's outcome, with its 95% interval over clusters."""
    chance: float
    """The outcome of a model that does not tell them apart."""
    p: float | None
    """One-sided, of a mean no higher than chance; None where it cannot be computed."""
    n: int
    holds: bool | None
    """Whether p is under alpha; None where samples are missing."""
    what: str = "known answers"
    """`known answers`, or `content beyond position`: whether the questions differ by more than the order of options."""


class Baseline(Frozen):
    """One behaviour unsteered, and whether its outcome has room to move."""

    behaviour: str
    role: str
    outcome: Estimate
    neutral: str
    """What a neutral model does, in a sentence."""
    flag: str | None
    """A floor, a ceiling or chance level, in words; None where an effect could show both ways."""


class Push(Frozen):
    """How far one direction pushes the model, and how far the outcome."""

    kind: Pushed
    name: str
    kl: float | None
    """Divergence from the unsteered model on neutral prose, nats a token: mean over the ends of the slope window."""
    change: float | None
    """Of the outcome, along the contrast that the answer speaks of; as a fraction."""


class Specification(Frozen):
    """The effect under one set of choices that could have been made."""

    half: Literal["search", "report"]
    """Scenarios: those that choose the layer, or those that everything else rests on."""
    layer: int
    contrast: str
    """Of the doses (`heartstrings.stats.contrasts`)."""
    collapsed: bool
    """Whether doses at which coherence fails are among them."""
    effect: Estimate
    """Change along that contrast with its 95% interval, for nothing corrected. That of negative doses is turned round:
    above 0 where pushing along the direction raises the outcome."""
    ps: dict[ControlKind, float]
    """By kind of controls: (b + 1) / (n + 1), b of n controls whose change is at least as large in size."""
    chosen: bool
    """Whether the answer speaks of it."""


class Calibration(Frozen):
    """Controls of one natural kind, each tested as if it were a direction, against another natural kind."""

    behaviour: str
    kind: ControlKind
    against: ControlKind
    controls: int
    """Of `against`."""
    ps: tuple[float, ...]
    """Rising. Where the test is right, a share p of them is p at most."""


class Agreement(Frozen):
    """Automatic grades beside hand grades, on texts of one side of dose."""

    side: str
    """`all`, `unsteered`, `dose < 0` or `dose > 0`."""
    n: int
    """Texts with a hand grade of 1 or 0 and an automatic one."""
    both: int
    """Texts that both grade 1; then only the hand, only the automatic grade, and neither."""
    hand_only: int
    automatic_only: int
    neither: int
    automatic_unclear: int
    """Texts with a hand grade and no automatic one."""
    hand_unclear: int
    """Texts that nobody could decide by hand."""
    sensitivity: Estimate
    specificity: Estimate
    kappa: Estimate


ClaimName = Literal["any push", "natural text", "mixtures of emotions", "other emotions", "beyond valence and arousal"]


class Claim(Frozen):
    """One claim about a direction's effect, with a p of its own. Claims are tested in a fixed order, each at alpha only
    if all before it are shown, so that the order is no further search."""

    name: ClaimName
    compared: int
    """What the direction is compared with, in numbers; where signs are declared, controls count in both directions."""
    rank: int | None
    """1: none of them moves the outcome as far."""
    p_uncorrected: float | None
    p: float | None
    """Corrected over the declared behaviours and over directions."""
    state: Literal["shown", "not shown", "not reached", "missing"]
    """`not reached`: a claim before it is not shown. `missing`: samples are not there, or cannot be had."""
    effect: Estimate | None = None
    """Of the direction without its valence and arousal parts: its own change, along its own contrast."""


class HandChange(Frozen):
    """A change along one contrast of the doses, by automatic and by hand grades."""

    shape: str
    corrected: Estimate
    """By prediction-powered inference (`heartstrings.stats.ppi`); texts unclear by hand count as 0 and as 1, whichever
    is worse."""
    uncorrected: Estimate
    """Automatic grades alone, unclear ones left out."""
    unclear_low: Estimate
    """Automatic grades alone, every unclear one as the change would be least; `unclear_high`: as it would be most."""
    unclear_high: Estimate


class HandGraded(Frozen):
    """What hand grades say of one behaviour's automatic ones."""

    behaviour: str
    n: int
    """Texts of these cells with a hand grade of 1 or 0."""
    agreements: tuple[Agreement, ...]
    changes: tuple[HandChange, ...]
    """Of the effect: along the contrast that the answer speaks of. Of others: at either end of the slope window."""


class OwnEncoding(Frozen):
    """Whether the emotion that is steered is itself read off stories on topics that its vector was not made from
    (`heartstrings.geometry.own_emotion`)."""

    auc: float
    """At the layer where it is largest, which `p` pays for; .5 is guessing."""
    low: float | None
    high: float | None
    p: float | None
    layer: int
    words: float | None
    """The same AUC from the words of the stories alone."""


class AnswerCard(Frozen):
    """The answer for one behaviour, direction, site and layer."""

    model: str
    behaviour: str
    direction: str
    site: Site
    layer: int
    answer: Answer
    range: tuple[float, float] | None
    """The widest tested dose interval around 0 where every gate holds; None where there is none."""
    within_range: Estimate | None = None
    """Change of the outcome between the ends of the range that the gates leave, where it is narrower than the slope
    window: what a user of that range gets."""
    slope: Estimate
    """Logistic slope: change of the outcome's log-odds per unit of dose, within the slope window."""
    p: float | None
    """Of the contrast that is told, against the controls: the largest p over their kinds, corrected over the plan."""
    samples: int
    """Samples that this answer rests on, controls included."""
    sentence: str
    encoded: Encoded
    own_encoding: OwnEncoding | None = None
    """Of the emotion that is steered; None for blends, and where the atlas did not read it. Where it is read, the
    answer is never `not encoded`."""
    p_uncorrected: float | None
    effect: Estimate
    """Change of the outcome between the ends of the slope window along a straight line, as a fraction."""
    shape: str = "line"
    """The contrast of the doses that the answer speaks of (`heartstrings.stats.contrasts`)."""
    shown: Estimate | None = None
    """The change along that contrast; its interval holds together with those of all other contrasts."""
    matched: Estimate
    """The same direction's change on the content-matched control questions, along the same contrast."""
    exceeds_matched: bool | None
    controls: tuple[ControlGroup, ...]
    curve: Curve
    costs: tuple[Curve, ...]
    """Capability, harm, validity, perplexity, repetition, endings, tone."""
    control_costs: tuple[ControlCost, ...] = ()
    """Divergence of the controls, beside the direction's own in `costs`."""
    gates: tuple[Gate, ...]
    positive_side: float | None
    """The largest tested dose up to which every gate holds on the positive side; None: not even the smallest."""
    negative_side: float | None
    reliability: Reliability | None
    layers: tuple[LayerChoice, ...]
    prompting: tuple[PromptBaseline, ...]
    preferences: tuple[Strength, ...]
    """Without steering and at both ends of the slope window."""
    texts: tuple[TextSample, ...]
    missing: tuple[str, ...]
    """What was not examined, or could not be, in words."""
    more: int | None
    """For `inconclusive`: about how many more scenarios a cell would settle it."""
    why: tuple[str, ...] = ()
    """Where no effect was shown: other layers, whether the push reaches the output, what else the direction moves."""
    checks: tuple[Check, ...] = ()
    """Whether the model tells the options apart; empty where no question with a known answer was asked."""
    baselines: tuple[Baseline, ...] = ()
    """The effect behaviour first, then its matched ones, capability, harm and writing."""
    discovery: bool | None = None
    """Of a behaviour that nobody declared: whether it is a discovery at a false discovery rate of alpha
    (`heartstrings.verdict.measured.discoveries`). None: it is declared."""
    claims: tuple[Claim, ...] = ()
    """What the direction exceeds, weakest claim first."""
    hand_graded: tuple[HandGraded, ...] = ()
    """Of each behaviour with hand grades, the effect first (`heartstrings grade`)."""
    pushes: tuple[Push, ...] = ()
    """The direction first, then every control that was sampled."""
    p_at_equal_kl: float | None = None
    """Against the controls at equal divergence (`heartstrings.verdict.pushes`); None where none was measured. It
    describes, and changes no answer."""
    specifications: tuple[Specification, ...] = ()
    """By effect, rising. They describe, and change no answer."""

    @property
    def told(self) -> Estimate:
        """The change that the answer speaks of: between the ends of the slope window, or along another contrast."""
        return self.effect if self.shape == "line" or self.shown is None else self.shown

    @property
    def told_where(self) -> str:
        """The contrast in brackets, ` (both sides)`; nothing where it is a straight line."""
        return "" if self.shape == "line" or self.shown is None else f" ({self.shape})"


class Verdict(Frozen):
    """`verdict.json`."""

    schema_version: int = SCHEMA_VERSION
    package_version: str
    plan_hash: str
    seed: int
    thresholds: Thresholds
    organism: str | None
    """The kind of an organism, from its own card: for display beside the answer, never used for it."""
    power: str
    """What these samples can detect, in a sentence."""
    doses: DoseFit | None = None
    """How the doses were fitted to the model; None: they were not, or not in this run."""
    answers: tuple[AnswerCard, ...]
    look: int = 1
    """Which of the plan's looks this is, from 1; `looks`: how many there are, each with an equal part of alpha."""
    looks: int = 1
    notes: tuple[str, ...] = ()
    calibration: tuple[Calibration, ...] = ()
    """Whether the comparison with controls is fair; empty without two natural kinds of controls."""
    weights_hash: str | None = None
    """Fingerprint of the model's weights; None: the ledger does not say."""
    vectors_hash: str | None = None
    """Fingerprint of the directions and controls; None: the ledger does not say."""

    @classmethod
    def load(cls, path: str | Path) -> Verdict:
        """Read `verdict.json`, or the one in the folder of a run.

        Raises:
            InputError: no such file, or one that is damaged or of a newer schema.
        """
        file = Path(path) / "verdict.json" if Path(path).is_dir() else Path(path)
        try:
            verdict = cls.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            raise InputError(
                f"no verdict: {file.parent} has no {file.name}", "the folder of a run", "Run `heartstrings run`"
            ) from None
        except (ValidationError, OSError) as error:
            problem = first_problem(error) if isinstance(error, ValidationError) else error
            raise InputError(
                f"{file} cannot be read: {problem}",
                f"a verdict of schema version {SCHEMA_VERSION}",
                "Make it again with `heartstrings verdict`",
            ) from None
        if not 1 <= verdict.schema_version <= SCHEMA_VERSION:
            raise InputError(
                f"{file} is of schema version {verdict.schema_version}",
                f"version {SCHEMA_VERSION} at most",
                "Make it again with `heartstrings verdict`",
            )
        return verdict

    def _repr_html_(self) -> str:
        """What a notebook shows: the answers, and each of them as a sentence."""

        def points(value: float | None) -> str:
            return "–" if value is None else f"{100 * value:+.0f}"

        rows = [
            (
                f"{card.behaviour}, {card.direction}",
                card.layer,
                card.answer,
                "–" if card.range is None else f"{card.range[0]:g} to {card.range[1]:g}",
                f"{points(card.told.value)} [{points(card.told.low)}, {points(card.told.high)}]",
                "–" if card.p is None else f"{card.p:.3f}",
            )
            for card in self.answers
        ]
        columns = ("behaviour, direction", "block", "answer", "dose range", "effect, points [95%]", "p")
        return html_table(
            "Does steering control behaviour?", columns, rows, note=" ".join(card.sentence for card in self.answers)
        )
