"""From a photo and its hole to the search, and from G(z) back into the photo: which pixels are read, which change."""

import dataclasses
import math

import numpy as np
import pytest
from PIL import Image

from common.checkpoint.weights import save_weights
from common.errors import UserError
from common.imaging.io import read_image, write_image
from common.imaging.transforms import from_network, to_network
from common.inpainting.blending import Blend
from dcgan_completion import evaluate, face, infer
from dcgan_completion import train as dcgan_train
from dcgan_completion.config import TINY
from dcgan_completion.face import Face
from dcgan_completion.masks import KINDS, sample_mask
from dcgan_completion.options import EvaluateOptions, InferOptions, parse_search
from dcgan_completion.search import Found, image_rng, search
from dcgan_completion.search_settings import PRESETS, Settings

pytestmark = pytest.mark.medium

PX = 32
FEW = Settings(optimizer="adam", learning_rate=0.05, steps=3, restarts=2, statistics="running")
BLENDS = Blend.__args__
TURNED = Face(45, 5, 60, math.radians(30))  # all of it in a photo of 90 x 110 px


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    for n in range(8):
        write_image(folder / f"images/{n}.png", photo(218, 178, n))
    cfg = dataclasses.replace(TINY, data_dir=folder / "images", run_dir=folder / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate, "GATE", dataclasses.replace(evaluate.GATE, steps=5))
        return dcgan_train.train(dataclasses.replace(cfg, device="cpu"))


@pytest.fixture(scope="module")
def nets(weights):
    return infer.load(weights)


