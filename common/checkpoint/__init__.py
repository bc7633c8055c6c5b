"""What a run writes: weights for inference, state to resume from, each whole or absent."""
