"""The machine: its description, its topology, and the kernel's settings."""
