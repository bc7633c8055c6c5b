"""Metrics, and the protocol that computes them on numbered masks."""
