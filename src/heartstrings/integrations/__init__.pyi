from .inspect._logs import write_logs as write_logs

__all__ = ["write_logs"]
