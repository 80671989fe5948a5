"""One run: the engine is started, observed, and its result made."""
