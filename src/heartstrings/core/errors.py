"""The errors of the package. Every message says what was found, what was expected, and what to do."""

from __future__ import annotations


class HeartstringsError(Exception):
    """An error that the user can correct.

    Args:
        found: what is wrong, with the name of the file, text or layer.
        expected: what should be there instead.
        fix: what to do, as an instruction; may be empty where `expected` already says it.
    """

    exit_code = 1

    def __init__(self, found: str, expected: str = "", fix: str = "") -> None:
        self.found, self.expected, self.fix = found, expected, fix
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = [self.found.rstrip(".") + "."]
        if self.expected:
            parts.append(f"Expected {self.expected.rstrip('.')}.")
        if self.fix:
            parts.append(self.fix.rstrip(".") + ".")
        return " ".join(parts)


class InputError(HeartstringsError):
    """A file, flag or value from outside is not usable."""

    exit_code = 2


class ModelError(HeartstringsError):
    """A model cannot be loaded, analysed or run."""

    exit_code = 3


class BundleError(HeartstringsError):
    """A vector bundle is damaged, of another model, or of another schema."""

    exit_code = 4


class NumericalError(HeartstringsError):
    """NaN or Inf in place of a finite number; the message says where."""

    exit_code = 5


class MissingExtra(HeartstringsError):
    """An optional library is needed and not installed."""

    exit_code = 6

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            f"{what} needs an optional library that is not installed", fix=f'Run: pip install "heartstrings[{extra}]"'
        )
