"""Completes the face in a photo of any size, by searching the latent space of a trained DCGAN.

python -m dcgan_completion.infer --demo

python -m dcgan_completion.infer --weights WEIGHTS --input PHOTO --mask MASK --output OUT.png

python -m dcgan_completion.infer --weights WEIGHTS --input FOLDER --mask center --output FOLDER
"""

from pathlib import Path

if not __package__:  # run as a file: modules are looked for at the repository's root, not in this folder
    import sys

    here = Path(__file__).resolve().parent
    sys.path[:] = [str(here.parent), *(entry for entry in sys.path if Path(entry).resolve() != here)]

from common.runtime.commands import answer_first, one_line_errors
from dcgan_completion.options import InferOptions as Options
from dcgan_completion.options import eyes_given, read_infer

if __name__ == "__main__":  # --help and mistakes in the flags are answered before Paddle is imported, which takes long
    answer_first(read_infer, __doc__)

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from common.checkpoint.weights import load_trained, read_weights
from common.cpu_layers import layers
from common.errors import UserError
from common.imaging.io import write_image
from common.imaging.photo_file import Photo, open_photo, write_photo
from common.imaging.transforms import from_network, to_network
from common.inpainting import blending, command, demo, folder_run, mask_source, photos
from common.inpainting.blending import Blend, BlendChoice
from common.runtime import memory
from dcgan_completion import evolution, face
from dcgan_completion.alignment import find_face, of_photo
from dcgan_completion.face import Face
from dcgan_completion.masks import KINDS, LOWRES, sample_mask
from dcgan_completion.model import Discriminator, Generator
from dcgan_completion.search import BATCH, Found, image_rng, progress, search
from dcgan_completion.search_settings import PRESETS, Settings

from paddle import nn

PAPER = "dcgan_completion"
SHOWN = 4  # photos of a folder in the images of the search
PAPER_BLEND: Blend = "poisson"  # Yeh et al., Sec. 3.4; the article's code overlays (D8)
UNLIKE = 1.5  # times the error on held-out faces: known pixels matched so badly are no such face


T = TypeVar("T")


# ---- networks


class Dcgan(nn.Layer):
    """What is searched: the generator, who judges it, if anyone, and what the weights file says of them."""

    def __init__(self, generator: Generator, discriminator: Discriminator | None, metadata: dict):
        super().__init__()
        self.generator, self.discriminator, self.metadata = generator, discriminator, metadata

    @property
    def px(self) -> int:
        """Side of the images."""
        return self.generator.arguments["image_px"]

    def forward(self, z):
        """float32 [N, z_channels] -> float32 [N, 3, px, px] in [-1, 1]."""
        return self.generator(z)


def load(weights: str | Path) -> Dcgan:
    """The networks of a weights file, ready to complete; their `metadata` say what they were trained on.

    Of a file without a discriminator it says that it has none.

    Raises:
        UserError: no such file, no safetensors, another paper's weights, or tensors that do not fit.
    """
    content, discriminator = read_weights(weights), None
    generator = load_trained(Generator, weights, PAPER, "generator", "generator of a DCGAN", content)
    if "discriminator" in generator.metadata:
        discriminator = load_trained(Discriminator, weights, PAPER, "discriminator", "discriminator", content)
    else:
        print(f"note: {weights} has no discriminator; completing with the contextual loss alone")
    network = Dcgan(generator, discriminator, generator.metadata)
    network.eval()
    return network


def faster(nets: Dcgan) -> Dcgan:
    """The same networks, in place, whose search computes with layers that are faster on a CPU (`common.cpu_layers`)."""
    for network in (nets.generator, nets.discriminator):
        if network is not None:
            layers.accelerate(network)
    return nets


def warn_of_gate(metadata: dict) -> None:
    """Says with numbers when a DCGAN cannot even redraw whole faces that it has not seen (see `evaluate.gate`)."""
    gate = metadata.get("gate")
    if gate and gate["psnr_db"] < gate["mean_face_psnr_db"]:
        print(
            "note: this DCGAN is not good enough to complete anything: the nearest images that a search found to "
            "{pictures} held-out faces, with nothing missing, are {psnr_db:.1f} dB from them; the mean of all faces "
            "is {mean_face_psnr_db:.1f} dB. Train it longer, or on more faces".format(**gate)
        )


