"""Flags that several verbs share, with one name and one meaning everywhere."""

from pathlib import Path
from typing import Annotated, Any, no_type_check

import typer

from heartstrings.cli import settings
from heartstrings.core.errors import InputError


# typer announces its own Context class and hands over click's: no run-time checker can be pleased with that.
@no_type_check
def _load_settings(ctx: typer.Context, value: Path | None) -> Path | None:
    if value is not None:
        root: Any = ctx.find_root().command
        flags = {
            name: frozenset(p.name for p in command.params if p.name not in {"config", "help"})
            for name, command in root.commands.items()
        }
        ctx.default_map = settings.read_settings(value, ctx.info_name or "", flags)
    return value


Model = Annotated[str, typer.Argument(help="Hugging Face id, local folder, or organism:KIND.")]
Out = Annotated[Path, typer.Option("--out", help="Folder (or file) to write.")]
Stories = Annotated[
    str | None,
    typer.Option(
        help="A JSONL file, a data set id OWNER/NAME[@REVISION], or self: the model writes. "
        "Default: the package's 480 stories on 40 emotions; an organism's own."
    ),
]
Neutral = Annotated[
    str | None,
    typer.Option(help="Neutral texts, a line each or JSONL. Default: those of the default stories; else plain prose."),
]
NoNeutral = Annotated[bool, typer.Option("--no-neutral", help="Do not denoise.")]
Layers = Annotated[str | None, typer.Option(help="Such as 3,5,8 or 0:32:2. Default: all.")]
Offset = Annotated[int, typer.Option(help="Pool from this token on (0-based, BOS counted).")]
WeightingFlag = Annotated[str, typer.Option("--weighting", help="story: stories weigh equally; token: tokens do.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of the model.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps. Default: a GPU if there is one.")]
TokenBudget = Annotated[int | None, typer.Option(help="Padded tokens a batch. Default: 1024 on a CPU, else 8192.")]
MaxTokens = Annotated[int, typer.Option(help="Longer texts are cut here, and counted.")]
MinWords = Annotated[int, typer.Option(help="Stories of fewer words are dropped, and counted.")]
RatingsFlag = Annotated[
    str | None,
    typer.Option("--ratings", help="CSV: emotion,valence,arousal[,source]; or warriner (human ratings, if installed)."),
]
Permutations = Annotated[int, typer.Option(help="Relabellings behind every p-value.")]
Seed = Annotated[int, typer.Option(help="Seed of splits, bootstraps and permutations.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output instead of a table.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a result made from other inputs.")]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", help="TOML file with the same names as the flags.", callback=_load_settings, is_eager=True
    ),
]


def checked(flag: str, value: str, choices: tuple[str, ...]) -> str:
    """The value, if it is one of the choices.

    Raises:
        InputError: it is not.
    """
    if value not in choices:
        raise InputError(f"{flag} {value!r}", "one of " + ", ".join(choices))
    return value
