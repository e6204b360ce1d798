"""Cleaning: filters, duplicates, test sets, languages, and statistics of a corpus."""
