"""Scores completion by the paper's table: PSNR with four kinds of holes, beside the classical methods.

python -m dcgan_completion.evaluate --weights WEIGHTS --data-dir DIR
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from common import blending, evaluation, metrics
from common.blending import Blend
from common.config import at_least
from common.device import open_device
from common.errors import UserError, one_line_errors
from common.image_folder import open_pictures
from common.images import from_network, grid, show_hole, to_network
from dcgan_completion.holes import KINDS, LOWRES, hole
from dcgan_completion.infer import Dcgan, faster, load, parse, progress, warn_of_gate
from dcgan_completion.model import Generator
from dcgan_completion.search import PRESETS, Found, Settings, chance, search

TABLE = ("center", "pattern", "random80", "half")  # the paper's
COLUMNS = ("hole_psnr_db", "image_psnr_db", "hole_l1_percent")
SHOWN = ("input", "Telea", "G(z)", "overlay", "ours", "truth")
GATE = Settings(
    optimizer="adam", learning_rate=0.05, perceptual_weight=0.0, steps=200, restarts=2, statistics="running"
)

# Table 1 of Yeh et al. 2017, CelebA: PSNR in dB. It does not say whether of the whole picture or of the hole.
PUBLISHED = {"center": (19.4, 21.3), "pattern": (17.4, 19.2), "random80": (22.8, 20.6), "half": (13.7, 15.5)}


@dataclass(frozen=True)
class Options:
    """Score completion with the holes of the paper's table, beside Telea, Navier-Stokes and the mean colour."""

    weights: Path
    """what `train` or `convert` wrote"""
    data_dir: Path
    """CelebA or any folder of faces"""
    split: str = "test"
    """train, val or test"""
    preset: str = "suite"
    """how z is searched: suite, article, bamos, yeh2017, authors-repo; sets what the flags of `search` do not"""
    masks: tuple[str, ...] = TABLE
    """kinds of holes, of those that `infer` knows: center, pattern, random80, half; random20, left, grid, freeform"""
    limit: int = 64
    """pictures to score"""
    blend: Blend = "poisson"
    """how G(z) joins the picture in the row `ours`; the row `overlay` is the article's"""
    search: Annotated[Settings, tyro.conf.OmitArgPrefixes] = PRESETS["suite"]
    """settings of the search"""
    seed: int = 0
    """number of the hole set, and of the first z"""
    output: Path | None = None
    """folder for scores.json and pictures.png; none prints only"""
    device: str = "auto"
    """auto, cpu, gpu or gpu:N"""
    plain: bool = False
    """Paddle's stock layers; else, on a CPU, equal ones that are faster there"""


def evaluate(options: Options) -> dict:
    """Completes the faces with each kind of holes, by the search and by the classical methods, and scores all alike.

    Returns:
        JSON values: facts of the weights, the search and the data; `kinds`: name -> `evaluation.scored` of that kind
        of holes. Under "pictures" in each of these the arrays behind them: truth, holes and each row's completions.
    """
    at_least(options, limit=1, seed=0)
    scorable = [kind for kind in KINDS if kind not in ("full", LOWRES)]
    for kind in options.masks or [""]:
        if kind not in scorable:
            raise UserError(f"there are no holes of the kind {kind!r} to score; choose from {', '.join(scorable)}")
    nets = load(options.weights)
    nets = nets if options.plain else faster(nets)
    warn_of_gate(nets.facts)
    images = evaluation.cut_pictures(
        open_pictures(options.data_dir, options.split), nets.px, nets.facts["crop"], options.limit
    )
    kinds = {}
    for kind in dict.fromkeys(options.masks):
        holes = fixed_holes(kind, len(images), nets.px, options.seed)
        found = search_pictures(nets, images, holes, options.search, options.seed, kind)
        made = from_network(found.generated)
        completed = {
            "ours": _blend(images, made, holes, options.blend),
            "overlay": _blend(images, made, holes, "paste"),
            **evaluation.complete_classically(images, holes),
        }
        kinds[kind] = evaluation.scored(images, holes, completed, kind, options.seed)
        kinds[kind]["pictures"]["G(z)"] = made
    return {
        "weights": str(options.weights),
        "preset": nets.facts.get("preset", ""),
        "steps": nets.facts.get("step", 0),
        "gate": nets.facts.get("gate"),
        "data": str(options.data_dir),
        "split": options.split,
        "search": {"preset": options.preset, **vars(options.search), "seed": options.seed},
        "kinds": kinds,
    }


def fixed_holes(kind: str, count: int, px: int, seed: int) -> np.ndarray:
    """A numbered set: hole i depends on kind, seed, i and size only. bool [count, px, px]."""
    words = (zlib.crc32(kind.encode()), seed)
    return np.stack([hole(kind, px, np.random.default_rng((*words, i, px))) for i in range(count)])


