"""Running servers that reply."""
