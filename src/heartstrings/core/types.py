"""Frozen values that all stages share. They serialise to JSON."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

Site = Literal["block", "attention", "mlp"]
"""Where a vector is read or added: `block` is the residual stream after a block's last skip connection and
before any final norm; `attention` and `mlp` are that sublayer's output before its skip connection."""

Variant = Literal["raw", "denoised"]
Weighting = Literal["story", "token"]

SINK_RATIO = 10.0
"""A token whose residual norm is over this many times the text's median norm is an attention sink."""


class Frozen(BaseModel):
    """A value: immutable, hashable by content, refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Pooling(Frozen):
    """How a text becomes one vector at each layer. Positions are 0-based and count real tokens only, BOS included.

    `from`: mean over tokens `start`, `start+1`, ... to the end of the text.
    `window`: mean over tokens `start` to `stop - 1`; a text that does not fill the window is set aside.
    `centred`: as `from`, each token minus the mean residual at its position over the whole corpus.
    """

    rule: Literal["from", "window", "centred"] = "from"
    start: int = 50
    stop: int | None = None

    @model_validator(mode="after")
    def _check(self) -> Pooling:
        if self.start < 0:
            raise ValueError(f"pooling starts at token {self.start}; expected 0 or more")
        if (self.rule == "window") != (self.stop is not None):
            raise ValueError("a window needs `stop`, and only a window has one")
        if self.stop is not None and self.stop <= self.start:
            raise ValueError(f"window {self.start} to {self.stop} is empty; expected stop > start")
        return self

    @property
    def label(self) -> str:
        """A short name for file names and plots, e.g. `from50`, `window50-114`, `centred50`."""
        end = "" if self.stop is None else f"-{self.stop}"
        return f"{self.rule}{self.start}{end}"


class ModelInfo(Frozen):
    """The identity of a loaded model, recorded in every artefact."""

    model_id: str
    revision: str | None = None
    architecture: str
    """The configuration's `model_type`, e.g. `llama`."""
    n_layers: int
    width: int
    is_encoder: bool = False
    dtype: str
    device: str
    engine: str
    """Engine, library and version, e.g. `torch 2.13.0, transformers 5.17.0`."""
    weights_hash: str
    """Fingerprint of the stored weights: the same for a renamed folder, another for other weights. For a GGUF file,
    `gguf-sha256:` and the hash of the file."""
    template_hash: str | None = None
    """SHA-256 of the chat template; None when the model has none."""
    tokenizer_hash: str | None = None
    quantisation: str | None = None
    """The type that most weights were stored in, e.g. `Q4_1` in a GGUF file; None for unquantised weights."""


class Precision(Frozen):
    """What `--dtype auto` found when it compared bfloat16 with float32 on a sample of the stories.

    The noise of a contrast vector becomes smaller with more stories, and so does the part of the rounding error that
    differs from story to story. The part that all stories share does not. So both parts are estimated from the sample,
    and the ratios are those expected with all stories (`heartstrings.stats.error_share`).
    """

    dtype: str
    """The precision that the texts are read in: `bfloat16`, or the one that the weights are stored in."""
    weights_hash: str
    """Of the model that was compared."""
    n_sample: int
    """Stories in the sample."""
    n_emotions: int
    """Emotions in the sample."""
    limit: float
    """Largest ratio at which bfloat16 is used."""
    ratio: float | None = None
    """Rounding error of the contrasts over their split-half noise, root mean squares over emotions: the median over
    layers. None: there was no finite ratio, as bfloat16 gave NaN or Inf, or the stories have no noise."""
    worst: float | None = None
    """The same at the layer where it is largest. This one decides."""
    worst_layer: int | None = None
    shared: float | None = None
    """The part of `worst` that all stories share."""
    least_cosine: float | None = None
    """Smallest cosine of a contrast in bfloat16 with the same in float32, over all emotions and layers."""

    @property
    def passed(self) -> bool:
        """Whether the rounding error is within the limit."""
        return self.worst is not None and self.worst <= self.limit

    @property
    def sentence(self) -> str:
        """The result with its figures, for a reader."""
        if self.worst is None:
            return f"Texts are read in {self.dtype}: no finite vectors in bfloat16 could be compared."
        figures = (
            f"{self.worst:.2g} of the split-half noise at the worst layer ({self.worst_layer}), {self.ratio:.2g} at "
            f"the median layer; limit {self.limit:g}"
        )
        if self.passed:
            return f"Texts are read in {self.dtype}: its rounding error in the vectors is {figures}."
        return f"Texts are read in {self.dtype} and not in bfloat16, whose rounding error in the vectors is {figures}."


