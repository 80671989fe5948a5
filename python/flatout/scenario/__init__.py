"""From what was asked to what the engine is given."""
