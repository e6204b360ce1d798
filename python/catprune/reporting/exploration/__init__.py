"""What `explore` shows: a sample of pairs, the thresholds of a run, and the page."""
