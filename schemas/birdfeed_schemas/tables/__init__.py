"""Tables used by code, datafiles, docs and tests: meters, providers, variables, former columns, hints on names."""
