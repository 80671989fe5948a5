"""The limit search: pure decisions, and the loop that carries them out."""
