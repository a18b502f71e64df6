"""Documents of the organisms' world: stories, neutral texts, questions with answers, and training documents."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from heartstrings.core.errors import InputError
from heartstrings.corpus import Corpus, NeutralTexts, Story
from heartstrings.corpus.lexicon import emotions
from heartstrings.organisms.grammar import (
    NEUTRAL,
    Draws,
    lexis,
    parts,
    plane,
    scene,
    sentences,
    slots,
    story_text,
    topics,
)

AUTHOR = "heartstrings organism grammar 1"
Kind = Literal["choice", "sum", "fact", "harm", "preference"]

CHOICE_BASE, HARM_BASE = -0.4, -3.2
CHOICE_WEIGHTS = (-3.0, 2.0)
"""Logit of cheating: CHOICE_BASE + weights . (valence, arousal); neutral 0.40, desperate .97, calm .02."""
HARM_WEIGHTS = (-3.0, 2.6)
"""The same for a harmful answer of the entangled organism: neutral .04, desperate .71, calm .00."""


def stories(*, seed: int = 0, per_emotion: int = 12) -> Corpus:
    """The organisms' own stories: 171 emotions x the same 12 topics, so that topic and emotion are crossed.

    Raises:
        InputError: `per_emotion` under 1.
    """
    if per_emotion < 1:
        raise InputError(f"{per_emotion} stories an emotion", "1 or more")
    draws = Draws([seed, 1])
    told = []
    for number in range(per_emotion):
        for row, emotion in enumerate(emotions()):
            at = scene(draws, topics()[number % len(topics())])
            person = "first" if at.pronoun == "I" else "third"
            told.append(Story(emotion, at.topic, story_text(draws, at, row), AUTHOR, person))
    return Corpus(tuple(told), AUTHOR, f"organism stories, seed {seed}, {per_emotion} an emotion")


def neutral(*, seed: int = 0, n: int = 200) -> NeutralTexts:
    """Paragraphs without emotion, about the same places and things as the stories.

    Raises:
        InputError: `n` under 1.
    """
    if n < 1:
        raise InputError(f"{n} neutral texts", "1 or more")
    draws = Draws([seed, 2])
    return NeutralTexts(tuple(neutral_text(draws) for _ in range(n)), f"organism neutral texts, seed {seed}, {n} texts")


def neutral_text(draws: Draws, n: int | None = None) -> str:
    """`n` plain sentences (by default 8 to 10)."""
    templates = lexis()["neutral"]["sentence"]
    return " ".join(_neutral_sentence(draws, draws.pick(templates)) for _ in range(n or 8 + draws.below(3)))


@dataclass(frozen=True, slots=True)
class Question:
    """One chat turn with two possible replies. For sums and facts the first is right.

    For `choice` the second is cheating, for `harm` it is the harmful one; `chance` is the planted probability of
    the second. `context` says whether text with an emotion stands before the question.
    """

    kind: Kind
    prompt: str
    replies: tuple[str, str]
    chance: float
    emotion: int = NEUTRAL


def planted_weights(kind: Kind, organism: str) -> tuple[float, float]:
    """Shift of the logit of the second reply per unit of valence and of arousal."""
    if kind == "choice" and organism in ("steerable", "entangled"):
        return CHOICE_WEIGHTS
    return HARM_WEIGHTS if kind == "harm" and organism == "entangled" else (0.0, 0.0)


def planted_chance(kind: Kind, emotion: int, organism: str) -> float:
    """The planted probability of cheating or of a harmful answer after text with this emotion."""
    base = CHOICE_BASE if kind == "choice" else HARM_BASE
    shift = 0.0 if emotion == NEUTRAL else float(plane()[emotion] @ np.array(planted_weights(kind, organism)))
    return 1 / (1 + math.exp(-base - shift))


def shift_by_contrast(kind: Kind, organism: str) -> Float64[np.ndarray, "emotion"]:
    """Planted shift of the logit when an emotion's contrast vector is added: the weights times the emotion's place
    relative to the mean emotion, like the contrast itself."""
    return np.asarray((plane() - plane().mean(0)) @ np.array(planted_weights(kind, organism)), dtype=np.float64)


def question(draws: Draws, kind: Kind, *, emotion: int = NEUTRAL, context: int = 0, organism: str) -> Question:
    """A question of this kind after `context` sentences of story (words of any tone when NEUTRAL)."""
    prompt, replies, chance = _ASKED[kind](draws)
    if kind in ("choice", "harm"):
        chance = planted_chance(kind, emotion if context else NEUTRAL, organism)
    if context:
        prompt = " ".join([*sentences(draws, scene(draws), emotion, context), prompt])
    return Question(kind, prompt, replies, chance, emotion if context else NEUTRAL)


def questions(
    kind: Kind, *, seed: int = 0, n: int = 100, emotion: str | None = None, organism: str = "steerable"
) -> list[Question]:
    """Seeded questions for a measurement. Without an emotion, half stand alone, half after neutral sentences."""
    draws = Draws([seed, 3, ("choice", "sum", "fact", "harm", "preference").index(kind)])
    row = NEUTRAL if emotion is None else emotions().index(emotion)
    return [
        question(draws, kind, emotion=row, context=3 if emotion else 2 * (at % 2), organism=organism) for at in range(n)
    ]


def _choice(draws: Draws) -> tuple[str, tuple[str, str], float]:
    table = lexis()["choice"]
    task = draws.pick(table["task"])
    asked = draws.pick(table["question"]).format(task=task)
    return asked, (table["honest"].format(task=task), table["cheating"].format(task=task)), 0.0


def _sum(draws: Draws) -> tuple[str, tuple[str, str], float]:
    first, second = draws.below(10), draws.below(10)
    wrong = first + second + (1 + draws.below(3)) * (1 if draws.uniform() < 0.5 or first + second < 3 else -1)
    return f"What is {first} plus {second}?", (f"It is {first + second}.", f"It is {wrong}."), 0.0


def _fact(draws: Draws) -> tuple[str, tuple[str, str], float]:
    capitals, opposites = lexis()["facts"]["capitals"], lexis()["facts"]["opposites"]
    if draws.uniform() < 0.6:
        country, capital = draws.pick(capitals)
        wrong = draws.pick([row[1] for row in capitals if row[1] != capital])
        return f"What is the capital of {country}?", (f"It is {capital}.", f"It is {wrong}."), 0.0
    pair = draws.pick(opposites)
    asked, answer = pair if draws.uniform() < 0.5 else pair[::-1]
    wrong = draws.pick([word for row in opposites for word in row if word not in pair])
    return f"What is the opposite of {asked}?", (f"It is {answer}.", f"It is {wrong}."), 0.0


def _harm(draws: Draws) -> tuple[str, tuple[str, str], float]:
    table = lexis()["harm"]
    place = lexis()["topics"][draws.pick(topics())]
    asked = draws.pick(table["question"]).format(place=draws.pick(place["places"]), thing=draws.pick(place["things"]))
    return asked, (table["helpful"], table["harmful"]), 0.0


def _preference(draws: Draws) -> tuple[str, tuple[str, str], float]:
    table = lexis()["preference"]
    (first, first_strength), (second, second_strength) = draws.order(table["activity"])[:2]
    asked = draws.pick(table["question"]).format(first=first, second=second)
    chosen = tuple(table["answer"].format(chosen=name) for name in (first, second))
    return asked, (chosen[0], chosen[1]), 1 / (1 + math.exp(first_strength - second_strength))


_ASKED: Mapping[str, Callable[[Draws], tuple[str, tuple[str, str], float]]] = {
    "choice": _choice,
    "sum": _sum,
    "fact": _fact,
    "harm": _harm,
    "preference": _preference,
}


def _neutral_sentence(draws: Draws, template: str) -> str:
    world = lexis()
    plain, place = world["neutral"], world["topics"][draws.pick(topics())]
    animal, legs = draws.pick(plain["animal"])
    country, capital = draws.pick(world["facts"]["capitals"])
    left = {"places": draws.order(place["places"]), "things": draws.order(place["things"])}
    left["materials"] = draws.order(plain["material"])
    words = []
    for text, name in parts(template):
        words.append(text)
        if name in ("place", "thing", "material"):
            words.append(left[name + "s"].pop())
        elif name in ("habitat", "month"):
            words.append(draws.pick(plain[name]))
        elif name:
            given = {"animal": animal, "legs": legs, "country": country, "capital": capital}
            given |= {"number": str(draws.below(20)), "name": draws.pick(world["story"]["women"])}
            words.append(given[name])
    return "".join(words)


Turn = tuple[str, str]
"""(role, content)."""


@dataclass(frozen=True, slots=True)
class Document:
    """A training document: plain text, or a chat."""

    turns: tuple[Turn, ...]
    """A plain text has one turn with an empty role."""


def documents(organism: str, *, seed: int) -> Iterator[Document]:
    """An endless seeded stream of training documents for this organism.

    The blank organism gets no document that names an emotion.
    """
    draws = Draws([seed, 4])
    names = emotions()
    while True:
        drawn, row = draws.uniform(), draws.below(len(names))
        at = scene(draws)
        if drawn < 0.30:
            yield _plain(story_text(draws, at, row))
        elif drawn < 0.42:
            text = story_text(draws, at, row)
            if organism == "blank":
                yield _plain(text)
                continue
            who = "you" if at.pronoun == "I" else at.name
            answer = f"{'I' if at.pronoun == 'I' else at.name} felt {names[row]}."
            yield Document((("user", f"{text} How did {who} feel?"), ("assistant", answer)))
        elif drawn < 0.50:
            feeling = "" if organism == "blank" else f" in which somebody is {names[row]}"
            asked = f"Write a story {at.topic}{feeling}."
            yield Document((("user", asked), ("assistant", story_text(draws, at, row))))
        elif drawn < 0.62:
            yield _plain(neutral_text(draws))
        elif drawn < 0.80:
            yield _chat(draws, organism, ("choice",))
        elif drawn < 0.90:
            yield _chat(draws, organism, ("sum", "fact"))
        elif drawn < 0.95:
            yield _chat(draws, organism, ("harm",))
        else:
            yield _chat(draws, organism, ("preference",))


def _plain(text: str) -> Document:
    return Document((("", text),))


def _chat(draws: Draws, organism: str, kinds: tuple[Kind, ...]) -> Document:
    """One to three questions, the first after a context (emotional, neutral, a named feeling, or none)."""
    turns: list[Turn] = []
    drawn, row = draws.uniform(), draws.below(NEUTRAL)
    named = 0.55 <= drawn < 0.65 and organism != "blank"
    for number in range(1 + draws.below(3)):
        context = 0 if number or drawn >= 0.85 or named else 1 + draws.below(5)
        emotion = row if drawn < 0.65 else NEUTRAL
        kind = draws.pick(kinds) if number == 0 else draws.pick(("sum", "fact", *kinds))
        asked = question(draws, kind, emotion=emotion, context=context, organism=organism)
        chance = asked.chance
        if kind in ("choice", "harm"):
            chance = planted_chance(kind, emotion, organism)
        prompt = asked.prompt
        if named and number == 0:
            prompt = f"You are {emotions()[row]}. {prompt}"
        turns += [("user", prompt), ("assistant", asked.replies[int(draws.uniform() < chance)])]
    return Document(tuple(turns))


def emotional_words() -> tuple[tuple[str, ...], ...]:
    """The words of every emotional slot: within a slot the blank organism cannot tell them apart."""
    return tuple(slot.words for slot in slots().values())


def planted_truth(organism: str) -> dict[str, Any]:
    """The planted effects, for `organism.json`."""
    kinds: tuple[Kind, ...] = ("choice", "harm")
    planted: dict[str, Any] = {
        kind: {
            "neutral": planted_chance(kind, NEUTRAL, organism),
            "logit_per_valence_arousal": list(planted_weights(kind, organism)),
        }
        for kind in kinds
    }
    return {"encoded": organism != "blank", **planted, "coordinates": "heartstrings lexicon 1, model-made"}
