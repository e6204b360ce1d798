"""Token ids: the tokenizer and the blocks that training and scoring read."""
