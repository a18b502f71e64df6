"""Heartstrings as a model of Inspect: any of its tasks, steered, with the samples of all doses in one batch."""

from heartstrings.inspecting.logs import write_logs
from heartstrings.inspecting.sweep import doses_of, models, sweep

__all__ = ["doses_of", "models", "sweep", "write_logs"]
