"""Heartstrings as a model of Inspect: any of its tasks, steered, with the samples of all doses in one batch."""

from heartstrings.integrations.inspect._logs import write_logs
from heartstrings.integrations.inspect.sweep import doses_of, models, sweep

__all__ = ["doses_of", "models", "sweep", "write_logs"]
