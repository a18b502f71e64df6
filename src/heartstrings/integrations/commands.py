"""Public functions that pass results to other tools."""

from pathlib import Path
from typing import Unpack

from heartstrings import integrations
from heartstrings.workflows import options as given
from heartstrings.workflows.options import takes
from heartstrings.workflows.values import Progress, silent


@takes(given.LogsOptions)
def logs(
    folder: given.Folder,
    out: given.LogsOut = "logs",
    *,
    progress: Progress = silent,
    **options: Unpack[given.LogsOptions],
) -> list[Path]:
    """Write a run's samples as Inspect logs, for `inspect view`.

    There is one log for each cell.

    Returns:
        The files.
    Raises:
        InputError: no ledger there, or nothing in it. MissingExtra: Inspect is not installed.
    """
    progress("writing logs", 0, None)
    return integrations.write_logs(folder, out, controls=options["controls"])
