"""Kept results: every run in a database, SQLite in the user's data folder or PostgreSQL; listed, exported, compared.

Method: one row a run with what lists and comparisons need, and beside it the whole result, compressed. A run is written
in one transaction: it is there whole, or not at all.
"""