def photo(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def masks_in(height, width, *boxes):
    drawn = np.zeros((height, width), bool)
    for top, left, bottom, right in boxes:
        drawn[top:bottom, left:right] = True
    return drawn


def found_with(generated, frames=0, **changes):
    """What a search would return that found these images, float [N, 3, PX, PX]."""
    n = len(generated)
    values = {
        "z": np.zeros((n, 12)), "loss": np.full(n, 7.0), "generated": np.float32(generated),
        "contextual": np.ones((3, n)), "perceptual": np.ones((3, n)), "accepted": np.ones(n),
        "restart": np.zeros(n, int), "losses": np.full((1, n), 7.0), "frames": np.zeros((frames, n, PX, PX, 3)),
        "frame_steps": list(range(frames)),
    }  # fmt: skip
    return Found(**values | changes)


def constant(level, count=1):
    """G(z) of one level of 0..255."""
    return np.full((count, 3, PX, PX), level / 127.5 - 1, np.float32)


# ---- one photo


@pytest.mark.parametrize(
    "size, boxes, where",
    [
        ((32, 32), [(8, 8, 24, 24)], None),
        ((47, 33), [(10, 3, 20, 14), (39, 30, 40, 33)], None),
        ((33, 90), [(0, 80, 33, 90)], None),  # at the far edge: the window moves there
        ((218, 178), [(100, 60, 140, 110)], None),
        ((90, 110), [(45, 40, 60, 55)], TURNED),
        ((90, 110), [(0, 0, 30, 25)], Face(-10, -10, 70)),
    ],
)
def test_known_pixels_come_back_and_hidden_ones_play_no_part(nets, size, boxes, where):
    """Bit for bit, for every way to blend: the photo around the hole, and the same filling for other hidden colours."""
    image, missing = photo(*size), masks_in(*size, *boxes)
    other = np.where(missing[..., None], 255 - image, image)
    for blend in BLENDS if size == (47, 33) else (BLENDS[size[0] % 4],):
        done = infer.complete(nets, image, missing, FEW, blend, where)
        assert done.shape == image.shape and done.dtype == np.uint8
        np.testing.assert_array_equal(done[~missing], image[~missing])
        assert (done[missing] != image[missing]).any(-1).mean() > 0.9
        np.testing.assert_array_equal(done, infer.complete(nets, other, missing, FEW, blend, where))


def direct(nets, image, hidden, lowres=False, seed=0, settings=FEW):
    """G(z) for an image of the network's size by calling the search: uint8 [PX, PX, 3]."""
    rngs, mask = [image_rng(seed, 0)], hidden[None, None].astype(np.float32)
    found = search(nets.generator, nets.discriminator, to_network(image[None]), mask, settings, rngs, lowres=lowres)
    return from_network(found.generated)[0]


def test_a_picture_of_the_networks_size_is_its_own_window(nets):
    """Pasted, the hole holds what the search finds for this image and hole, called here directly."""
    image, missing = photo(PX, PX), masks_in(PX, PX, (5, 9, 20, 30))
    for seed in (0, 4):
        expected = np.where(missing[..., None], direct(nets, image, missing, seed=seed), image)
        np.testing.assert_array_equal(infer.complete(nets, image, missing, FEW, "paste", seed=seed), expected)
    assert (expected != infer.complete(nets, image, missing, FEW, "paste", seed=0)).any()


def test_a_shifted_prediction_is_brought_to_the_photos_level(nets, monkeypatch):
    """A flat photo of level 200 and a G(z) of 50 everywhere: with Poisson blending the hole becomes 200."""
    monkeypatch.setattr(infer, "search", lambda *_, **__: found_with(constant(50)))
    image, missing = np.full((90, 110, 3), 200, np.uint8), masks_in(90, 110, (45, 40, 60, 55))
    for where in (TURNED, None, Face(20, 10, 70)):
        assert (infer.complete(nets, image, missing, FEW, "paste", where)[missing] == 50).all()
        assert (infer.complete(nets, image, missing, FEW, "poisson", where) == 200).all()


def test_the_search_is_given_the_window_without_its_hole(nets, monkeypatch):
    """At two photo px for each of the network's: block means, black under the hole; the mask and lambda as asked."""
    given = []

    def stand_in(generator, discriminator, images, masks, settings, rngs, **flags):
        given.append((images, masks, settings, flags))
        return found_with(constant(50))

    monkeypatch.setattr(infer, "search", stand_in)
    image, missing, window = photo(90, 110), masks_in(90, 110, (21, 30, 40, 51)), Face(20, 10, 64)
    infer.complete(nets, image, missing, FEW, "paste", window)
    (images, masks, settings, flags), hidden = given[0], np.zeros((PX, PX), bool)
    hidden[(21 - 10) // 2 : 15, (30 - 20) // 2 : 16] = True
    np.testing.assert_array_equal(masks[0, 0] > 0, hidden)
    means = image[10:74, 20:84].reshape(PX, 2, PX, 2, 3).mean((1, 3))
    assert np.abs((images[0].transpose(1, 2, 0) + 1) * 127.5 - means)[~hidden].max() <= 0.51
    assert settings is FEW and not flags["lowres"] and flags["every"] == 0


@pytest.mark.parametrize(
    "size, boxes, where, told",
    [
        ((60, 90), [(0, 5, 9, 80)], None, r"135 px beyond the face window, 60 x 60 px at \(20, 0\)"),
        ((218, 178), [(100, 60, 140, 150)], None, r"280 px beyond the face window, 108 x 108 px at \(35, 55\)"),
        ((90, 110), [(30, 30, 80, 80)], TURNED, "turned by 30.0 degrees"),
        ((60, 60), [], None, "no hole in the photo"),
        ((15, 40), [(4, 9, 8, 20)], None, "has no window for a face: of 15 px, where the network's images have 32"),
        ((90, 110), [(4, 9, 8, 20)], Face(90, 0, 60), "lies mostly outside"),
    ],
)
def test_photos_and_holes_that_cannot_be(nets, size, boxes, where, told):
    """A hole 75 px wide, in a window of 60 that ends with it: 15 columns of 9 px are left. In the second photo the
    window ends at column 143 and the hole at 150: 7 columns of 40 px."""
    with pytest.raises(UserError, match=told):
        infer.complete(nets, photo(*size), masks_in(*size, *boxes), FEW, "paste", where)


def test_a_hole_of_another_size(nets):
    with pytest.raises(UserError, match="the photo is 40 x 50 px, its hole 50 x 40 px"):
        infer.complete(nets, photo(50, 40), masks_in(40, 50, (3, 3, 9, 9)), FEW)


# ---- masks by name


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("full", "lowres")])
def test_holes_are_drawn_in_the_window_by_seed_and_place(nets, kind):
    """At the network's own size the drawn hole lies in the photo as it is; elsewhere as `face.project` lays it."""
    image = photo(90, 110)
    drawn = sample_mask(kind, PX, np.random.default_rng((5, 3)), 0.25)
    job = infer.prepare_kind(nets, image, kind, Face(20, 10, PX), "in.png", 5, 3, 0.25)
    np.testing.assert_array_equal(job.hidden, drawn)
    np.testing.assert_array_equal(job.painted, np.pad(drawn, ((10, 90 - 42), (20, 110 - 52))))
    np.testing.assert_array_equal(job.square, np.where(drawn[..., None], 0, image[10:42, 20:52]))
    assert job.index == 3
    job = infer.prepare_kind(nets, image, kind, TURNED, "in.png", 5, 3, 0.25)
    np.testing.assert_array_equal(job.hidden, drawn)
    np.testing.assert_array_equal(job.painted, face.project(drawn, TURNED, 90, 110))


