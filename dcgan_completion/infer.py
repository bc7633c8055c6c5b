"""Completes the face in a photo of any size, by searching the latent space of a trained DCGAN.

python -m dcgan_completion.infer --demo

python -m dcgan_completion.infer --weights WEIGHTS --input PHOTO --mask HOLE --output OUT.png

python -m dcgan_completion.infer --weights WEIGHTS --input FOLDER --mask center --output FOLDER
"""

import argparse
import contextlib
import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import tyro
from tqdm import tqdm

from common import blending, cpu, demo, photos
from common.blending import Blend
from common.checkpoint import build_network, load_network, read_weights
from common.config import at_least
from common.device import describe, open_device
from common.errors import UserError, one_line_errors
from common.images import SUFFIXES, from_network, read_image, to_network, write_image
from data import EXAMPLES
from dcgan_completion import evolution, face
from dcgan_completion.face import Face
from dcgan_completion.holes import KINDS, LOWRES, hole
from dcgan_completion.model import Discriminator, Generator
from dcgan_completion.search import PRESETS, Found, Settings, chance, search
from weights import bundled

SHOWN = 4  # photos of a folder in the pictures of the search
UNLIKE = 1.5  # times the error on held-out faces: known pixels matched so badly are no such face


@dataclass(frozen=True)
class Options:
    """Complete the face in one photo, or in each of a folder."""

    weights: Path | None = None
    """what `train` or `convert` wrote"""
    input: Path | None = None
    """a picture, or a folder of pictures"""
    output: Path | None = None
    """a picture to write, or a folder if the input is one; PNG keeps the known pixels exactly"""
    demo: bool = False
    """needs nothing else: bundled weights, bundled pictures, results in demo_dcgan_completion/ or the output"""
    preset: str = "suite"
    """how z is searched: suite, article, bamos, yeh2017, authors-repo; sets what the flags of `search` do not"""
    mask: str = "center"
    """the hole: a picture (white is hole), a folder of pictures named as the photos, or of the face window: center,
    random20, random80, left, half, grid, pattern, freeform; full: nothing is missing, G(z) is written; lowres:
    super-resolution from 8 x 8 block means"""
    center_scale: float = 0.25
    """of center: the known margin, as a share of the window's side"""
    invert_mask: bool = False
    """black is hole"""
    blend: Blend = "poisson"
    """how G(z) joins the photo; paste is none, the article's overlay (D8)"""
    eyes: tuple[float, float, float, float] | None = None
    """x y x y of the eye on the picture's left and on its right: the face is brought to where training had it"""
    eyes_file: Path | None = None
    """the same for a folder: lines of a file name and the four numbers, such as CelebA's list of landmarks"""
    face: tuple[int, int, int] | None = None
    """left, top and side of the square that holds the face, px; none: by eyes, or the middle as in training"""
    every: int = 50
    """steps between the frames of OUT-evolution.png and .gif; 0 writes neither, nor OUT-curves.png"""
    search: Annotated[Settings, tyro.conf.OmitArgPrefixes] = PRESETS["suite"]
    """settings of the search"""
    device: str = "auto"
    """auto, cpu, gpu or gpu:N"""
    plain: bool = False
    """Paddle's stock layers; else, on a CPU, equal ones that are faster there"""
    seed: int = 0
    """of the first z and of the holes that are drawn"""
    skip_existing: bool = False
    """leave out photos of a folder whose output is there already"""


