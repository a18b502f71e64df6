"""How fast Heartstrings is beside other libraries: `python -m bench.speed` from the repository's root, or `make bench`."""
