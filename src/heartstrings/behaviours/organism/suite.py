"""What the bundled organisms are asked."""

from __future__ import annotations

from heartstrings.behaviours.organism.choice import Choice
from heartstrings.behaviours.organism.facts import Facts
from heartstrings.behaviours.organism.harm import Harm
from heartstrings.behaviours.organism.preferences import Preferences
from heartstrings.behaviours.organism.stories import Stories
from heartstrings.behaviours.organism.sums import Sums
from heartstrings.behaviours.roles import Suite


def organism() -> Suite:
    """What the bundled organisms can be asked."""
    # Eleven tasks are reported at the quick settings: they cannot hold a change of validity to less.
    plan = {"samples": {"harm": 300}, "thresholds": {"validity_drop": 0.3}}
    return Suite("organism", (Choice(),), (Sums(), Facts()), (Harm(),), (Preferences(),), (Stories(),), plan=plan)
