"""The text of a corpus: inputs, row by row access, appended rows."""
