"""Translates images of any size with a trained network; no pair is needed.

python -m pix2pix.infer --demo

python -m pix2pix.infer --weights WEIGHTS --input IMAGE --output OUT.png

python -m pix2pix.infer --weights WEIGHTS --input FOLDER --output FOLDER
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime.commands import answer_first, one_line_errors
from pix2pix.options import InferOptions as Options
from pix2pix.options import Size, Statistics, read_infer

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    answer_first(read_infer, __doc__)

import contextlib
from dataclasses import replace

import numpy as np

from common.checkpoint.weights import load_trained
from common.deploy.engine import compile_network
from common.errors import UserError
from common.imaging.folders import find_images
from common.imaging.io import read_image
from common.imaging.transforms import resize
from common.inpainting import demo, folder_run, photos
from common.runtime import memory
from common.runtime.device import describe, open_device
from data import EXAMPLES
from pix2pix import encoding
from pix2pix.model import build_generator
from weights import bundled

import paddle
from paddle import nn

SMALL_PX = 32  # below this an image is as good as nothing to a network that halves it five times


def load(weights: str | Path) -> nn.Layer:
    """The generator of a weights file, ready to translate; its `metadata` say what it was trained on.

    Raises:
        UserError: no such file, no safetensors, another paper's weights, or tensors that do not fit.
    """
    return load_trained(build_generator, weights, "pix2pix", "generator", "pix2pix generator")


def faster(generator: nn.Layer, norm: Statistics = "paper"):
    """The same generator, compiled where it can be (see `compile_network`): for one image at a time.

    Not where dropout is drawn at test time (Sec. 3.3): a compiled network has no chance.
    """
    if norm == "running":
        return compile_network(generator, free="sides")
    if any(isinstance(layer, nn.Dropout) for layer in generator.sublayers()):
        if "exported" in generator.metadata:
            print("note: the exported network has no dropout and is not used; --norm running does without dropout")
        return generator
    return compile_network(generator, free="sides", stands_for=with_own_statistics(generator), training=True)


def with_own_statistics(network: nn.Layer) -> nn.Layer:
    """The same generator with batch normalisations turned into instance normalisations.

    For a batch of one image both are the same function, and of a larger batch each image is treated as if alone.
    """
    arguments = network.metadata["generator"]
    if arguments["norm"] != "batch":
        return network
    twin = build_generator(**{**arguments, "norm": "instance-affine"})
    tensors = network.state_dict()
    for key, tensor in twin.state_dict().items():
        old = key[: -len("scale")] + "weight" if key.endswith(".scale") else key
        tensor.set_value(tensors[old])
    twin.eval()
    return twin


@contextlib.contextmanager
def test_time(generator: nn.Layer, norm: Statistics, seed: int):
    """Sets a generator up for translating, and leaves it, and Paddle's chain of chance, as they were.

    paper: as in training, statistics of the batch (which is one image) and dropout, drawn from the seed (Sec. 3.3);
    running: the averages of training, no dropout.
    """
    training = [layer.training for layer in generator.sublayers(include_self=True)]
    # Running averages, which a pass would move; Paddle counts them as parameters without gradient.
    averages = [(value, value.clone()) for value in generator.parameters() if value.stop_gradient]
    rng = paddle.get_rng_state()
    if norm == "paper":
        generator.train()
    else:
        generator.eval()
    paddle.seed(seed)
    try:
        with paddle.no_grad():
            yield
            for value, before in averages:
                paddle.assign(before, value)
    finally:
        paddle.set_rng_state(rng)
        for layer, was in zip(generator.sublayers(include_self=True), training, strict=True):
            layer.training = was


def translate(
    generator: nn.Layer, image: np.ndarray, norm: Statistics = "paper", size: Size = "trained", seed: int = 0
) -> np.ndarray:
    """Translates one image.

    Args:
        generator: from `load`.
        image: uint8 [height, width, 3] RGB of any size.
        norm: see `test_time`.
        size: `trained` resizes the image to the square that the network was trained on, and the result back; `full`
            lets the network see it at its own size, reflected at the border to a multiple of the network's stride.
        seed: of the dropout; the same image and seed give the same result.

    Returns:
        uint8 [height, width, 3].
    """
    height, width = image.shape[:2]
    if size == "trained":
        seen = resize(image, generator.metadata["image_px"], generator.metadata["image_px"])
    else:
        pad = [(0, -side % generator.stride) for side in (height, width)]
        seen = np.pad(image, [*pad, (0, 0)], mode="reflect" if min(height, width) > 1 else "edge")

    def compute(_: int) -> np.ndarray:
        with test_time(generator, norm, seed):
            return generator(encoding.encode_source(seen[None], generator.metadata["direction"])).numpy()[0]

    output = memory.halving(compute, 1, f"translating {{}} image of {width} x {height} px with --size {size}")
    if size == "full":
        output = output[:, :height, :width]
    return encoding.decode(output, image, generator.metadata["direction"])


@memory.names_images
def translate_all(generator: nn.Layer, sources: np.ndarray, direction: str, seed: int) -> np.ndarray:
    """Translates images of the network's own size, one at a time as in the paper.

    Args:
        sources: uint8 [N, side, side, 3].

    Returns:
        uint8 [N, side, side, 3].
    """
    translated = []
    for source in sources:
        with test_time(generator, "paper", seed):
            output = generator(encoding.encode_source(source[None], direction)).numpy()[0]
        translated.append(encoding.decode(output, source, direction))
    return np.stack(translated)


# ---- command line


def read_source(path: Path, half: str) -> np.ndarray:
    """An image, or one half of it. Raises UserError for a corrupt one, or one too narrow to be halved."""
    image = read_image(path)
    if half == "whole":
        return image
    middle = image.shape[1] // 2
    if middle == 0:
        raise UserError(f"{path} is {image.shape[1]} px wide and has no halves")
    return image[:, :middle] if half == "left" else image[:, -middle:]


def translate_file(generator: nn.Layer, options: Options) -> None:
    """One image: reads, translates, writes."""
    image = read_source(options.input, options.half)
    if options.half == "whole" and image.shape[1] == 2 * image.shape[0]:
        print(f"note: {options.input} is twice as wide as high; if it is a pair side by side, add --half left or right")
    if min(image.shape[:2]) < SMALL_PX:
        print(f"note: {image.shape[1]} x {image.shape[0]} px is very small")
    folder_run.write_result(options.output, translate(generator, image, options.statistics, options.size, options.seed))
    print(f"{options.input}: {image.shape[1]} x {image.shape[0]} px, {generator.metadata['direction']}")
    print(f"written: {options.output}")


def translate_folder(generator: nn.Layer, options: Options) -> int:
    """A folder of images. Returns the number that failed; summary.json names them."""

    def read(path: Path, _: int) -> np.ndarray:
        return read_source(path, options.half)

    def work(images: list[np.ndarray]) -> list[np.ndarray]:
        return [translate(generator, image, options.statistics, options.size, options.seed) for image in images]

    words = {"unit": "image", "doing": "translating", "done": "translated"}
    return folder_run.each_in_folder(
        options.input, options.output, read, work, options.weights, options.skip_existing, chunk=1,
        settings=photos.settings_of(options), **words,
    )  # fmt: skip


def load_compiled(options: Options) -> nn.Layer:
    """The generator of the options' weights, compiled where it can be and may be."""
    generator = load(options.weights)
    if options.disable_cpu_layers:
        return generator
    return faster(generator, options.statistics)


