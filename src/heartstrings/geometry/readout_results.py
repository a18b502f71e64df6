"""What the readouts report: frozen values that serialise to JSON (docs/geometry.md)."""

from __future__ import annotations

from heartstrings.core.types import Frozen, Variant

SCHEMA_VERSION = 1


class Estimate(Frozen):
    """A number with its 95% interval (percentile bootstrap over emotions) and what guessing gives."""

    value: float
    low: float | None
    high: float | None
    chance: float


class Ranks(Frozen):
    """How high the true emotion stands among all, by cosine, for the texts of one layer."""

    layer: int
    top1: Estimate
    top5: Estimate
    mean_rank: Estimate
    reciprocal_rank: Estimate
    """Mean of 1 / rank."""
    percentile: Estimate
    """Mean share of the other emotions that stand below the true one: 1 is perfect, .5 is guessing."""
    family: Estimate
    """Share of texts whose nearest emotion is of the true family."""
    p: float
    """Null: the emotions of one topic half are permuted against the other's, and the best layer is searched again."""


class Confused(Frozen):
    """Texts of one emotion whose nearest vector is another's."""

    true: str
    read_as: str
    texts: int
    share: float
    """Of the texts of the true emotion."""


class Confusion(Frozen):
    """Families of feeling: rows are true, columns what was read, entries shares of the row."""

    families: tuple[str, ...]
    shares: tuple[tuple[float | None, ...], ...]
    texts: tuple[int, ...]
    """Texts a row; a row without texts is all None."""
    worst: tuple[Confused, ...]
    """The emotions most often read as one other."""


class HeldOut(Frozen):
    """Stories read with vectors of the other topic half."""

    n_stories: int
    n_emotions: int
    layers: tuple[Ranks, ...]
    confusion: Confusion
    """At the shown layer."""


class ScenarioRank(Frozen):
    """One text that evokes an emotion without naming it."""

    target: str
    text: str
    rank: int | None
    """Of the target among the emotions; None when the target has no vector or the text is too short."""
    nearest: tuple[str, ...]
    cosine: float | None


class ScenarioResult(Frozen):
    """All scenarios at one layer."""

    layer: int
    pooling: str
    n: int
    n_left_out: int
    top1: float | None
    top5: float | None
    mean_rank: float | None
    chance_rank: float
    family: float | None
    p: float | None
    """Null: the targets are permuted over the scenarios; the statistic is the mean rank."""
    rows: tuple[ScenarioRank, ...]


class OwnEmotion(Frozen):
    """One emotion read for itself: its stories against those of other families, with the contrast from other topics."""

    emotion: str
    auc: float
    """At the layer where it is largest: the probability that a story of the emotion scores over one of another family.
    .5 is guessing."""
    low: float | None
    high: float | None
    """95%, percentile bootstrap over topics, for these vectors; None under six topics, or where all topics agree."""
    p: float | None
    """Null: in each topic the emotion's place goes to another, families changing places as wholes; the best layer is
    searched again."""
    layer: int
    n: int
    """Stories of the emotion."""
    by_layer: tuple[float, ...]
    """AUC at every layer of the bundle."""
    words: float | None = None
    """The same AUC from the words of the stories alone; None where that was not computed."""


class WordsAlone(Frozen):
    """The readouts with the words of each story in place of its activations: what no model is needed for."""

    words: int
    """Different words of the training topics, the larger half."""
    top1: Estimate | None
    top5: Estimate | None
    family: Estimate | None
    valence_r2: float | None
    """As `readout_valence_r2` of the geometry: on held-out families, and topics."""
    arousal_r2: float | None


class ReadoutResult(Frozen):
    """Everything read with one bundle."""

    schema_version: int = SCHEMA_VERSION
    sentence: str
    shown_layer: int
    variant: Variant
    held_out: HeldOut | None
    scenarios: ScenarioResult | None
    notes: tuple[str, ...] = ()
    own: tuple[OwnEmotion, ...] = ()
    """Each emotion for itself; empty in files of before, and where nothing was held out."""
    words: WordsAlone | None = None
