"""The options of the public functions, which are the flags of the command line too.

Each option is defined once: its name, its type, its default and its help. A public function takes a group of them
(`@takes(RunOptions)`): they appear in its signature and in its docstring, and `heartstrings.cli` makes flags of them.
"""

import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NewType, TypedDict, TypeVar, get_type_hints

if TYPE_CHECKING:
    from heartstrings.core.engine import Engine
    from heartstrings.corpus import Corpus, NeutralTexts
    from heartstrings.corpus.lexicon import Ratings
    from heartstrings.experiment.plan import Plan
    from heartstrings.vectors.emotion_vectors import EmotionVectors
else:
    # Only type checkers need these classes. Importing them here would slow down every `heartstrings --help`.
    Corpus, EmotionVectors, Engine, NeutralTexts, Plan, Ratings = (
        NewType(name, object) for name in ("Corpus", "EmotionVectors", "Engine", "NeutralTexts", "Plan", "Ratings")
    )

Function = TypeVar("Function", bound=Callable[..., Any])
REQUIRED: Any = inspect.Parameter.empty


@dataclass(frozen=True)
class Option:
    """What is known of an option besides its name and type."""

    help: str
    default: Any = REQUIRED
    """Of an option in a group. A parameter that a function declares itself has its default in the signature."""
    argument: bool = False
    """At the command line it stands by its place, without a flag."""
    many: bool = False
    """At the command line it may be given several times."""
    flag: str | None = None
    """Its flag, where that is not its name with dashes."""


# Parameters that functions declare themselves

Model = Annotated[
    str | Engine,
    Option("Hugging Face id, local folder, or organism:KIND. In Python also a loaded model.", argument=True),
]
Models = Annotated[
    str | Engine | Plan | Sequence[str | Engine] | None,
    Option("One model or several. Default: the four organisms, with quick settings.", argument=True, many=True),
]
AtlasModels = Annotated[
    str | Engine | Sequence[str | Engine] | None,
    Option("One model or several. Default: organism:steerable.", argument=True, many=True),
]
PlannedModel = Annotated[
    str | Engine | Plan | None, Option("Model. With --plan, the plan's own. In Python also a plan.", argument=True)
]
Prompt = Annotated[str, Option("What to say to the model.", argument=True)]
Writer = Annotated[
    str | Engine, Option("Who writes: a model id or folder, or an endpoint's model name.", argument=True)
]
Folder = Annotated[str | Path, Option("Folder of a run or an evaluation.", argument=True)]
Finished = Annotated[str | Path, Option("Folder of a finished run.", argument=True)]
Graded = Annotated[str | Path, Option("Folder of a run or an evaluation, finished or not.", argument=True)]
Vectors = Annotated[
    str | Path | EmotionVectors,
    Option("Folder of vectors, or of an atlas. In Python also the vectors themselves.", argument=True),
]
Bundles = Annotated[
    Sequence[str | Path] | Mapping[str, EmotionVectors],
    Option("Two or more folders of vectors, or of atlases. In Python also vectors by name.", argument=True, many=True),
]
Files = Annotated[
    str | PathLike[str] | Sequence[str | PathLike[str]],
    Option("Files or folders; NAME=FILE names the emotion of a file.", argument=True, many=True),
]
What = Annotated[
    str | PathLike[str], Option("A bundle, an atlas, a model folder or id, or organism:KIND.", argument=True)
]
Out = Annotated[str | Path, Option("Folder to write. The same call again goes on from what is there.")]
LogsOut = Annotated[str | Path, Option("Folder to write. All logs are written again at each call.")]
OutFile = Annotated[str | Path, Option("File to write.")]
OptionalOut = Annotated[str | Path | None, Option("Folder to write.")]
SteeringVectors = Annotated[
    str | Path | EmotionVectors, Option("A bundle, an atlas or a run. In Python also the vectors themselves.")
]
StorySource = Annotated[
    str | PathLike[str] | Corpus | None,
    Option(
        "A JSONL file, a data set id OWNER/NAME[@REVISION], or self: the model writes. "
        "Default: the package's 480 stories about 40 emotions. For an organism: its own stories.",
        None,
    ),
]
Emotion = Annotated[str, Option("An emotion or a blend, such as '0.5*joyful - sad'.")]


# Groups of options


