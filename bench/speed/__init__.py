"""How fast Heartstrings is beside other libraries: `make bench`, or `python -m bench.speed` in the root folder."""