def translate_examples(options: Options) -> int:
    """Translates the bundled images that the weights' direction takes, into a subfolder. Returns how many failed."""
    generator = load_compiled(options)
    direction = generator.metadata["direction"]
    source = EXAMPLES / ("labels" if direction == "label-to-photo" else "streets")
    options = replace(options, input=source, output=options.output / direction.replace("-", "_"))
    failed = translate_folder(generator, options)
    rows = []
    for path, result in folder_run.result_files(find_images(source), source, options.output).items():
        photo, label = (read_image(EXAMPLES / name) for name in (f"streets/{path.stem}.jpg", f"labels/{path.stem}.png"))
        given, truth = encoding.as_pair(photo if direction == "grey-to-colour" else (photo, label), direction)
        rows.append([given, read_image(result), truth])
    demo.write_sheet(options.output, rows, ["input", "ours", "truth"])
    return failed


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line. Exit status 1 if any image of a folder failed."""
    options = read_infer(argv, __doc__)
    place = open_device(options.device, options.disable_cpu_layers)
    print(describe(place))
    if options.demo:
        files = [options.weights] if options.weights else bundled("pix2pix")
        failed = sum(translate_examples(replace(options, weights=file)) for file in files)
        if failed:
            raise SystemExit(1)
        return
    generator = load_compiled(options)
    if options.input.is_file():
        translate_file(generator, options)
    elif translate_folder(generator, options):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