class Loading(TypedDict, total=False):
    """How a model is loaded."""

    revision: Annotated[str | None, Option("Branch, tag or commit of the model.", None)]
    dtype: Annotated[
        str,
        Option(
            "auto (as stored; stories in bfloat16 where that was checked), fast (bfloat16 where hardware "
            "multiplies it), float32, bfloat16 or float16.",
            "auto",
        ),
    ]
    device: Annotated[str | None, Option("cpu, cuda, cuda:1, mps. Default: a GPU if there is one.", None)]


class Reading(TypedDict, total=False):
    """How stories and neutral texts are read."""

    neutral: Annotated[
        str | PathLike[str] | NeutralTexts | None,
        Option(
            "Neutral texts, a line each or JSONL. Default: those of the default stories; with other stories plain "
            "prose.",
            None,
        ),
    ]
    min_words: Annotated[int, Option("Stories from a file with fewer words are dropped, and counted.", 40)]
    offset: Annotated[int, Option("Pool from this token on (0-based, BOS counted).", 50)]
    token_budget: Annotated[
        int | None, Option("Tokens in a batch, padding included. Default: 1024 on a CPU, else 8192.", None)
    ]
    reliability: Annotated[
        float | None,
        Option("Read topic by topic until every emotion's contrast has this reliability. Default: all stories.", None),
    ]


class Source(TypedDict, total=False):
    """Which stories are read."""

    stories: StorySource


class Weighting(TypedDict, total=False):
    """How a bundle is made and written."""

    weighting: Annotated[str, Option("story: stories weigh equally; token: tokens do.", "story")]
    overwrite: Annotated[bool, Option("Replace a result made from other inputs.", False)]


class Statistics(TypedDict, total=False):
    """What valence and arousal are compared with."""

    ratings: Annotated[
        str | PathLike[str] | Ratings | None,
        Option("CSV: emotion,valence,arousal[,source]; or warriner (human ratings, if installed).", None),
    ]
    permutations: Annotated[int, Option("Number of permutations behind every p-value.", 2000)]


class Seed(TypedDict, total=False):
    """Seed of everything random."""

    seed: Annotated[int, Option("Seed of splits, bootstraps and permutations.", 0)]


class Extraction(Reading, Weighting, Seed, Loading, total=False):
    """What `extract` and `atlas` share."""

    no_neutral: Annotated[bool, Option("Do not denoise.", False)]
    layers: Annotated[str | Sequence[int] | None, Option("Layers, such as 3,5,8 or 0:32:2. Default: all.", None)]
    max_tokens: Annotated[int, Option("Longer texts are cut here, and counted.", 512)]


class ExtractOptions(Extraction, total=False):
    """Options of `extract`."""

    pooling: Annotated[str, Option("from, window or centred.", "from")]
    stop: Annotated[int | None, Option("With pooling window: the token after its last.", None)]
    site: Annotated[str, Option("block, attention or mlp.", "block")]
    keep_activations: Annotated[
        bool, Option("Keep the mean activations of every text in OUT/.work, for shuffled controls.", False)
    ]
    clean: Annotated[bool, Option("Filter the stories of a file as `atlas` does, and count.", False)]


class AtlasOptions(Source, Extraction, Statistics, total=False):
    """Options of `atlas`."""

    generate: Annotated[bool, Option("The same as stories self.", False)]
    topics: Annotated[int, Option("With stories self: topics that the model writes on, 1 to 100.", 20)]
    scenarios: Annotated[Path | str | None, Option("JSONL of texts that imply a target emotion.", None)]
    umap: Annotated[bool, Option("Also draw the emotions by UMAP (half a minute).", False)]


class GeometryOptions(Statistics, Seed, total=False):
    """Options of `analyse`."""

    model: Annotated[
        str | Engine | None, Option("The vectors' model, for the logit lens; another one is refused.", None)
    ]
    force: Annotated[bool, Option("Accept another model or revision, and say so.", False)]
    device: Annotated[str | None, Option("cpu, cuda, cuda:1, mps. Default: a GPU if there is one.", None)]
    out: Annotated[Path | str | None, Option("Also write a folder with JSON and report.", None)]


class CompareOptions(Statistics, Seed, total=False):
    """Options of `compare`."""

    out: Annotated[Path | str | None, Option("Folder for a report.", None)]


