"""The steps that lead from one form of the store to the next, by Alembic."""
