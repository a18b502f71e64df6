"""Choices by the likelihood of the options' own words, each compared with its likelihood without the question.

A model that answers letters by habit (always A) still gives a probability to the words of each answer. Long or rare
words are unlikely everywhere, so each option counts by how much likelier the question makes it: the mean log-likelihood
of its tokens after the question minus that after a premise without content. Source of the idea: domain conditional
pointwise mutual information (Holtzman et al. 2021, arXiv 2104.08315); the mean over tokens is ours, because options may
differ in length.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from heartstrings.behaviours.base import Answer, Compared, Grade, Scenario
from heartstrings.behaviours.forms import Choice
from heartstrings.core.engine import Prompt, Score, ScoreRequest
from heartstrings.core.errors import InputError, NumericalError
from heartstrings.core.steering import Steering

_FIX = "Give the score of `against` as `follow_up`"


def shares(answer: Answer, premise: Score | None) -> tuple[float, ...]:
    """Probability of each option among the options, if all were equally likely without the question; sums to 1.

    exp(L * gain) normalised, where gain is an option's mean log-likelihood a token minus that after the premise, and L
    the mean length of the options in tokens: for options of one length, the ratio of their likelihoods.

    Raises:
        InputError: no score of the options, or none after the premise. NumericalError: a gain is NaN or infinite.
    """
    if not isinstance(answer, Score) or premise is None or len(premise.logprobs) != len(answer.logprobs):
        raise InputError("an option without a likelihood", "one after the question and one after the premise", _FIX)
    lengths = [len(ids) for ids in answer.token_ids]
    gains = [
        float(np.mean(with_question, dtype=np.float64)) - float(np.mean(without, dtype=np.float64))
        for with_question, without in zip(answer.token_logprobs, premise.token_logprobs, strict=True)
    ]
    if not np.isfinite(gains).all():
        raise NumericalError(f"gains {gains} of the options", "finite numbers", "Load the model in float32")
    weights = [math.fsum(lengths) / len(lengths) * gain for gain in gains]
    top = max(weights)
    sizes = [math.exp(weight - top) for weight in weights]
    return tuple(size / math.fsum(sizes) for size in sizes)


@dataclass(frozen=True)
class InWords(Choice, Compared):
    """The share of the last reply, compared by likelihood: the form of every choice in words."""

    @abstractmethod
    def premise(self, scenario: Scenario) -> Prompt:
        """The prompt without the question."""

    def against(self, scenario: Scenario, *, steering: Steering | None) -> ScoreRequest:
        """The same replies after the premise."""
        return ScoreRequest(self.premise(scenario), scenario.replies, steering)

    def grade(self, scenario: Scenario, answer: Answer, follow_up: Score | None = None) -> Grade:
        """`valid` is None, since every reply is an answer. `follow_up` is the score of `against`."""
        return Grade(shares(answer, follow_up)[-1], None)
