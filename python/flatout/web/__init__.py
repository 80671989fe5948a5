"""The page to watch: what runs now, kept runs, their reports and comparisons, in a browser. Extra `flatout[web]`."""
