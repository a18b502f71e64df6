"""Tasks of the LM Evaluation Harness (lm-eval) under steering, all doses of a request in one batch.

lm-eval runs a task once for each model. The models of a sweep share their answers: the first one sends its requests to
the engine at every dose, and the others find their answers ready. Tasks build the same requests each time (few-shot
examples are drawn with fixed seeds), so nothing is asked twice; a request that differs is sent when it comes.
"""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from heartstrings.core.engine import Chat, Completion, GenerateRequest, Message, Prompt, Score, ScoreRequest
from heartstrings.core.errors import InputError, MissingExtra
from heartstrings.core.steering import Steering
from heartstrings.engines.hf.text import render

if TYPE_CHECKING:
    from heartstrings.engines.hf.engine import TorchEngine


def _lm_eval(module: str) -> Any:
    """A part of lm-eval, which has no types.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtra(f"lm-eval ({error})", "lm-eval") from None


LM = _lm_eval("lm_eval.api.model").LM
Instance: TypeAlias = Any
"""lm-eval's `Instance`: `args` are what is asked."""
NEW_TOKENS = 256
"""New tokens where a task sets no limit, as in lm-eval."""
ROWS = 512
"""Requests in a call to the engine, at most. The engine splits them further as its memory allows."""
_KNOWN = {"until", "max_gen_toks", "do_sample", "temperature", "top_p"}
Answers: TypeAlias = dict[tuple[Any, Steering | None], Any]


@dataclass(frozen=True)
class Metric:
    """One metric of one task at one dose."""

    task: str
    dose: float
    metric: str
    """With lm-eval's filter: `acc,none`."""
    value: float | None
    stderr: float | None
    """As lm-eval states it; None where it states none."""
    n: int
    """Number of documents."""
    steering: str
    """In words, or `unsteered`."""


class _Generation(NamedTuple):
    """One text that lm-eval asks for."""

    context: str
    limit: int
    temperature: float
    top_p: float
    stop: tuple[str, ...]
    draw: int = 0
    """How many times the same text was asked for before, where it is sampled."""


