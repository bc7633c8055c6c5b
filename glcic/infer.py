"""Completes pictures with a trained network.

python -m glcic.infer --weights WEIGHTS --input PHOTO --mask HOLE --output OUT.png
"""

from pathlib import Path

from common.checkpoint import load_network, read_weights
from common.errors import UserError
from glcic.model import CompletionNetwork


def load(weights: str | Path) -> CompletionNetwork:
    """The completion network of a weights file, ready to complete; its `facts` say what it was trained on.

    Raises:
        UserError: no such file, no safetensors, another paper's weights, or tensors that do not fit.
    """
    tensors, facts = read_weights(weights)
    if facts.get("paper") != "glcic" or "completion" not in facts:
        raise UserError(f"{weights} holds no GLCIC completion network but {facts.get('paper', 'something unknown')}")
    network = CompletionNetwork(**facts["completion"])
    load_network(network, tensors, "completion", weights)
    network.eval()
    network.facts = facts
    return network
