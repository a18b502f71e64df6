"""What a run still has to ask, as it goes on: `heartstrings.experiment.run` calls this between its stages."""

from __future__ import annotations

from dataclasses import dataclass, field

from heartstrings.experiment.ledger import ClaimKind
from heartstrings.experiment.plan import Plan
from heartstrings.verdict._claims import BEYOND, claims
from heartstrings.verdict.control_rounds import Measurer, families, members_of, stop_of
from heartstrings.verdict.tables import Rows, Suite, Table


@dataclass(eq=False)
class Open:
    """Which answers and claims of a plan are still open."""

    plan: Plan
    suite: Suite
    ledger: Rows
    _closed: dict[tuple[tuple[str, ...], int], bool] = field(default_factory=dict)

    def undecided(self, asked: int) -> frozenset[str]:
        """The effect behaviours that have to be asked along more than the first `asked` controls of each kind, since an
        answer could change; after all of them, those of which some direction exceeds its controls."""
        plan = self.plan.spent
        measurer = Measurer(plan, Table(self.ledger.samples()), self.suite)
        left = [members for members in members_of(plan) if stop_of(measurer, members, asked, self._closed) is None]
        over = left if asked >= plan.rounds[-1] else [plan.family(members[0]) for members in left]
        return frozenset(name for names in over for name in names)

    def reached(self, kind: ClaimKind) -> bool:
        """Whether some direction is shown to exceed everything that it is compared with before this kind."""
        plan = self.plan.spent
        table = Table(self.ledger.samples())
        claimed = claims(plan, table, families(plan, table, self.suite))
        later = list(BEYOND.values())[list(BEYOND).index(kind) :]
        return any(
            all(claim.state == "shown" for claim in own if claim.name not in later)
            for (behaviour, _), own in claimed.items()
            if behaviour in plan.declared
        )
