"""Polling: the loops of waits and retries, their intervals, the sources of jobs. No HTTP."""
