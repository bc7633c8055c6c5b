"""Masks: generated, read from files, numbered for evaluation. True marks what is missing."""