def test_beyond_the_photo_nothing_is_known_of_a_drawn_hole(nets):
    """A window that begins 10 px to the left of the photo and 6 px above, at the network's own size."""
    for kind in ("center", "full"):
        job = infer.prepare_kind(nets, photo(90, 110), kind, Face(-10, -6, PX), "in.png", 0, 0, 0.25)
        drawn = sample_mask(kind, PX, np.random.default_rng((0, 0)))
        beyond = np.ones((PX, PX), bool)
        beyond[6:, 10:] = False
        np.testing.assert_array_equal(job.hidden, drawn | beyond)
        assert not job.square[job.hidden].any()
        painted = drawn[6:, 10:] if kind == "center" else ~beyond[6:, 10:]
        np.testing.assert_array_equal(job.painted[:26, :22], painted)
        assert not job.painted[26:].any() and not job.painted[:, 22:].any()


@pytest.mark.parametrize("kind", ["full", "lowres"])
def test_what_hides_nothing_writes_the_window(nets, kind):
    image = photo(90, 110)
    job = infer.prepare_kind(nets, image, kind, Face(20, 10, PX), "in.png", 0, 0, 0.25)
    assert not job.hidden.any()
    np.testing.assert_array_equal(job.square, image[10:42, 20:52])
    done, expected = infer.finish(job, constant(50)[0], "paste"), image.copy()
    expected[10:42, 20:52] = 50
    np.testing.assert_array_equal(done, expected)


def test_the_margin_of_the_centre(nets):
    where = Face(20, 10, PX)
    job = infer.prepare_kind(nets, photo(90, 110), "center", where, "in.png", 0, 0, 0.375)
    np.testing.assert_array_equal(job.hidden, masks_in(PX, PX, (12, 12, 20, 20)))  # 32 x 3/8 and 32 x 5/8
    with pytest.raises(UserError, match="leaves no hole"):
        infer.prepare_kind(nets, photo(90, 110), "center", where, "in.png", 0, 0, 0.5)


# ---- several photos


def test_company_changes_nothing(nets):
    """Each photo's chance is that of its place in the folder."""
    jobs = [
        infer.prepare_kind(nets, photo(60, 60, n), "random20", Face(4, 4, 50), "in.png", 1, n, 0.25) for n in range(3)
    ]
    together = infer.search_all(nets, jobs, FEW, seed=1)
    for n, job in enumerate(jobs):
        alone = infer.search_all(nets, [job], FEW, seed=1)
        np.testing.assert_allclose(alone.z[0], together.z[n], atol=1e-4)
    moved = infer.search_all(nets, [jobs[0]._replace(index=7)], FEW, seed=1)
    assert np.abs(moved.z[0] - together.z[0]).max() > 0.1


# ---- what is told


