"""Results and progress in the terminal."""
