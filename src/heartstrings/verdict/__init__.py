"""From a ledger to the five answers, with the numbers they rest on."""

from heartstrings.verdict.answer import decide

__all__ = ["decide"]
