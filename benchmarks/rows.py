"""The rows of the table, and the curves of cost against growth."""

from dataclasses import dataclass

from benchmarks.pairs import Row

PAPERS = ("glcic", "pix2pix", "deepfill", "context_encoder", "dcgan_completion")

STEPS = {  # what a step is given, at the article's sizes
    "glcic": (
        {"batch_size": 16},
        "128 px, 16 images (the article's 64 take half a minute a step), last phase: all three networks",
    ),
    "pix2pix": ({}, "224 px, 1 pair, ResNet generator with 7 blocks, photo to label"),
    "deepfill": ({}, "256 px, 2 images with sketches, 48 channels"),
    "context_encoder": ({}, "128 px, 64 images, centre"),
    "dcgan_completion": ({}, "64 px, 64 images; the generator steps twice"),
}
PASSES = {  # the batch is what `infer` computes at once by default
    "glcic": ({"batch_size": 4}, "128 px, 4 images"),
    "pix2pix": ({}, "224 px, 1 image, ResNet generator with 7 blocks, normalised by its own statistics"),
    "deepfill": ({"batch_size": 4}, "256 px, 4 images with sketches, 48 channels, both stages"),
    "context_encoder": ({"batch_size": 16}, "128 px, 16 images, centre"),
    "dcgan_completion": ({}, "64 px, the images of 64 z, by what `export` writes; completing is the search"),
}


def _paper(paper: str, verb: str, settings: dict, note: str) -> Row:
    return Row(f"{paper}-{verb}", f"benchmarks.ours.{paper}:{verb}", f"benchmarks.peers.{paper}:{verb}", note, settings)


def _attention(name: str, side: int) -> Row:
    note = f"contextual attention, forward and backward, features of {side} x {side} x 192"
    settings = {"side": side, "channels": 192}
    return Row(name, "benchmarks.ours.deepfill:attention", "benchmarks.peers.deepfill:attention", note, settings)


def _checkpoint(verb: str, note: str) -> Row:
    settings = {"load": verb == "load", "batch_size": 2}
    ours, peer = "benchmarks.ours.files:checkpoint", "benchmarks.peers.checkpoint:checkpoint"
    return Row(f"checkpoint-{verb}", ours, peer, note, settings)


def _readers(name: str, crop: bool, data_dir: str | None, threads: int) -> Row:
    note = f"one epoch of up to 960 images in {threads} threads" + (", cropped and resized to 96 px" if crop else "")
    note += "; the peer is cv2.imread alone, in as many threads"
    settings = {"data_dir": data_dir, "images": 960, "workers": threads, "crop": crop}
    return Row(name, "benchmarks.ours.files:readers", "benchmarks.peers.files:readers", note, settings, torch=False)


def all_rows(data_dir: str | None = None, threads: int = 2) -> list[Row]:
    """Every row of the table, in order.

    Args:
        data_dir: images for the readers; none draws some.
        threads: of the readers.
    """
    search = ("benchmarks.ours.dcgan_completion:completion", "benchmarks.peers.dcgan_completion:completion")
    return [
        *(_paper(paper, "train", *STEPS[paper]) for paper in PAPERS),
        *(_paper(paper, "infer", *PASSES[paper]) for paper in PAPERS),
        Row("dcgan_completion-search", *search, "4 updates of 64 z by Adam, with the discriminator", {"steps": 4}),
        _attention("attention", 64),
        _attention("attention-128", 128),
        _readers("readers", False, data_dir, threads),
        _readers("readers-crop", True, data_dir, threads),
        _checkpoint("save", "GLCIC's networks and Adam's moments, flushed to disk and renamed on both sides"),
        _checkpoint("load", "the same, into networks and optimisers that are there"),
    ]


@dataclass(frozen=True)
class Curve:
    """One row again and again, a setting growing."""

    row: Row
    setting: str
    values: tuple[int, ...]
    axis: str
    peer: str
    """what the peer is, for the legend"""
    per_value: bool = False
    """whether the time is shown per unit of the setting"""


def all_curves() -> list[Curve]:
    """Every curve, in order."""
    batch = _paper("pix2pix", "train", {"image_px": 64}, "training step of pix2pix at 64 px, ResNet generator")
    image = _paper("deepfill", "infer", {"batch_size": 1}, "DeepFill v2 on one image, 48 channels")
    data = Row(
        "growth-data",
        "benchmarks.ours.files:first_batch",
        "benchmarks.peers.files:first_batch",
        "from a folder of files to the first batch of 16 images (no Paddle in the peer's process)",
        torch=False,
    )
    masks = Row(
        "growth-masks",
        "benchmarks.ours.masks:completion",
        "benchmarks.ours.masks:network_alone",
        "GLCIC completes a photo of 1024 x 1024 px with holes of 40 px",
        {"photo_px": 1024, "mask_px": 40},
        torch=False,
    )
    return [
        Curve(_named(batch, "growth-batch"), "batch_size", (1, 2, 4, 8, 16, 32), "pairs per step", "PyTorch", True),
        Curve(_named(image, "growth-image"), "image_px", (64, 128, 256, 512, 1024), "side of the image, px", "PyTorch"),
        Curve(data, "files", (1_000, 5_000, 20_000, 50_000, 200_000), "files in the folder", "os.walk and cv2.imread"),
        Curve(masks, "masks", (1, 4, 16, 64), "holes in the photo", "the network alone, as many windows"),
    ]


def _named(row: Row, name: str) -> Row:
    return Row(name, row.ours, row.peer, row.note, row.settings, row.torch)