def test_how_far_the_known_pixels_are_off(nets, capsys):
    """G(z) of level 50 over a photo of level 80, its hole black: 30 levels. Held-out faces: 25, and then 15."""
    image, missing = np.full((PX, PX, 3), 80, np.uint8), masks_in(PX, PX, (8, 8, 24, 24))
    job = infer.prepare(nets, image, missing, None, "in.png")
    assert infer.matched(job, constant(50)[0]) == pytest.approx(30)
    found = found_with(constant(50), losses=np.array([[9.0], [7.0]]), restart=np.array([1]))
    for usual, notes in ((25.0, 0), (19.9, 1)):
        known = infer.Dcgan(nets.generator, nets.discriminator, {**nets.metadata, "gate": {"levels": usual}})
        infer.tell_how_it_went(known, job, found, 0, "in.png")
        told = capsys.readouterr().out
        first = "in.png: face window 32 x 32 px at (0, 0); loss 7.0, restart 2 of 2; known pixels 30.0 levels off"
        assert told.splitlines()[0] == first
        assert told.count("note:") == notes and (not notes or "are 19.9 levels off; this is probably no" in told)


def test_the_gate_warns_with_numbers(capsys):
    gate = {"pictures": 32, "steps": 200, "restarts": 2, "psnr_db": 17.04, "mean_face_psnr_db": 17.26, "levels": 9.0}
    infer.warn_of_gate({"gate": gate})
    told = capsys.readouterr().out
    assert "not good enough" in told and "to 32 held-out faces" in told
    assert "are 17.0 dB from them; the mean of all faces is 17.3 dB" in told
    for metadata in ({}, {"gate": None}, {"gate": {**gate, "psnr_db": 17.27}}):
        infer.warn_of_gate(metadata)
    assert capsys.readouterr().out == ""


# ---- the images of the search


def test_files_of_the_search(nets, tmp_path, capsys):
    """The first four photos; a frame of the animation for each of the search's; none of it blank."""
    image, missing = photo(60, 60), masks_in(60, 60, (20, 20, 40, 40))
    jobs = [infer.prepare(nets, image, missing, None, "in.png", n) for n in range(5)]
    found = infer.search_all(nets, jobs, FEW, seed=0, every=1)
    assert found.frame_steps == [0, 1, 2, 3]
    completed = [infer.finish(job, made, "paste") for job, made in zip(jobs, found.generated, strict=True)]
    infer.write_evolution(tmp_path / "out-", jobs, found, completed, FEW)
    names = {f"out-{end}" for end in ("evolution.png", "evolution.gif", "curves.png")}
    assert {path.name for path in tmp_path.iterdir()} == names
    told = capsys.readouterr().out
    assert all(str(tmp_path / name) in told for name in names)
    strip = read_image(tmp_path / "out-evolution.png")
    assert strip.shape[:2] == (20 + 8 * (96 + 4) + 4, 6 * (96 + 4) + 4)  # input, four frames, blended; 32 px tripled
    with Image.open(tmp_path / "out-evolution.gif") as animation:
        assert animation.n_frames == 4 and animation.size == (2 * (192 + 4) + 4, 20 + 4 * (192 + 4) + 4)
    curves = read_image(tmp_path / "out-curves.png")
    assert curves.std() > 5


# ---- weights


def test_weights_without_a_discriminator_complete_by_the_contextual_loss(nets, tmp_path, capsys):
    metadata = {key: value for key, value in nets.metadata.items() if key != "discriminator"}
    path = save_weights(tmp_path / "alone.safetensors", {"generator": nets.generator}, metadata)
    alone = infer.load(path)
    told = capsys.readouterr().out
    assert alone.discriminator is None
    assert told == f"note: {path} has no discriminator; completing with the contextual loss alone\n"
    image, missing = photo(PX, PX), masks_in(PX, PX, (8, 8, 24, 24))
    heavy, none = (dataclasses.replace(FEW, perceptual_weight=weight) for weight in (1e5, 0.0))
    expected = direct(nets, image, missing, settings=none)
    done = infer.complete(alone, image, missing, heavy, "paste")
    np.testing.assert_array_equal(done[missing], expected[missing])
    assert (infer.complete(nets, image, missing, heavy, "paste")[missing] != expected[missing]).any()


def test_weights_of_something_else(nets, tmp_path):
    save_weights(tmp_path / "other.safetensors", {"generator": nets.generator}, {**nets.metadata, "paper": "tenth"})
    metadata = {key: value for key, value in nets.metadata.items() if key != "generator"}
    save_weights(tmp_path / "bare.safetensors", {"generator": nets.generator}, metadata)
    save_weights(tmp_path / "half.safetensors", {"generator": nets.generator}, nets.metadata)
    for name, told in (("other", "weights of tenth"), ("bare", "no generator"), ("half", "discriminator.* is missing")):
        with pytest.raises(UserError, match=told):
            infer.load(tmp_path / f"{name}.safetensors")


