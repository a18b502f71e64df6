"""What a chat model does with tools."""

from __future__ import annotations

from heartstrings.behaviours.agents.blackmail import Blackmail, BlackmailHarmless
from heartstrings.behaviours.agents.reward_hacking import RewardHacking, SolvableCode
from heartstrings.behaviours.roles import LANGUAGE_MODEL, Suite


def agents() -> Suite:
    """What a chat model does with tools in several turns: blackmail and reward hacking, and their harmless matches."""
    return Suite(
        "agents",
        (Blackmail(), RewardHacking()),
        matched=(BlackmailHarmless(), SolvableCode()),
        matches={"blackmail": ("blackmail-harmless",), "reward-hacking": ("solvable-code",)},
        plan={**LANGUAGE_MODEL, "samples": {"select": 8, "effect": 20, "matched": 20}},
    )
