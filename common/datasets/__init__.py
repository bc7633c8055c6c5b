"""Readers of data sets, and the batches drawn from them."""
