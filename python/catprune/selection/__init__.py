"""Selection: methods, budgets, and the exact choice of the pairs to keep."""