class StoryRounds(Frozen):
    """How stories were read in rounds until the contrasts were reliable (`heartstrings.vectors.story_rounds`)."""

    target: float
    """Reliability that every emotion should have at every one of `layers`."""
    layers: tuple[int, ...]
    seed: int
    """Of the order of the topics."""
    corpus_hash: str
    """Of all stories that there were."""
    n_stories: int
    """The number of these."""
    n_emotions: int
    topics: tuple[str, ...]
    """Those whose stories were used, sorted."""
    rounds: tuple[tuple[int, float], ...]
    """After each round: stories read so far, and the lowest reliability of an emotion at a layer."""
    n_below: int
    """Emotions under the target at some layer after the last round."""
    weakest: str
    """The emotion with the lowest reliability."""

    @property
    def reached(self) -> bool:
        """Whether every emotion reached the target."""
        return self.n_below == 0

    @property
    def sentence(self) -> str:
        """What was saved, or that the target was not reached."""
        used, lowest = self.rounds[-1]
        if self.reached and used == self.n_stories:
            return (
                f"all {used} stories were needed for a reliability of at least {self.target:g} for all "
                f"{self.n_emotions} emotions"
            )
        if self.reached:
            saved = 1 - used / self.n_stories
            return (
                f"{used} of {self.n_stories} stories were enough: reliability at least {self.target:g} for all "
                f"{self.n_emotions} emotions; {saved:.0%} of the reading saved"
            )
        return (
            f"all {self.n_stories} stories were read: {self.n_below} of {self.n_emotions} emotions have a reliability "
            f"under {self.target:g}, the lowest {lowest:.2f} ({self.weakest})"
        )


class Provenance(Frozen):
    """The origin of a bundle. It has no clock times, so that the same inputs give the same bytes."""

    package_version: str
    source: Literal["extracted", "imported", "derived"]
    model: ModelInfo | None
    """None for imported vectors of a model that is not available."""
    corpus_source: str | None = None
    corpus_author: str | None = None
    corpus_hash: str | None = None
    corpus_filtered: dict[str, int] = {}
    neutral_hash: str | None = None
    calibration_hash: str | None = None
    pooling: Pooling | None = None
    weighting: Weighting = "story"
    site: Site = "block"
    centring: str = "mean over emotions"
    denoise_variance: float = 0.5
    max_tokens: int = 512
    token_budget: int = 0
    seed: int = 0
    n_stories: int = 0
    n_set_aside: int = 0
    """Stories too short for the pooling rule."""
    n_truncated: int = 0
    n_sinks: int = 0
    notes: tuple[str, ...] = ()
    precision: Precision | None = None
    """The comparison that chose the precision, where `--dtype auto` made one. `model.dtype` is the precision itself."""
    rounds: StoryRounds | None = None
    """None where all stories were read at once."""

    @model_serializer(mode="wrap")
    def _as_before(self, values: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Fields that came later are left out where they say nothing: such bundles keep their bytes and their hash."""
        record: dict[str, Any] = values(self)
        for name in ("precision", "rounds"):
            if record.get(name) is None:
                record.pop(name, None)
        return record
