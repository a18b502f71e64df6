"""From a ledger to the six answers, with the numbers they rest on."""

from heartstrings.verdict.answer import decide

__all__ = ["decide"]
