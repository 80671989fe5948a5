"""The machine: its description and its topology."""
