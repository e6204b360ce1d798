"""Checkpoints that can be scored: native, Hugging Face, Marian."""
