"""The text of a corpus: inputs, access by rows, appended rows."""