class Asked(TypedDict, total=False):
    """What an experiment asks: the fields of its plan that have a flag."""

    settings: Annotated[
        str | None, Option("quick: a first look; full: what a verdict should rest on. Default: full.", None)
    ]
    plan: Annotated[
        Path | str | Plan | None,
        Option("TOML file of a plan, or the folder of a run, instead of settings. In Python also a plan.", None),
    ]
    vectors: Annotated[Path | str | None, Option("A bundle, an atlas or a run, instead of a new atlas.", None)]
    emotion: Annotated[
        str | Sequence[str] | None, Option("Emotions or blends, with commas: desperate,calm,0.5*joyful-sad.", None)
    ]
    suite: Annotated[
        str | None, Option("What is asked: quick, standard or full; chat, agents; organism. See docs/suites.md.", None)
    ]
    behaviour: Annotated[
        str | Sequence[str] | None,
        Option("What steering is meant to move, with commas: reward-hacking,pushback.", None),
    ]
    dose: Annotated[
        str | Sequence[float] | None, Option("Such as -0.1,0,0.1 or -0.1:0.1:5 (first, last, how many).", None)
    ]
    layers: Annotated[
        str | Sequence[int] | None,
        Option("Layers to search, such as 14 or 12,14. Default: up to four in the middle.", None),
    ]
    judge: Annotated[
        str | Sequence[str] | None,
        Option("Who grades free text: self, or URL#MODEL of an endpoint. Several: a panel.", None, many=True),
    ]
    seed: Annotated[int, Option("Seed of scenarios, controls and sampling.", 0)]


class Later(TypedDict, total=False):
    """Looks that are planned before the first one."""

    looks: Annotated[
        str | Sequence[int] | None,
        Option("Scenarios at later looks, such as 80,160: planned now, taken with --continue.", None),
    ]


class Writing(TypedDict, total=False):
    """Stories that the model writes before an experiment."""

    topics: Annotated[int, Option("With stories self: topics that the model writes on, 1 to 100.", 10)]


class Judging(TypedDict, total=False):
    """Limits of the judges."""

    judge_calls: Annotated[int | None, Option("At most this many requests to each judge.", None)]
    judge_money: Annotated[float | None, Option("At most this much money for each judge.", None)]
    judge_prices: Annotated[
        str | tuple[float, float] | None, Option("Prices of a million tokens, read and written: 0.15,0.60.", None)
    ]


class RunOptions(Asked, Later, Source, Reading, Writing, Judging, Weighting, Statistics, Loading, total=False):
    """Options of `run`."""

    go_on: Annotated[
        bool, Option("Take the next look of the plan: more scenarios, then the verdict.", False, flag="--continue")
    ]


class EvaluateOptions(Asked, Source, Reading, Writing, Judging, Loading, total=False):
    """Options of `evaluate`."""

    controls: Annotated[
        bool, Option("Ask control directions too, as a verdict needs.", False, flag="--controls/--no-controls")
    ]
    parquet: Annotated[Path | str | None, Option("Also write every sample to this file.", None)]


class PlanOptions(Asked, Later, Loading, total=False):
    """Options of `plan`."""

    dry_run: Annotated[
        bool, Option("Load the model to count tokens and time; or only the plan.", True, flag="--dry-run/--no-model")
    ]
    timing: Annotated[float, Option("Seconds that measuring the time may take, about.", 60.0)]
    out: Annotated[Path | str | None, Option("TOML file to write the plan to.", None)]


class SteerOptions(Loading, total=False):
    """Options of `steer`."""

    dose: Annotated[str | float | Sequence[float], Option("Such as 0.1, or -0.1,0,0.1, or -0.1:0.1:5.", "-0.1,0,0.1")]
    layers: Annotated[
        str | int | Sequence[int] | None, Option("Such as 14 or 12,14. Default: the run's, else 2/3 deep.", None)
    ]
    operation: Annotated[str, Option("add, clamp or ablate.", "add")]
    positions: Annotated[str, Option("all, prompt or generated.", "all")]
    plain: Annotated[bool, Option("No chat template: continue the text as it is.", False)]
    max_new_tokens: Annotated[int, Option("At most this many tokens a text.", 128)]
    temperature: Annotated[float, Option("0: the likeliest token each time.", 1.0)]
    samples: Annotated[int, Option("Number of texts at each dose.", 1)]
    seed: Annotated[int, Option("Seed of the sampling; the same at every dose.", 0)]


