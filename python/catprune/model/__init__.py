"""The transformer and how a processor runs it."""
