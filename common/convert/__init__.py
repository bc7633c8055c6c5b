"""Readers of weights that others published. Nothing in a file is executed."""