class GenerateOptions(Loading, total=False):
    """Options of `generate_stories`."""

    endpoint: Annotated[str | None, Option("OpenAI-compatible base URL, such as http://host/v1.", None)]
    key_variable: Annotated[str, Option("Environment variable with the endpoint's key.", "OPENAI_API_KEY")]
    concurrency: Annotated[int, Option("Calls under way at once.", 8)]
    emotions: Annotated[str | Sequence[str] | None, Option("Such as calm,angry,'at ease'. Default: all 171.", None)]
    topics: Annotated[int, Option("How many of the package's 100 topics.", 20)]
    per_topic: Annotated[int, Option("Stories for each emotion and topic.", 4)]
    per_call: Annotated[int, Option("Stories asked for in one call.", 4)]
    words: Annotated[int, Option("Words a story should have.", 130)]
    temperature: Annotated[float, Option("Sampling temperature.", 1.0)]
    max_calls: Annotated[int | None, Option("Budget of calls for this run.", None)]
    seed: Annotated[int, Option("Seed of the sampled stories.", 0)]
    neutral: Annotated[bool, Option("Also neutral dialogues on the same topics.", False)]


class ImportOptions(TypedDict, total=False):
    """Options of `import_vectors`."""

    format: Annotated[str | None, Option("npz, safetensors, pt, gguf or vllm-lens. Default: look.", None)]
    emotions: Annotated[
        str | Sequence[str] | None, Option("Emotion names for an array without names; or the emotions to import.", None)
    ]
    layer: Annotated[int | None, Option("Layer number, if the file has none; or the only layer to import.", None)]
    model: Annotated[str | None, Option("The model they belong to: noted, not checked.", None)]
    hidden_state_index: Annotated[bool, Option("Layers count as in hidden_states: k is block k-1.", False)]
    centre: Annotated[
        bool | None,
        Option(
            "Subtract the mean over emotions. Default: for sets of emotion vectors that are not centred.",
            None,
            flag="--centre/--no-centre",
        ),
    ]
    overwrite: Annotated[bool, Option("Replace a bundle that is there.", False)]


class ExportOptions(TypedDict, total=False):
    """Options of `export_vectors`."""

    format: Annotated[str | None, Option("gguf, lm-eval, vllm-lens or npz. Default: by the ending.", None)]
    direction: Annotated[
        str | Sequence[str] | None, Option("An emotion, or a blend: '0.5*joyful - sad'.", None, many=True)
    ]
    layers: Annotated[str | Sequence[int] | None, Option("Layers, such as 3,5,8 or 0:32:2. Default: all.", None)]
    variant: Annotated[str, Option("raw or denoised.", "raw")]
    dose: Annotated[
        float | None,
        Option("Dose, as a fraction of the mean residual norm. It is divided equally among the layers.", None),
    ]
    hookpoint: Annotated[str | None, Option("lm-eval: where block {layer} is in the base model.", None)]
    model_hint: Annotated[str | None, Option("GGUF: the architecture's name. Default: the bundle's.", None)]


class GradeOptions(TypedDict, total=False):
    """Options of `grade`."""

    behaviour: Annotated[str | None, Option("Whose texts. Default: the only one with texts.", None)]
    n: Annotated[int, Option("Texts to grade in all, those of earlier sessions included.", 100)]
    grader: Annotated[str, Option("Your name or initials.", "hand")]
    import_file: Annotated[
        Path | str | None, Option("CSV or JSONL with key and grade, from --export.", None, flag="--import")
    ]
    export_file: Annotated[
        Path | str | None, Option("CSV or JSONL to write the texts to, for grading elsewhere.", None, flag="--export")
    ]


class PoolOptions(TypedDict, total=False):
    """Options of `pool`."""

    size: Annotated[int, Option("Controls of each kind that are screened.", 1000)]
    draws: Annotated[
        int, Option("Number of draws for each kind, behaviour and direction. Only the drawn controls are sampled.", 120)
    ]
    device: Annotated[str | None, Option("cpu, cuda, cuda:1, mps. Default: a GPU if there is one.", None)]


