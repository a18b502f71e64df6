"""Behaviours: what is asked of a model, how, and how the answer is graded. One behaviour a file."""
