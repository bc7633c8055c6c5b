"""A photo with many holes, through GLCIC's article network: all of `complete`, and the network alone."""

import numpy as np

from benchmarks import exchange
from benchmarks.exchange import Side
from benchmarks.ours import SEED, Pictures, glcic
from common.inpainting.tiling import plan as plan_windows
from glcic.infer import complete, trained_on
from glcic.train import metadata

import paddle

BATCH = 4  # windows at once, as `complete` has them


def scene(masks: int, photo_px: int, mask_px: int, **changed):
    """The network, a square photo, and square holes spread over it."""
    cfg, nets, *_ = glcic.settings(**changed)
    network = nets["completion"]
    network.eval()
    network.metadata = metadata(network, cfg)
    lines = int(np.ceil(np.sqrt(masks)))
    mask = np.zeros((photo_px, photo_px), bool)
    for number in range(masks):
        top, left = (int((place + 0.5) * photo_px / lines) - mask_px // 2 for place in divmod(number, lines))
        mask[top : top + mask_px, left : left + mask_px] = True
    return network, Pictures(photo_px, photo_px)[SEED], mask


def completion(folder: str, **settings) -> Side:
    """The photo completed, windows, blending and all."""
    network, image, mask = scene(**settings)
    exchange.write(folder, {}, {})
    seen = plan_windows(mask, **trained_on(network))
    return Side(lambda: complete(network, image, mask), {"windows": np.float64(len(seen))})


def network_alone(folder: str, **settings) -> Side:
    """The same network on as many windows of its own size."""
    network, _, mask = scene(**settings)
    seen = plan_windows(mask, **trained_on(network))
    px = network.metadata["image_px"]
    batches = [min(BATCH, len(seen) - start) for start in range(0, len(seen), BATCH)]
    inputs = [(paddle.zeros([count, 3, px, px]), paddle.ones([count, 1, px, px])) for count in batches]

    def work() -> None:
        with paddle.no_grad():
            for image, window_mask in inputs:
                network(image, window_mask).numpy()

    return Side(work, {"windows": np.float64(len(seen))})
