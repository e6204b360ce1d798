"""Writing the kept pairs as text."""