class ScreenOptions(Loading, total=False):
    """Options of `screen`."""

    emotion: Annotated[
        str | Sequence[str] | None, Option("Emotions or blends, with commas. Default: all of the vectors.", None)
    ]
    behaviour: Annotated[
        str | Sequence[str] | None,
        Option("Behaviours, with commas. Default: all of the suite that are answered by scored options.", None),
    ]
    suite: Annotated[str | None, Option("What is asked. Default: text; for an organism: organism.", None)]
    layers: Annotated[
        str | Sequence[int] | None, Option("Layers, such as 3,5,8 or 0:32:2. Default: all of the vectors.", None)
    ]
    scenarios: Annotated[
        int | None, Option("Scenarios of each behaviour. Default: as many as choose layers in a run.", None)
    ]
    controls: Annotated[int, Option("Controls of each kind at each layer; 0: none.", 1000)]
    dose: Annotated[float, Option("Changes are predicted from minus this dose to plus this dose.", 0.05)]
    check: Annotated[
        int, Option("Cells of each behaviour that are also steered, to compare with the prediction; 0: none.", 12)
    ]
    vectors: Annotated[Path | str | None, Option("A bundle, an atlas or a run, instead of an atlas in OUT.", None)]
    seed: Annotated[int, Option("Seed of scenarios, controls and the cells that are checked.", 0)]


class SelfTestOptions(Loading, total=False):
    """Options of `selftest`."""

    layer: Annotated[int | None, Option("The block to steer. Default: the one in the middle.", None)]


class LogsOptions(TypedDict, total=False):
    """Options of `logs`."""

    controls: Annotated[bool, Option("The control directions too: many logs.", False)]


# What functions do with a group

_PARAMETERS: dict[str, dict[str, inspect.Parameter]] = {}


def takes(group: type | None = None) -> Callable[[Function], Function]:
    """A function whose `**options` are a group: with all its options in the signature and the docstring, and their
    defaults filled in at a call."""

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        own = [parameter for parameter in signature.parameters.values() if parameter.kind is not parameter.VAR_KEYWORD]
        known = {} if group is None else _options(group)
        added = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option.default, annotation=annotation)
            for name, (annotation, option) in known.items()
        ]
        # `progress` and the like, which no flag stands for, come last.
        parameters = [
            *(parameter for parameter in own if option_of(parameter)),
            *added,
            *(parameter for parameter in own if not option_of(parameter)),
        ]
        _PARAMETERS[function.__name__] = {parameter.name: parameter for parameter in parameters}

        @functools.wraps(function)
        def filled(*args: Any, **given: Any) -> Any:
            for name in given:
                if name not in _PARAMETERS[function.__name__]:
                    raise TypeError(f"{function.__name__}() has no option {name!r}; see help({function.__name__})")
            return function(*args, **{name: option.default for name, (_, option) in known.items()} | given)

        filled.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[parameter.replace(annotation=_type(parameter.annotation)) for parameter in parameters]
        )
        filled.__doc__ = _with_arguments(function.__doc__ or "", parameters)
        return filled  # type: ignore[return-value]

    return decorate


def parameters_of(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a public function that are options, by name; annotations still have their `Option`."""
    known = _PARAMETERS.get(function.__name__) or inspect.signature(function).parameters
    return {name: parameter for name, parameter in known.items() if option_of(parameter)}


def option_of(parameter: inspect.Parameter) -> Option | None:
    """The `Option` in a parameter's annotation; None for a parameter that no flag stands for."""
    return next(
        (option for option in getattr(parameter.annotation, "__metadata__", ()) if isinstance(option, Option)), None
    )


def chosen(group: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of some options that belong to a group."""
    return {name: options[name] for name in _options(group) if name in options}


def _options(group: type) -> dict[str, tuple[Any, Option]]:
    hints = get_type_hints(group, include_extras=True)
    return {name: (hint, hint.__metadata__[0]) for name, hint in hints.items()}


def _type(annotation: Any) -> Any:
    return getattr(annotation, "__origin__", annotation) if hasattr(annotation, "__metadata__") else annotation


def _with_arguments(doc: str, parameters: Sequence[inspect.Parameter]) -> str:
    """A docstring with a section Args, before the sections Returns and Raises."""
    head, *sections = re.split(r"\n(?=Returns:|Raises:)", inspect.cleandoc(doc), maxsplit=1)
    lines = []
    for parameter in parameters:
        option = option_of(parameter)
        if option is not None:
            lines += textwrap.wrap(
                f"{parameter.name}: {option.help}", 116, initial_indent="    ", subsequent_indent=" " * 8
            )
        elif parameter.name == "progress":
            lines.append("    progress: called as progress(title, done, total) while the work goes on.")
    return "\n".join([head.rstrip(), "", "Args:", *lines, *sections])
