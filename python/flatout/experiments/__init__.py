"""Experiments: servers under test, a grid of points, repeated in turn; kept, and gone on with after a crash."""
