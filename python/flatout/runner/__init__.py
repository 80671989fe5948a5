"""Runs: the engine is started and monitored, and its counters become a result."""