def parse(options: type, argv: Sequence[str] | None, prog: str, description: str):
    """Reads the options of a command that searches: --preset sets the defaults of the search's flags."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--preset", default="suite")
    preset = first.parse_known_args(argv)[0].preset
    if preset not in PRESETS:
        raise UserError(f"there is no preset {preset!r} of the search; choose from {', '.join(PRESETS)}")
    default = {field.name: _default(field) for field in dataclasses.fields(options)} | {"search": PRESETS[preset]}
    chosen = tyro.cli(options, args=argv, prog=prog, description=description, default=options(**default))
    at_least(chosen, seed=0)
    return chosen


def _default(field: dataclasses.Field):
    return tyro.MISSING if field.default is dataclasses.MISSING else field.default


# ---- networks


class Dcgan(NamedTuple):
    """What is searched: the generator, who judges it, if anyone, and what the weights file says of them."""

    generator: Generator
    discriminator: Discriminator | None
    facts: dict

    @property
    def px(self) -> int:
        """Side of the pictures."""
        return self.generator.arguments["image_px"]


def load(weights: str | Path) -> Dcgan:
    """The networks of a weights file. Of a file without a discriminator it says that it has none.

    Raises:
        UserError: no such file, no safetensors, another paper's weights, or tensors that do not fit.
    """
    tensors, facts = read_weights(weights)
    if facts.get("paper") != "dcgan_completion" or "generator" not in facts:
        raise UserError(f"{weights} holds no generator of a DCGAN but weights of {facts.get('paper', 'unknown')}")
    generator = build_network(Generator, facts["generator"], tensors, weights)
    load_network(generator, tensors, "generator", weights)
    generator.eval()
    discriminator = None
    if "discriminator" in facts:
        discriminator = build_network(Discriminator, facts["discriminator"], tensors, weights)
        load_network(discriminator, tensors, "discriminator", weights)
        discriminator.eval()
    else:
        print(f"note: {weights} has no discriminator; completing with the contextual loss alone")
    return Dcgan(generator, discriminator, facts)


def faster(nets: Dcgan) -> Dcgan:
    """The same networks, in place, whose search computes with layers that are faster on a CPU (see `common.cpu`)."""
    for network in (nets.generator, nets.discriminator):
        if network is not None:
            cpu.accelerate(network)
    return nets


def warn_of_gate(facts: dict) -> None:
    """Says with numbers when a DCGAN cannot even redraw whole faces that it has not seen (see `evaluate.gate`)."""
    gate = facts.get("gate")
    if gate and gate["psnr_db"] < gate["mean_face_psnr_db"]:
        print(
            "note: this DCGAN is not good enough to complete anything: the nearest pictures that a search found to "
            "{pictures} held-out faces, with nothing missing, are {psnr_db:.1f} dB from them; the mean of all faces "
            "is {mean_face_psnr_db:.1f} dB. Train it longer, or on more faces".format(**gate)
        )


@contextlib.contextmanager
def progress(what: str):
    """A progress bar; yields the `on_step` of `search` that moves it."""
    with tqdm(
        unit="step", desc=what, leave=False, mininterval=0.2 if sys.stderr.isatty() else 30, dynamic_ncols=True
    ) as bar:

        def on_step(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield on_step


# ---- one photo


def complete(
    nets: Dcgan,
    image: np.ndarray,
    missing: np.ndarray,
    settings: Settings = PRESETS["suite"],
    blend: Blend = "poisson",
    where: Face | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Fills the hole in the face of one photo.

    Args:
        nets: from `load`.
        image: uint8 [height, width, 3] RGB of any size; the colours under the hole are not looked at.
        missing: bool [height, width], True where the photo is missing; all of it inside the face window.
        where: the face window; None takes the square in the middle that training cuts, see `face.middle`.

    Returns:
        uint8 [height, width, 3], identical to the image outside the hole.

    Raises:
        UserError: the photo has no window for a face, or the hole reaches beyond it.
    """
    job = prepare(nets, image, missing, where, "the photo")
    found = search_all(nets, [job], settings, seed)
    return finish(job, found.generated[0], blend)


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
        where, _ = face.middle(*missing.shape, nets.facts["crop"], around=missing)
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
    """A job with a hole of `holes.KINDS`, which is drawn in the window."""
    face.check(where, *photo.shape[:2], nets.px, name)
    drawn = hole(kind, nets.px, np.random.default_rng((seed, index)), scale)
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
    chances = [chance(seed, job.index) for job in jobs]
    return search(
        nets.generator, nets.discriminator, images, masks, settings, chances, lowres=lowres, every=every,
        on_step=on_step,
    )  # fmt: skip


def finish(job: Job, generated: np.ndarray, blend: Blend) -> np.ndarray:
    """The photo with G(z), float32 [3, px, px], in its hole: uint8 [height, width, 3]."""
    filled = face.lay(from_network(generated[None])[0], job.where, job.photo)
    return blending.blend(job.photo, filled, job.painted, blend)


# ---- command line


