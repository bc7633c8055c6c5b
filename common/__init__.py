"""Nouns shared by the papers: images, masks, checkpoints, metrics. Names no paper."""

__version__ = "0.2.0"
