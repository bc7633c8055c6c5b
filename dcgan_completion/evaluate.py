"""Scores completion by the paper's table: PSNR with four kinds of masks, beside the classical methods.

python -m dcgan_completion.evaluate --weights WEIGHTS --data-dir DIR
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime.commands import answer_first, one_line_errors
from dcgan_completion.options import EvaluateOptions as Options
from dcgan_completion.options import read_evaluate

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    answer_first(read_evaluate, __doc__)

import zlib

import numpy as np

from common.errors import UserError
from common.evaluation import comparison, image_metrics, protocol
from common.evaluation.perceptual_metrics import PerceptualMetrics
from common.imaging.grid import grid, show_mask
from common.imaging.transforms import from_network, to_network
from common.inpainting import blending
from common.inpainting.blending import Blend
from dcgan_completion.infer import Dcgan, faster, load, search_in_memory, warn_of_gate
from dcgan_completion.masks import KINDS, LOWRES, sample_mask
from dcgan_completion.model import Generator
from dcgan_completion.search import Found, image_rng, progress, search
from dcgan_completion.search_settings import Settings

COLUMNS = ("hole_psnr_db", "image_psnr_db", "hole_l1_percent")
SHOWN = ("input", "Telea", "G(z)", "overlay", "ours", "truth")
GATE = Settings(
    optimizer="adam", learning_rate=0.05, perceptual_weight=0.0, steps=200, restarts=2, statistics="running"
)

# Table 1 of Yeh et al. 2017, CelebA: PSNR in dB. It does not say whether of the whole image or of the hole.
PUBLISHED = {"center": (19.4, 21.3), "pattern": (17.4, 19.2), "random80": (22.8, 20.6), "half": (13.7, 15.5)}


def evaluate(options: Options) -> dict:
    """Completes the faces with each kind of masks, by the search and by the classical methods, and scores all alike.

    Returns:
        JSON values: facts of the weights, the search and the data; `kinds`: name -> `evaluation.scored` of that kind
        of masks. Under "images" in each of these the arrays behind them: truth, masks and each row's completions.
    """
    scorable = [kind for kind in KINDS if kind not in ("full", LOWRES)]
    protocol.folder_names(options.mask)
    for kind in options.mask or [""]:
        if kind not in scorable and not (kind and Path(kind).is_dir()):
            choice = f"{', '.join(scorable)}, or name a folder"
            raise UserError(f"there are no masks of the kind {kind!r} to score; choose from {choice}")
    nets, metrics = load(options.weights), PerceptualMetrics(options)
    if not options.disable_cpu_layers:
        nets = faster(nets)
    warn_of_gate(nets.metadata)
    dataset = comparison.open_data(options)
    whole = comparison.open_images(dataset, nets.px, nets.metadata["crop"], options.limit, options.seed)
    comparison.check(whole, options)
    images = whole.images
    kinds = {}
    for kind in dict.fromkeys(options.mask):
        if kind in scorable:
            test = comparison.with_masks(whole, fixed_masks(kind, len(images), nets.px, options.seed), kind)
        else:
            test = comparison.with_folder(whole, Path(kind))
        masks = test.masks
        found = search_images(nets, images, masks, options.search, options.seed, kind)
        made = from_network(found.generated)
        completed = {
            "ours": _blend(images, made, masks, options.blend),
            "overlay": _blend(images, made, masks, "paste"),
        }
        kinds[kind] = comparison.compare(test, completed, options, metrics, options.data_dir)
        kinds[kind]["images"]["G(z)"] = made
    return {
        "weights": str(options.weights),
        **comparison.facts(options, nets.metadata, dataset),
        "gate": nets.metadata.get("gate"),
        "search": {"preset": options.preset, **vars(options.search), "seed": options.seed},
        "kinds": kinds,
    }


def fixed_masks(kind: str, count: int, px: int, seed: int) -> np.ndarray:
    """A numbered set: mask i depends on kind, seed, i and size only. bool [count, px, px]."""
    words = (zlib.crc32(kind.encode()), seed)
    return np.stack([sample_mask(kind, px, np.random.default_rng((*words, i, px))) for i in range(count)])


def search_images(
    nets: Dcgan, images: np.ndarray, masks: np.ndarray, settings: Settings, seed: int, name: str
) -> Found:
    """`search` for images uint8 [N, px, px, 3] and masks bool [N, px, px], with a progress bar."""
    with progress(f"searching z, {name}") as on_step:
        return search_in_memory(
            nets, to_network(images), masks[:, None].astype(np.float32), settings,
            lambda: [image_rng(seed, i) for i in range(len(images))], on_step=on_step,
        )  # fmt: skip


def _blend(images: np.ndarray, made: np.ndarray, masks: np.ndarray, how: Blend) -> np.ndarray:
    return np.stack([blending.blend(*each, how) for each in zip(images, made, masks, strict=True)])


# ---- is the DCGAN good enough?


def gate(generator: Generator, held_out: np.ndarray, training: np.ndarray) -> dict:
    """Whether a generator can redraw faces that it has not seen, with nothing missing.

    A completion can be no better than that. The mean of all faces is what one gets without any generator.

    Args:
        held_out, training: uint8 [N, px, px, 3].

    Returns:
        JSON values: the mean PSNR of the images found, and of the mean of the training faces; the mean difference of
        the images found in levels of 0..255; how many faces, and how they were searched.
    """
    nothing = np.zeros((len(held_out), 1, *held_out.shape[1:3]), np.float32)
    found = search(
        generator, None, to_network(held_out), nothing, GATE, [image_rng(0, i) for i in range(len(held_out))]
    )
    made = from_network(found.generated)
    mean_face = np.rint(training.astype(np.float64).mean(0)).astype(np.uint8)

    def psnr_db(images: np.ndarray) -> float:
        """The mean; equal images count as 99 dB, as infinity would hide all others and is no JSON."""
        return float(np.mean([min(99.0, image_metrics.psnr(*each)) for each in zip(held_out, images, strict=True)]))

    return {
        "pictures": len(held_out),
        "steps": GATE.steps,
        "restarts": GATE.restarts,
        "psnr_db": psnr_db(made),
        "mean_face_psnr_db": psnr_db(np.broadcast_to(mean_face, held_out.shape)),
        "levels": float(np.abs(made.astype(np.float32) - held_out).mean()),
    }


# ---- what is shown


def table(result: dict) -> str:
    """The result as a Markdown table, with the paper's below it."""
    search_metadata = result["search"]
    lines = [
        "{} {} images of {} px; each searched with the preset {preset}: {optimizer}, {steps} steps, {restarts} "
        "restarts, lambda {perceptual_weight:g}, seed {seed}".format(
            _first(result)["images_scored"], result["split"], _first(result)["image_px"], **search_metadata
        ),
        "",
    ]
    columns = (*COLUMNS, *protocol.more_columns(_first(result)))
    lines += ["| masks | method | " + " | ".join(columns) + " |", "|---|---|" + "---|" * len(columns)]
    for kind, scored in result["kinds"].items():
        fraction = f"{kind}, {scored['mask_fraction_percent']:.0f} %"
        lines += [f"| {fraction} {row}" for row in protocol.table_rows(scored, columns, digits=2)]
    lines += dict.fromkeys(note for scored in result["kinds"].values() for note in scored["metric_notes"])
    lines += ["", "not comparable (other weights, other faces; whole image or hole is not said), PSNR of CelebA:"]
    for kind in result["kinds"]:
        if kind in PUBLISHED:
            ours, encoder = PUBLISHED[kind]
            lines.append(f"  {kind}: Yeh et al. 2017 {ours} dB, their Context Encoder {encoder} dB")
    lines += [f"masks {kind}: SHA-256 {scored['masks_sha256']:.16}" for kind, scored in result["kinds"].items()]
    return "\n".join(lines)