# ---- one photo


def complete(
    network: Dcgan,
    image: np.ndarray,
    mask: np.ndarray,
    settings: Settings = PRESETS["suite"],
    blend: BlendChoice = "poisson",
    where: Face | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Fills the hole in the face of one photo.

    Args:
        network: from `load`.
        image: uint8 [height, width, 3] RGB of any size; the colours under the hole are not looked at.
        mask: bool [height, width], True where the photo is missing; all of it inside the face window.
        settings: of the search.
        where: the face window; None takes the face that the detector finds (of several the one under the mask), or
            else the square in the middle that training cuts, see `face.middle`.
        seed: of the first z.

    Returns:
        uint8 [height, width, 3], identical to the image outside the hole.

    Raises:
        UserError: the photo has no window for a face, or the hole reaches beyond it.
    """
    where = where or of_photo(image, mask, network.metadata["crop"], network.px)
    job = prepare(network, image, mask, where, "the photo")
    found = search_all(network, [job], settings, seed)
    return finish(job, found.generated[0], blend)


def complete_batch(network, images, masks, blend="poisson", seed: int = 0, first: int = 0, steps: int | None = None):
    """`complete` for lists of photos and masks, searched side by side; a mask beyond the face gets a wider window.

    Args:
        first: the number of the first photo, by which each has random numbers of its own.
        steps: of a search from one starting point; None takes the settings of `complete`.
    """
    settings = PRESETS["suite"] if steps is None else replace(PRESETS["suite"], steps=steps, restarts=1)
    jobs = []
    for n, (image, mask) in enumerate(zip(images, masks, strict=True), first):
        where = face.around(mask, network.metadata["crop"])
        jobs.append(prepare(network, image, mask, where, f"photo {n}", n))
    found = search_all(network, jobs, settings, seed)
    return [finish(*each, blend) for each in zip(jobs, found.generated, strict=True)]


class Job(NamedTuple):
    """A photo to be completed, and its face window as the networks see it."""

    photo: np.ndarray
    """uint8 [height, width, 3]"""
    painted: np.ndarray
    """bool [height, width]: where G(z) is to be laid"""
    where: Face
    square: np.ndarray
    """uint8 [px, px, 3], the window; black under the hole"""
    hidden: np.ndarray
    """bool [px, px]: where the search may not look"""
    index: int = 0
    """of the photo in its folder, and of its chance"""


def prepare(nets: Dcgan, photo: np.ndarray, missing: np.ndarray, where: Face | None, name: str, index: int = 0) -> Job:
    """A job from a hole that was drawn on the photo. Raises as `complete`."""
    if photo.shape[:2] != missing.shape:
        raise UserError(
            f"{name} is {photo.shape[1]} x {photo.shape[0]} px, its hole {missing.shape[1]} x {missing.shape[0]} px; "
            "give both one size"
        )
    if where is None:
        where, _ = face.middle(*missing.shape, nets.metadata["crop"], around=missing)
    face.check(where, *missing.shape, nets.px, name)
    if missing.all() and not face.inside(where, *missing.shape).all():
        raise UserError(f"the hole hides all of {name}, so that nothing constrains the result; leave some of the face")
    beyond = missing & ~face.inside(where, *missing.shape)
    if beyond.any():
        raise UserError(
            f"the hole in {name} reaches {beyond.sum():,} px beyond the face window, {where}, where a DCGAN of faces "
            "knows nothing; give the face with --eyes or --face, or use another paper of this suite"
        )
    if not missing.any():
        raise UserError(f"there is no hole in {name}; draw it in white on black, or use --invert-mask")
    return Job(photo, missing, where, *face.look(photo, missing, where, nets.px), index)


def prepare_kind(
    nets: Dcgan, photo: np.ndarray, kind: str, where: Face, name: str, seed: int, index: int, scale: float
) -> Job:
    """A job with a hole of `masks.KINDS`, which is drawn in the window."""
    face.check(where, *photo.shape[:2], nets.px, name)
    drawn = sample_mask(kind, nets.px, np.random.default_rng((seed, index)), scale)
    square, beyond = face.look(photo, np.zeros(photo.shape[:2], bool), where, nets.px)
    hidden = drawn | beyond
    square = np.where(hidden[..., None], 0, square)
    if kind in ("full", LOWRES):  # what G(z) looks like is the answer
        return Job(photo, face.inside(where, *photo.shape[:2]), where, square, hidden, index)
    if not drawn.any():
        raise UserError(f"--center-scale {scale} leaves no hole; choose less than 0.5")
    return Job(photo, face.project(drawn, where, *photo.shape[:2]), where, square, hidden, index)


def search_all(
    nets: Dcgan, jobs: list[Job], settings: Settings, seed: int, lowres: bool = False, every: int = 0, on_step=None
) -> Found:
    """Searches z for all jobs side by side."""
    images = to_network(np.stack([job.square for job in jobs]))
    masks = np.stack([job.hidden for job in jobs])[:, None].astype(np.float32)
    return search_in_memory(
        nets, images, masks, settings, lambda: [image_rng(seed, job.index) for job in jobs], lowres=lowres,
        every=every, on_step=on_step,
    )  # fmt: skip


def search_in_memory(
    nets: Dcgan, images: np.ndarray, masks: np.ndarray, settings: Settings, rngs: Callable[[], list], **options
) -> Found:
    """`search` with fewer rows at once where memory runs out, if their number is no part of the search."""

    def attempt(batch: int) -> Found:
        return search(
            nets.generator, nets.discriminator, images, masks, settings, rngs(),
            batch=BATCH if settings.statistics == "batch" else batch, **options,
        )  # fmt: skip

    least = 1 if settings.statistics == "batch" else min(BATCH, len(images) * settings.restarts)
    return memory.halving(attempt, least, f"searching {{}} z at once for images of {nets.px} x {nets.px} px")


def finish(job: Job, generated: np.ndarray, blend: BlendChoice) -> np.ndarray:
    """The photo with G(z), float32 [3, px, px], in its hole: uint8 [height, width, 3]."""
    filled = face.lay(from_network(generated[None])[0], job.where, job.photo)
    return blending.blend(job.photo, filled, job.painted, blending.choose(blend, PAPER_BLEND))


# ---- command line


def open_masks(options: Options) -> mask_source.Masks | None:
    """The mask files of a command; None if its holes are drawn in the face window.

    Raises:
        UserError: there is no such mask.
    """
    if options.mask in KINDS:
        return None
    if not Path(options.mask).exists():
        raise UserError(f"there is no mask {options.mask}; give an image, a folder, or one of {', '.join(KINDS)}")
    return mask_source.Masks(options.mask, options.input, options.output, options.invert_mask, options.seed)


def read_job(
    nets: Dcgan,
    photo: Path,
    image: np.ndarray,
    index: int,
    options: Options,
    eyes: dict,
    masks: mask_source.Masks | None,
) -> tuple[Job, str]:
    """Reads a photo's hole and its face. Raises UserError for whatever makes it unfit; returns a note with it."""
    missing = np.zeros(image.shape[:2], bool)  # of a mask that is drawn in the window
    if masks is not None:
        output = options.output / photo.relative_to(options.input)  # of a single photo that is the output itself
        missing = photos.read_mask_of(photo, image, masks, output)
    where, note = find_face(photo, image, missing, nets.metadata["crop"], nets.px, options, eyes)
    if masks is None:
        where = where or face.middle(*missing.shape, nets.metadata["crop"])[0]
        job = prepare_kind(
            nets, image, options.mask, where, str(photo), options.seed, index, options.center_scale
        )  # fmt: skip
    else:
        job = prepare(nets, image, missing, where, str(photo), index)
    if job.hidden.all() and options.mask != LOWRES:
        note = f"{photo}: the hole hides all of the face window; nothing constrains the result, it is a face by chance"
    return job, note


def matched(job: Job, generated: np.ndarray) -> float:
    """Mean difference of G(z) from the known pixels, in levels of 0..255."""
    known = ~job.hidden
    difference = np.abs(from_network(generated[None])[0].astype(np.float32) - job.square)
    return float(difference[known].mean()) if known.any() else 0.0


def tell_how_it_went(nets: Dcgan, job: Job, found: Found, at: int, name: str) -> None:
    """One line on the result of a search, and one if the known part is not matched as a face should be."""
    off = matched(job, found.generated[at])
    known = "no pixel known" if job.hidden.all() else f"known pixels {off:.1f} levels off"
    kept = f", restart {found.restart[at] + 1} of {len(found.losses)}" if len(found.losses) > 1 else ""
    tqdm.write(f"{name}: face window {job.where}; loss {found.loss[at]:.1f}{kept}; {known}")
    usual = nets.metadata.get("gate", {}).get("levels")
    if usual and off > UNLIKE * usual:
        tqdm.write(
            f"note: {name}: on held-out faces the known pixels are {usual:.1f} levels off; this is probably no aligned "
            "face as in training (--eyes aligns it), or no face"
        )


def write_evolution(stem: Path, jobs: list[Job], found: Found, completed: list[np.ndarray], settings: Settings) -> None:
    """The strip, the animation and the curves of the first few jobs, as files that begin with `stem`."""
    jobs = jobs[:SHOWN]
    squares, hidden = np.stack([job.square for job in jobs]), np.stack([job.hidden for job in jobs])
    blended = [
        face.look(done, np.zeros(done.shape[:2], bool), job.where, squares.shape[1])[0]
        for done, job in zip(completed[: len(jobs)], jobs, strict=True)
    ]
    frames = found.frames[:, : len(jobs)]
    sheet = evolution.strip(squares, hidden, frames, found.frame_steps, np.stack(blended))
    named = [stem.with_name(f"{stem.name}{end}") for end in ("evolution.png", "evolution.gif", "curves.png")]
    write_image(named[0], sheet)
    evolution.animation(named[1], squares, hidden, frames, found.frame_steps)
    evolution.curves(named[2], found.contextual, found.perceptual, settings.perceptual_weight)
    tqdm.write("the search: " + ", ".join(str(path) for path in named))


def complete_jobs(nets: Dcgan, jobs: list[Job], names: list[str], options: Options, stem: Path | None) -> list:
    """Searches, tells, and writes the images of the search if there is a stem for their names."""
    with progress("searching z") as on_step:
        found = search_all(
            nets, jobs, options.search, options.seed, options.mask == LOWRES, options.every if stem else 0, on_step
        )
    for at, (job, name) in enumerate(zip(jobs, names, strict=True)):
        tell_how_it_went(nets, job, found, at, name)
    completed = [finish(job, made, options.blend) for job, made in zip(jobs, found.generated, strict=True)]
    if stem and options.every:
        write_evolution(stem, jobs, found, completed, options.search)
    return completed


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line. Exit status 1 if any photo of a folder failed."""
    options = read_infer(argv, __doc__)
    eyes, masks = eyes_given(options), open_masks(options)
    nets = command.open_network(options, load, faster)
    warn_of_gate(nets.metadata)

    def read(photo: Path, index: int) -> tuple[Path, Photo, Job]:
        opened = open_photo(photo)
        job, note = read_job(nets, photo, opened.image, index, options, eyes, masks)
        if note:
            tqdm.write(f"note: {note}")
        return photo, opened, job

    notes: Counter[str] = Counter()

    def write(target: Path, result: tuple) -> None:
        notes.update((*result[0].notes, *write_photo(target, *result)))

    if options.input.is_file():
        photo, opened, job = read(options.input, 0)
        stem = options.output.with_name(options.output.stem + "-")
        write(options.output, (opened, complete_jobs(nets, [job], [str(photo)], options, stem)[0], job.painted))
        print(f"written: {options.output}")
        photos.print_notes(notes)
        return
    stems = iter([options.output / "search-"])  # the first chunk shows how it goes

    def work(ready: list[tuple[Path, Photo, Job]]) -> list[tuple]:
        names, opened, jobs = ([one[n] for one in ready] for n in range(3))
        completed = complete_jobs(nets, jobs, [str(name) for name in names], options, next(stems, None))
        return [(*one, job.painted) for *one, job in zip(opened, completed, jobs, strict=True)]

    def depends(photo: Path, index: int) -> list:
        return [index, masks.identity(photo) if masks else options.mask]

    failed = folder_run.each_in_folder(
        options.input, options.output, read, work, options.weights, options.skip_existing, mask=options.mask,
        settings=photos.settings_of(options), depends=depends, write=write, wanted=options.format,
    )  # fmt: skip
    photos.print_notes(notes)
    if options.demo:
        demo.show_completed(options.input, options.mask, options.output)
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