def test_loaded_networks_are_those_of_training(weights, nets):
    """Of the average, in evaluation; with the gate's numbers."""
    assert nets.px == PX and not nets.generator.training and not nets.discriminator.training
    assert nets.metadata["crop"] == TINY.crop and nets.metadata["step"] == TINY.total_steps
    assert set(nets.metadata["gate"]) == {"pictures", "steps", "restarts", "psnr_db", "mean_face_psnr_db", "levels"}


# ---- options


@pytest.mark.parametrize("options", [InferOptions, EvaluateOptions])
def test_a_preset_sets_the_flags_of_the_search_and_a_flag_overrides_it(options, tmp_path):
    (tmp_path / "w").touch()
    read_from = ["--input", "i", "--output", "o"] if options is InferOptions else ["--data-dir", str(tmp_path)]
    needed = ["--weights", str(tmp_path / "w"), *read_from]

    def read(*flags):
        return parse_search(options, [*needed, *flags], "prog", "what it does").search

    assert read() == PRESETS["suite"]
    for name, settings in PRESETS.items():
        assert read("--preset", name) == read(f"--preset={name}") == settings
    expected = dataclasses.replace(PRESETS["yeh2017"], steps=7, statistics="batch")
    assert read("--preset", "yeh2017", "--steps", "7", "--statistics", "batch") == expected
    assert read("--steps", "7", "--statistics", "batch", "--preset", "yeh2017") == expected
    with pytest.raises(UserError, match="no preset 'best' of the search; choose from suite, article"):
        read("--preset", "best")
    with pytest.raises(UserError, match="--seed -1"):
        read("--seed", "-1")


@pytest.mark.parametrize(
    "flags, told",
    [
        (["--output", "OUT.docx"], "OUT.docx: the name must end in"),
        (["--output", "OUT.png", "--eyes", "9", "9", "19", "9", "--eyes-file", "eyes.txt"], "not by both"),
    ],
)
def test_what_is_known_before_the_search_is_told_before_it(weights, tmp_path, flags, told, capsys, monkeypatch):
    monkeypatch.setattr(infer, "search", lambda *_, **__: pytest.fail("searched"))
    write_image(tmp_path / "in.png", photo(40, 40))
    with pytest.raises(SystemExit) as stop:
        infer.main(["--weights", str(weights), "--input", str(tmp_path / "in.png"), "--device", "cpu", *flags])
    assert stop.value.code == 2 and told in capsys.readouterr().err


def test_a_hole_over_all_of_an_oblong_photo(nets):
    with pytest.raises(UserError, match="nothing constrains"):
        infer.complete(nets, photo(40, 60), np.ones((40, 60), bool), FEW)


# ---- several photos


def test_a_batch_completes_each_photo_as_it_would_alone(nets):
    """By its number's own random numbers, whatever is searched beside it."""
    photos, missing = [photo(PX, PX, n) for n in range(3)], masks_in(PX, PX, (10, 12, 18, 20))
    together = infer.complete_batch(nets, photos, [missing] * 3, "paste", 3, steps=4)
    for n, (image, done) in enumerate(zip(photos, together, strict=True)):
        alone = infer.complete_batch(nets, [image], [missing], "paste", 3, n, steps=4)[0]
        assert np.abs(done.astype(int) - alone).max() <= 1  # rounding
        np.testing.assert_array_equal(done[~missing], image[~missing])
    other = infer.complete_batch(nets, photos[2:], [missing], "paste", 3, steps=4)[0]
    assert (other[missing] != together[2][missing]).any()


def test_a_mask_beyond_the_face_gets_the_largest_square():
    """An aligned image at half its size: the face's window is 54 px, the largest square 89."""
    inside, beyond = masks_in(109, 89, (40, 30, 60, 50)), masks_in(109, 89, (40, 2, 60, 10))
    assert face.around(inside, "center108") == face.middle(109, 89, "center108")[0]
    assert face.around(beyond, "center108") == Face(0, 10, 89)