class SteeredLM(LM):  # type: ignore[misc, valid-type]
    """One engine under one steering, as lm-eval's model.

    Contexts are tokenised apart from what follows; spaces at a context's end go to the continuation, as in lm-eval.
    Where a tokenizer would join the two (a delimiter that is no space), lm-eval's own model may cut elsewhere. Nothing
    is truncated: an input longer than the model's context is an error of the engine. Chats go through the engine's
    template: once, with thinking off.

    Args:
        beside: steerings that are answered in the same batches; `answers`: shared among the models of one engine.
        greedy: whether to find out if a continuation is the greedy one, which costs a generation where its
            log-probabilities do not tell. Without it the second value of `loglikelihood` is False throughout.
    """

    def __init__(
        self,
        engine: TorchEngine,
        steering: Steering | None = None,
        *,
        beside: Sequence[Steering | None] = (),
        answers: Answers | None = None,
        greedy: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.engine, self.steering, self.greedy, self.seed = engine, steering, greedy, seed
        self.calls: list[int] = []
        """Requests of each call to the engine."""
        self._all = tuple(dict.fromkeys((steering, *beside)))
        self._answers: Answers = {} if answers is None else answers
        self._chats: dict[str, Chat] = {}
        tokenizer = engine.tokenizer
        self._opening = "" if tokenizer("")["input_ids"] else str(tokenizer.bos_token or tokenizer.eos_token)

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(natural-log probability of the continuation, whether it is the greedy one) of each request."""
        pairs = [self._pair(*request.args) for request in requests]
        scores = self._scores(pairs)
        greedy = self._greedy(pairs, scores) if self.greedy else [False] * len(pairs)
        return [(score.logprobs[0], likeliest) for score, likeliest in zip(scores, greedy, strict=True)]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log probability of each whole text after the token that opens a text; longer than the context is an error."""
        return [score.logprobs[0] for score in self._scores([(self._opening, request.args[0]) for request in requests])]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The texts, without what they stop at. Greedy unless the task samples.

        Raises:
            InputError: a setting of the task's that the engine does not have.
        """
        seen: Counter[_Generation] = Counter()
        asked = []
        for request in requests:
            generation = self._generation(*request.args)
            # A task with repeats hands in the same request again, and wants another draw.
            asked.append(generation._replace(draw=seen[generation]) if generation.temperature > 0 else generation)
            seen[generation] += 1
        return [completion.text for completion in self._completions(asked)]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """The chat as the engine will see it; it is recognised when it comes back as a context."""
        chat = tuple(Message(turn["role"], turn["content"]) for turn in chat_history)
        text, _ = render(self.engine.tokenizer, chat, reply=True)
        self._chats[text] = chat
        return text

    def chat_template(self, chat_template: bool | str = False) -> str:
        """The tokenizer's own; lm-eval records it."""
        from heartstrings.engines.hf.text import chat_template as own

        return own(self.engine.tokenizer) or ""

    @property
    def tokenizer_name(self) -> str:
        """For lm-eval's caches of requests."""
        return str(self.engine.info.tokenizer_hash)

    def _pair(self, context: str, continuation: str) -> tuple[str, str]:
        if context in self._chats:
            return context, continuation
        bare = context.rstrip(" \n\t")
        return bare or self._opening, context[len(bare) :] + continuation

    def _prompt(self, context: str) -> Prompt:
        return self._chats.get(context, context)

    def _generation(self, context: str, settings: Mapping[str, Any]) -> _Generation:
        fixed = {"num_beams": 1, "num_return_sequences": 1}
        odd = [name for name, value in settings.items() if name not in _KNOWN and fixed.get(name) != value]
        if odd:
            raise InputError(f"generation settings {', '.join(odd)}", f"some of {', '.join(sorted(_KNOWN))}")
        until = settings.get("until") or ()
        stop = (until,) if isinstance(until, str) else tuple(until)
        samples = bool(settings.get("do_sample", False))
        temperature = float(settings.get("temperature", 1.0)) if samples else 0.0
        limit = int(settings.get("max_gen_toks", NEW_TOKENS))
        return _Generation(context or self._opening, limit, temperature, float(settings.get("top_p") or 1.0), stop)

    def _scores(self, pairs: Sequence[tuple[str, str]]) -> list[Score]:
        def request(pair: tuple[str, str], steering: Steering | None) -> ScoreRequest:
            return ScoreRequest(self._prompt(pair[0]), (pair[1],), steering)

        return self._answered(pairs, request, self.engine.score)

    def _completions(self, asked: Sequence[_Generation]) -> list[Completion]:
        def request(generation: _Generation, steering: Steering | None) -> GenerateRequest:
            context, limit, temperature, top_p, stop, draw = generation
            return GenerateRequest(self._prompt(context), limit, temperature, top_p, self.seed + draw, stop, steering)

        return self._answered(asked, request, self.engine.generate)

    def _answered(self, asked: Sequence[Any], request: Any, verb: Any) -> list[Any]:
        """Every request at every steering that has no answer yet goes to the engine; then this steering's answers."""
        missing = [
            (question, steering)
            for question in dict.fromkeys(asked)
            if (question, self.steering) not in self._answers
            for steering in self._all
            if (question, steering) not in self._answers
        ]
        for start in range(0, len(missing), ROWS):
            slab = missing[start : start + ROWS]
            self.calls.append(len(slab))
            answers = verb([request(question, steering) for question, steering in slab])
            self._answers.update(zip(slab, answers, strict=True))
        return [self._answers[question, self.steering] for question in asked]

    def _greedy(self, pairs: Sequence[tuple[str, str]], scores: Sequence[Score]) -> list[bool]:
        """A token with a probability over one half is the likeliest; otherwise the model has to generate."""
        half = math.log(0.5)
        open_ = [
            at for at, score in enumerate(scores) if not all(logprob > half for logprob in score.token_logprobs[0])
        ]
        asked = [_Generation(pairs[at][0], len(scores[at].token_ids[0]), 0.0, 1.0, ()) for at in open_]
        greedy = [True] * len(pairs)
        for at, written in zip(open_, self._completions(asked), strict=True):
            greedy[at] = written.token_ids == scores[at].token_ids[0]
        return greedy


def sweep(
    tasks: Sequence[Any], engine: TorchEngine, steerings: Mapping[float, Steering | None], **options: Any
) -> list[Metric]:
    """Every task at every dose: a table by task, dose and metric.

    Args:
        tasks: what lm-eval's `simple_evaluate` takes: names, configurations, `Task` objects.
        steerings: by dose; None is the unsteered model.
        options: more for `simple_evaluate`: `limit`, `num_fewshot`, `task_manager`, `apply_chat_template`, ...
    Raises:
        InputError: no task or no dose.
    """
    if not tasks or not steerings:
        raise InputError(f"{len(tasks)} tasks at {len(steerings)} doses", "one of each at least")
    simple_evaluate = _lm_eval("lm_eval.evaluator").simple_evaluate
    answers: Answers = {}
    all_steerings = tuple(steerings.values())
    rows = []
    settings: dict[str, Any] = {"bootstrap_iters": 0, "log_samples": False, **options}
    for dose, steering in sorted(steerings.items(), key=lambda pair: pair[0]):
        model = SteeredLM(engine, steering, beside=all_steerings, answers=answers)
        evaluation = simple_evaluate(model=model, tasks=list(tasks), **settings)
        words = "unsteered" if steering is None else steering.describe()
        for task, values in evaluation["results"].items():
            n = int(evaluation.get("n-samples", {}).get(task, {}).get("effective", 0))
            for name, value in values.items():
                metric, _, kind = name.partition(",")
                if not kind or metric.endswith("_stderr"):
                    continue
                error = _number(values.get(f"{metric}_stderr,{kind}"))
                rows.append(Metric(task, float(dose), name, _number(value), error, n, words))
    return sorted(rows, key=lambda row: (row.task, row.metric, row.dose))


def _number(value: object) -> float | None:
    """lm-eval writes `N/A` where there is none."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