def _first(result: dict) -> dict:
    return next(iter(result["kinds"].values()))


def sheet(result: dict, count: int = 8) -> np.ndarray:
    """Rows for images spread evenly over the set, the kinds of masks in turn."""
    rows = []
    kinds = list(result["kinds"].values())
    total = len(kinds[0]["images"]["truth"])
    names = [name for name in SHOWN if name == "input" or name in kinds[0]["images"]]  # --baselines may leave some out
    for at, n in enumerate(np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))):
        images = kinds[at % len(kinds)]["images"]
        shown = [images[name][n] for name in names[1:]]
        rows.append([show_mask(images["truth"][n], images["masks"][n]), *shown])
    return grid(rows, names, cell_px=96)


def write(result: dict, folder: Path, html: bool = False) -> None:
    """Writes scores.json and images.png, and below the folder each kind's own scores, with each image's."""
    kinds = result["kinds"]
    plain = {kind: {k: v for k, v in kinds[kind].items() if k not in protocol.NOT_JSON} for kind in kinds}
    protocol.write({**result, "kinds": plain}, folder, sheet(result))
    for kind, name in protocol.folder_names(kinds).items():
        shown = protocol.sheet(kinds[kind], SHOWN)
        protocol.write({**kinds[kind], "weights": result["weights"]}, folder / name, shown, html)


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = read_evaluate(argv, __doc__)
    protocol.run(options, evaluate, table, lambda result, folder: write(result, folder, options.html))


if __name__ == "__main__":
    main()