def search_pictures(
    nets: Dcgan, images: np.ndarray, holes: np.ndarray, settings: Settings, seed: int, name: str
) -> Found:
    """`search` for pictures uint8 [N, px, px, 3] and holes bool [N, px, px], with a progress bar."""
    with progress(f"searching z, {name}") as on_step:
        return search(
            nets.generator, nets.discriminator, to_network(images), holes[:, None].astype(np.float32), settings,
            [chance(seed, i) for i in range(len(images))], on_step=on_step,
        )  # fmt: skip


def _blend(images: np.ndarray, made: np.ndarray, holes: np.ndarray, how: Blend) -> np.ndarray:
    return np.stack([blending.blend(*each, how) for each in zip(images, made, holes, strict=True)])


# ---- is the DCGAN good enough?


def gate(generator: Generator, held_out: np.ndarray, training: np.ndarray) -> dict:
    """Whether a generator can redraw faces that it has not seen, with nothing missing.

    A completion can be no better than that. The mean of all faces is what one gets without any generator.

    Args:
        held_out, training: uint8 [N, px, px, 3].

    Returns:
        JSON values: the mean PSNR of the pictures found, and of the mean of the training faces; the mean difference of
        the pictures found in levels of 0..255; how many faces, and how they were searched.
    """
    nothing = np.zeros((len(held_out), 1, *held_out.shape[1:3]), np.float32)
    found = search(generator, None, to_network(held_out), nothing, GATE, [chance(0, i) for i in range(len(held_out))])
    made = from_network(found.generated)
    mean_face = np.rint(training.astype(np.float64).mean(0)).astype(np.uint8)
    everywhere = np.ones(held_out.shape[1:3], bool)
    return {
        "pictures": len(held_out),
        "steps": GATE.steps,
        "restarts": GATE.restarts,
        "psnr_db": float(np.mean([metrics.psnr(*each, everywhere) for each in zip(held_out, made, strict=True)])),
        "mean_face_psnr_db": float(np.mean([metrics.psnr(face, mean_face, everywhere) for face in held_out])),
        "levels": float(np.abs(made.astype(np.float32) - held_out).mean()),
    }


# ---- what is shown


def table(result: dict) -> str:
    """The result as a Markdown table, with the paper's below it."""
    search_facts = result["search"]
    lines = [
        "{} {} pictures of {} px; each searched with the preset {preset}: {optimizer}, {steps} steps, {restarts} "
        "restarts, lambda {perceptual_weight:g}, seed {seed}".format(
            _first(result)["pictures_scored"], result["split"], _first(result)["image_px"], **search_facts
        ),
        "",
        "| holes | method | " + " | ".join(COLUMNS) + " |",
        "|---|---|" + "---|" * len(COLUMNS),
    ]
    for kind, scored in result["kinds"].items():
        for name, scores in scored["rows"].items():
            values = " | ".join(f"{scores[key][0]:.2f} ± {scores[key][1]:.2f}" for key in COLUMNS)
            lines.append(f"| {kind}, {scored['hole_share_percent']:.0f} % | {name} | {values} |")
    lines += ["", "not comparable (other weights, other faces; whole picture or hole is not said), PSNR of CelebA:"]
    for kind in result["kinds"]:
        if kind in PUBLISHED:
            ours, encoder = PUBLISHED[kind]
            lines.append(f"  {kind}: Yeh et al. 2017 {ours} dB, their Context Encoder {encoder} dB")
    lines += [f"holes {kind}: SHA-256 {scored['holes_sha256']:.16}" for kind, scored in result["kinds"].items()]
    return "\n".join(lines)


def _first(result: dict) -> dict:
    return next(iter(result["kinds"].values()))


def sheet(result: dict, count: int = 8) -> np.ndarray:
    """Rows for pictures spread evenly over the set, the kinds of holes in turn."""
    rows = []
    kinds = list(result["kinds"].values())
    total = len(kinds[0]["pictures"]["truth"])
    for at, n in enumerate(np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))):
        pictures = kinds[at % len(kinds)]["pictures"]
        shown = {**pictures, "input": pictures["truth"]}
        row = [shown[name][n] for name in SHOWN]
        row[0] = show_hole(pictures["truth"][n], pictures["holes"][n])
        rows.append(row)
    return grid(rows, list(SHOWN), cell_px=96)


def write(result: dict, folder: Path) -> None:
    """Writes scores.json and pictures.png."""
    plain = {kind: {k: v for k, v in scored.items() if k != "pictures"} for kind, scored in result["kinds"].items()}
    evaluation.write({**result, "kinds": plain}, folder, sheet(result))


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line."""
    options = parse(Options, argv, "python -m dcgan_completion.evaluate", __doc__)
    open_device(options.device, options.plain)
    result = evaluate(options)
    print(table(result))
    if options.output:
        write(result, options.output)
        print(f"\nwritten: {options.output / 'scores.json'}, {options.output / 'pictures.png'}")


if __name__ == "__main__":
    main()
