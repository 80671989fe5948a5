"""Many hosts as one generator: a Dask cluster, one run on each host, started together, merged exactly."""
