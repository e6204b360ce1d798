"""The demo: the whole path on a generated corpus with planted faults."""