def find_face(photo: Path, image: np.ndarray, crop: str, options: Options, eyes: dict) -> tuple[Face | None, str]:
    """The face window by the options, if they give one; and a note about it."""
    if options.face:
        left, top, side = options.face
        return Face(left, top, side), ""
    if photo.name in eyes:
        return face.from_eyes(eyes[photo.name], crop), ""
    where, aligned = face.middle(*image.shape[:2], crop)
    if aligned:
        return None, ""
    return None, (
        f"{photo}: taken for an upright face that fills the square in the middle, {where}, as in training; if it does "
        "not, give --eyes or --face"
    )


def read_job(nets: Dcgan, photo: Path, index: int, options: Options, eyes: dict) -> tuple[Job, str]:
    """Reads a photo, its hole and its face. Raises UserError for whatever makes it unfit; returns a note with it."""
    image = read_image(photo)
    crop = nets.facts["crop"]
    where, note = find_face(photo, image, crop, options, eyes)
    if options.mask in KINDS:
        where = where or face.middle(*image.shape[:2], crop)[0]
        job = prepare_kind(
            nets, image, options.mask, where, str(photo), options.seed, index, options.center_scale
        )  # fmt: skip
    elif not Path(options.mask).exists():
        raise UserError(f"there is no mask {options.mask}; give a picture, a folder, or one of {', '.join(KINDS)}")
    else:
        missing = photos.hole_for(photo, image, options.mask, options.invert_mask)
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
    usual = nets.facts.get("gate", {}).get("levels")
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
    """Searches, tells, and writes the pictures of the search if there is a stem for their names."""
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


def check(options: Options) -> dict:
    """Raises UserError for options that cannot be meant; returns eye positions by file name."""
    at_least(options, every=0)
    if not options.input.exists():
        raise UserError(f"there is no picture or folder {options.input}")
    if options.eyes and options.face or options.eyes_file and options.face:
        raise UserError("give the face by its eyes or by --face, not by both")
    if options.eyes and options.eyes_file:
        raise UserError("give the eyes by --eyes or by --eyes-file, not by both")
    if options.input.is_file() and options.output.suffix.lower() not in SUFFIXES:  # known before the search, not after
        raise UserError(f"cannot write {options.output}: the name must end in one of {', '.join(sorted(SUFFIXES))}")
    if options.input.is_dir():
        if options.eyes or options.face:
            raise UserError("--eyes and --face are of one photo; for a folder give --eyes-file")
        return face.read_eyes(options.eyes_file) if options.eyes_file else {}
    if options.eyes_file:
        eyes = face.read_eyes(options.eyes_file)
        if options.input.name not in eyes:
            raise UserError(f"{options.eyes_file} has no line for {options.input.name}")
        return eyes
    return {options.input.name: options.eyes} if options.eyes else {}


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    """The command line. Exit status 1 if any photo of a folder failed."""
    options = parse(Options, argv, "python -m dcgan_completion.infer", __doc__)
    brought = {"input": EXAMPLES / "faces", "mask": str(EXAMPLES / "holes"), "invert_mask": False}
    aligned = {"eyes": None, "eyes_file": None, "face": None}  # the bundled faces are where training had them
    options = demo.fill(options, "dcgan_completion", bundled, **brought, **aligned)
    eyes = check(options)
    place = open_device(options.device, options.plain)
    nets = load(options.weights)
    nets = nets if options.plain else faster(nets)
    print(describe(place))
    warn_of_gate(nets.facts)

    def read(photo: Path, index: int) -> tuple[Path, Job]:
        job, note = read_job(nets, photo, index, options, eyes)
        if note:
            tqdm.write(f"note: {note}")
        return photo, job

    if options.input.is_file():
        photo, job = read(options.input, 0)
        stem = options.output.with_name(options.output.stem + "-")
        write_image(options.output, complete_jobs(nets, [job], [str(photo)], options, stem)[0])
        print(f"written: {options.output}")
        if options.output.suffix.lower() in photos.LOSSY:
            print("note: this format changes known pixels a little; write a .png to keep them exactly")
        return
    stems = iter([options.output / "search-"])  # the first chunk shows how it goes

    def work(ready: list[tuple[Path, Job]]) -> list[np.ndarray]:
        names, jobs = [str(photo) for photo, _ in ready], [job for _, job in ready]
        return complete_jobs(nets, jobs, names, options, next(stems, None))

    failed = photos.each_in_folder(options.input, options.output, read, work, options.weights, options.skip_existing)
    if options.demo:
        demo.show_completed(options.input, options.mask, options.output)
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
