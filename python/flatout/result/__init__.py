"""Results: types, files, requirements, loss, merging."""
