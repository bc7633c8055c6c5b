"""The peer's side of the rows: PyTorch as a good reproduction writes it, eager, with its own defaults for speed."""
