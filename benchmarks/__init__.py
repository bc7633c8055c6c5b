"""Measurements, each paired with a peer in one run."""
