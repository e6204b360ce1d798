"""Several steps in one command: run files, `run`, `prune`, `doctor`."""
