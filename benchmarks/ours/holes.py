"""A photo with many holes, through GLCIC's article network: all of `complete`, and the network alone."""

import numpy as np

from benchmarks import exchange
from benchmarks.exchange import Side
from benchmarks.ours import SEED, Pictures, glcic
from common.windows import plan as plan_windows
from glcic.infer import complete, trained_on
from glcic.train import facts

import paddle

BATCH = 4  # windows at once, as `complete` has them


def scene(holes: int, photo_px: int, hole_px: int, **changed):
    """The network, a square photo, and square holes spread over it."""
    cfg, nets, *_ = glcic.settings(**changed)
    network = nets["completion"]
    network.eval()
    network.facts = facts(network, cfg)
    lines = int(np.ceil(np.sqrt(holes)))
    hole = np.zeros((photo_px, photo_px), bool)
    for number in range(holes):
        top, left = (int((place + 0.5) * photo_px / lines) - hole_px // 2 for place in divmod(number, lines))
        hole[top : top + hole_px, left : left + hole_px] = True
    return network, Pictures(photo_px, photo_px)[SEED], hole


def completion(folder: str, **settings) -> Side:
    """The photo completed, windows, blending and all."""
    network, image, hole = scene(**settings)
    exchange.write(folder, {}, {})
    seen = plan_windows(hole, **trained_on(network))
    return Side(lambda: complete(network, image, hole), {"windows": np.float64(len(seen))})


def network_alone(folder: str, **settings) -> Side:
    """The same network on as many windows of its own size."""
    network, _, hole = scene(**settings)
    seen = plan_windows(hole, **trained_on(network))
    px = network.facts["image_px"]
    batches = [min(BATCH, len(seen) - start) for start in range(0, len(seen), BATCH)]
    inputs = [(paddle.zeros([count, 3, px, px]), paddle.ones([count, 1, px, px])) for count in batches]

    def work() -> None:
        with paddle.no_grad():
            for image, mask in inputs:
                network(image, mask).numpy()

    return Side(work, {"windows": np.float64(len(seen))})
