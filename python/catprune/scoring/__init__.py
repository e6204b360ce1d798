"""Scores of pairs: statistics of checkpoints, scorers of text, functions of columns."""
