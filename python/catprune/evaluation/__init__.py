"""Evaluation: train on subsets, translate test sets, compare, count the cost."""
