"""Every constant of a paper's or an article's preset, with its source, written down a second time.

The values come from the papers, their releases and the articles, not from config.py: a preset whose alpha is ten times
too large trains, and every other test passes. `ours` marks what none of them states. A field that the table lacks, or a
preset, or a paper, fails here too.
"""

import dataclasses
import importlib
from pathlib import Path

import pytest

from common.config import RunSettings

from paddle import nn

ROOT = Path(__file__).parents[2]
PAPERS = sorted(path.parent.name for path in ROOT.glob("*/infer.py"))
OURS = ("quick", "cpu", "cpu-long", "suite")  # presets found by trial, which reproduce nothing
MECHANICS = {field.name for field in dataclasses.fields(RunSettings)} - {"total_steps", "batch_size"}
NARROW = {"base_channels": 8, "discriminator_channels": 8, "bottleneck": 16}

# Adam's defaults everywhere (Kingma and Ba 2015): beta 0.9 and 0.999, epsilon 1e-8.
# BATCH: momentum 0.9 in Paddle's sense, which is 0.1 in Torch's, and epsilon 1e-5: the defaults of both.
BATCH, INSTANCE = ("BatchNorm2D", 0.9, 1e-5), ("InstanceNorm2D", None, 1e-5)


def changed(table: dict, **rows) -> dict:
    """A table with some rows replaced; each row is (value, source)."""
    assert rows.keys() <= table.keys(), f"no such rows: {rows.keys() - table.keys()}"
    return {**table, **rows}


GLCIC = {
    "total_steps": (500_000, "Sec. 4: T_train"),
    "completion_steps": (90_000, "Sec. 4: T_C"),
    "discriminator_steps": (10_000, "Sec. 4: T_D"),
    "batch_size": (96, "Sec. 4"),
    "image_px": (256, "Sec. 3.3"),
    "crop": ("random", "Sec. 4: shorter side 256 to 384, then a random square"),
    "flip": (False, "ours: no mirroring is mentioned"),
    "pairs": (False, "ours"),
    "mask_px": ((96, 128), "Sec. 3.3"),
    "local_px": (128, "Sec. 3.3"),
    "placement": ("paper", "Sec. 3.3: the patch is centred on the hole"),
    "base_channels": (64, "Tables 1 and 2"),
    "global_convs": (6, "Table 2"),
    "discriminators": ("both", "Sec. 3.3"),
    "output_activation": ("sigmoid", "Sec. 3.2"),
    "average_decay": (0.0, "Algorithm 1: the networks that it trains, no average of them"),
    "reconstruction": ("mse", "Eq. 2"),
    "mask_channel": (True, "Sec. 3.2"),
    "fill": ("mean", "official code: the training set's mean colour"),
    "norm_first": (True, "official weights"),
    "norm_momentum": (0.9, "official code: Torch's 0.1"),
    "norm_epsilon": (1e-5, "official code: Torch's default"),
    "optimizer": ("adadelta", "Sec. 4"),
    "learning_rate": (1.0, "Sec. 4: plain ADADELTA"),
    "decay_steps": (0, "Sec. 4: no schedule"),
    "adversarial_weight": (4e-4, "Sec. 4: alpha"),
    "minimax": (False, "D8"),
    "completion optimizer": (("Adadelta", 1.0, 0.9, 1e-6), "otenim: rate, rho, epsilon"),
    "discriminator optimizer": (("Adadelta", 1.0, 0.9, 1e-6), "otenim: rate, rho, epsilon"),
    "completion norms": ({BATCH}, "official code"),
    "discriminator norms": ({BATCH}, "as in the completion network"),
}
GLCIC_ARTICLE_EPOCH = 202_599 * 95 // 100 // 64  # steps: 95 % of CelebA, 64 at a time, the rest dropped
GLCIC_ARTICLE_NORM = ({("BatchNorm2D", 0.99, 1e-3)}, "article: every batch_norm call of all three networks")

PIX2PIX = {
    "direction": ("label-to-photo", "Sec. 4: labels to photos"),
    "photo_side": ("left", "data sets: A, the photo, is left"),
    "total_steps": (0, "App. 6.2: counted in epochs"),
    "epochs": (200, "App. 6.2"),
    "decay_epochs": (100, "PyTorch port: constant for 100 epochs, falling for 100 (D8)"),
    "batch_size": (1, "App. 6.2"),
    "load_px": (286, "App. 6.2: jitter"),
    "image_px": (256, "App. 6.2"),
    "flip": (True, "App. 6.2: mirroring"),
    "generator": ("unet", "App. 6.1.1"),
    "levels": (8, "App. 6.1.1: U-Net-256, down to 1 px"),
    "blocks": (7, "article; of resnet only"),
    "upsample": ("output-padding", "PyTorch port; of resnet only"),
    "base_channels": (64, "App. 6.1.1: C64"),
    "generator_norm": ("batch", "App. 6.1.1"),
    "dropout": ("paper", "App. 6.1.1: CD512-CD512-CD512"),
    "patch_px": (70, "Sec. 4.4"),
    "discriminator_channels": (64, "App. 6.1.2: C64"),
    "discriminator_norm": ("batch", "App. 6.1.2"),
    "first_norm": (False, "App. 6.1.2: none after C64"),
    "norm_deviation": (0.02, "official code: N(1, 0.02)"),
    "objective": ("l1+cgan", "Eq. 4"),
    "gan_mode": ("vanilla", "Eq. 1"),
    "l1_weight": (100.0, "App. 6.2: lambda"),
    "penalty_weight": (10.0, "Gulrajani et al. 2017; of wgan-gp only"),
    "learning_rate": (2e-4, "App. 6.2"),
    "beta1": (0.5, "App. 6.2"),
    "generator optimizer": (("Adam", 2e-4, 0.5, 0.999, 1e-8), "App. 6.2: rate, betas; epsilon by default"),
    "discriminator optimizer": (("Adam", 2e-4, 0.5, 0.999, 1e-8), "App. 6.2"),
    "generator norms": ({BATCH}, "App. 6.1.1"),
    "discriminator norms": ({BATCH}, "App. 6.1.2"),
    "generator dropouts": ({0.5}, "App. 6.1.1: 50 %"),
    "generator slopes": ({0.2}, "App. 6.1.1: leaky ReLU in the encoder"),
}
PIX2PIX_ARTICLE = changed(
    PIX2PIX,
    total_steps=(50_000, "article: 50,000 steps of photo to label"),
    direction=("photo-to-label", "article"),
    decay_epochs=(0, "article: no schedule"),
    load_px=(0, "article: pairs as they are"),
    image_px=(224, "article"),
    flip=(False, "article: drawn, never applied"),
    generator=("resnet", "article: Gen"),
    blocks=(7, "article: residual_num"),
    upsample=("zero-pad", "article: a row and a column of zeros after the ReLU"),
    dropout=("none", "article"),
    discriminator_norm=("instance-affine", "article: Disc"),
    first_norm=(True, "article: Disc"),
    norm_deviation=(0.0, "article: fluid's default, scale 1"),
)
PIX2PIX_ARTICLE |= {
    "discriminator norms": ({INSTANCE}, "article: Disc"),
    "generator dropouts": (set(), "article: Gen has none"),
    "generator slopes": (set(), "article: Gen has plain ReLUs"),
}

DEEPFILL = {
    "total_steps": (1_000_000, "nipponjo; the release: until it looks right"),
    "batch_size": (16, "release: inpaint.yml"),
    "image_px": (256, "Sec. 4"),
    "crop": ("random", "release: random crops of Places2"),
    "flip": (False, "release: none"),
    "pairs": (False, "ours"),
    "mask": ("official", "release: brush strokes and a rectangle"),
    "mask_per_batch": (False, "D6"),
    "layers": ("gated", "Sec. 3.1"),
    "base_channels": (24, "release: cnum 48 before the gates' half is taken; 4.1 M parameters"),
    "inputs": ("official", "release: image, ones, mask"),
    "gate_first": (False, "release: features first"),
    "padding": ("same", "release: TensorFlow's SAME"),
    "residual": (False, "Sec. 3.2: each stage predicts the image"),
    "guided": (False, "release for Places2: no sketch"),
    "sketch_drop": (0.0, "Sec. 3.5"),
    "learning_rate": (1e-4, "release: train.py"),
    "beta1": (0.5, "release: train.py"),
    "beta2": (0.999, "release: train.py"),
    "warmup_steps": (0, "release: constant rate"),
    "decay_steps": (0, "release: constant rate"),
    "plain_steps": (0, "release: the discriminator from the first step"),
    "adversarial_weight": (1.0, "Sec. 3.3: 1 : 1"),
    "known_weight": (1.0, "release: a mean over all pixels"),
    "discriminator_channels": (64, "release: sn_patch_gan"),
    "slope": (0.2, "release: leaky_relu's default in TensorFlow"),
    "generator optimizer": (("Adam", 1e-4, 0.5, 0.999, 1e-8), "release: train.py"),
    "discriminator optimizer": (("Adam", 1e-4, 0.5, 0.999, 1e-8), "release: train.py"),
}
DEEPFILL_ARTICLE_ADAM = (("Adam", 1e-4, 0.9, 0.999, 1e-8), "KeyKy, the article's code: Torch's default betas")
DEEPFILL_ARTICLE = changed(
    DEEPFILL,
    total_steps=(99 * 100_000 // 2, "KeyKy: epochs 1 to 99 of 100,000 faces"),
    batch_size=(2, "KeyKy"),
    crop=("square178", "D14"),
    mask_per_batch=(True, "KeyKy"),
    base_channels=(48, "article: cnum 48 after the gates"),
    inputs=("article", "article: image, mask, edge"),
    gate_first=(True, "article: GatedConv2d"),
    padding=("symmetric", "article: Torch's padding"),
    guided=(True, "article: the edge channel"),
    beta1=(0.9, "KeyKy: Torch's default"),
    slope=(0.01, "article: nn.LeakyReLU()"),
)
DEEPFILL_ARTICLE |= {f"{name} optimizer": DEEPFILL_ARTICLE_ADAM for name in ("generator", "discriminator")}

CONTEXT_ENCODER = {
    "total_steps": (500 * 14_900 // 64, "official README: 500 epochs of Paris StreetView's 14,900"),
    "batch_size": (64, "official code: batchSize"),
    "image_px": (128, "official code: fineSize"),
    "load_px": (350, "official README: loadSize"),
    "crop": ("center", "ours, for evaluation: the held-out images are squares"),
    "flip": (True, "official code"),
    "pairs": (False, "ours"),
    "predicted_region": ("center", "Sec. 3.3"),
    "mask": ("center", "Sec. 3.3"),
    "overlap_px": (4, "official code: overlapPred"),
    "mean_colour": ("release", "official code: RGB 117, 104, 123 (D3)"),
    "base_channels": (64, "official code: nef, ngf, ndf"),
    "bottleneck": (4_000, "official README: nBottleneck"),
    "noise_channels": (0, "official code: noiseGen 0"),
    "conditional": (False, "official code: conditionAdv 0"),
    "conv_bias": (False, "official code: biases are zeroed before every step (D4)"),
    "bottleneck_relu": (False, "official code: leaky ReLU (D2)"),
    "reconstruction_weight": (0.999, "Sec. 5.1: lambda_rec"),
    "known_weight": (10.0, "Sec. 5.1: ten times in the overlap"),
    "learning_rate": (2e-4, "official code: lr"),
    "generator_rate_factor": (10.0, "Sec. 5.1: ten times the discriminator's"),
    "decay_steps": (0, "official code: constant rate"),
    "generator optimizer": (("Adam", 2e-4, 0.5, 0.999, 1e-8), "official code: beta1; train sets ten times the rate"),
    "discriminator optimizer": (("Adam", 2e-4, 0.5, 0.999, 1e-8), "official code: beta1"),
    "generator norms": ({BATCH}, "official code: Torch's defaults"),
    "discriminator norms": ({BATCH}, "official code: Torch's defaults"),
    "generator slopes": ({0.2}, "official code: LeakyReLU(0.2)"),
    "discriminator slopes": ({0.2}, "official code: LeakyReLU(0.2)"),
}

DCGAN = {
    "total_steps": (25 * 202_599 // 64, "article's code: 25 epochs of CelebA"),
    "batch_size": (64, "article"),
    "image_px": (64, "article"),
    "crop": ("center108", "D9: carpedm20's, where the article aligns with OpenFace"),
    "flip": (False, "article"),
    "pairs": (False, "ours"),
    "variant": ("article", "article: 5x5 kernels"),
    "base_channels": (64, "article: gf_dim, df_dim"),
    "z_channels": (100, "article: z_dim"),
    "learning_rate": (2e-4, "article's code"),
    "beta1": (0.5, "article's code"),
    "generator_steps": (2, "article's code (D4)"),
    "decay_steps": (0, "article's code: constant rate"),
    "average_decay": (0.0, "article's code: none"),
    "generator optimizer": (("Adam", 2e-4, 0.5, 0.999, 1e-8), "article's code; TensorFlow's defaults"),
    "discriminator optimizer": (("Adam", 2e-4, 0.5, 0.999, 1e-8), "article's code; TensorFlow's defaults"),
    "generator norms": ({BATCH}, "article's code: decay 0.9, epsilon 1e-5"),
    "discriminator norms": ({BATCH}, "article's code: decay 0.9, epsilon 1e-5"),
}

SEARCH = {
    "optimizer": ("nesterov", "article"),
    "learning_rate": (0.01, "article's code: lr"),
    "momentum": (0.9, "article's code: momentum"),
    "perceptual_weight": (0.1, "article's code: lam"),
    "perceptual_form": ("non-saturating", "article's code (D2)"),
    "weight_window": (0, "article: all known pixels alike"),
    "steps": (1000, "article's code: nIter"),
    "restarts": (1, "article: one"),
    "z_start": ("uniform", "article: U(-1, 1)"),
    "statistics": ("batch", "article's code: train=True"),
    "leapfrog_steps": (100, "bamos: hmcL; of hmc only"),
    "step_size": (0.001, "bamos: hmcEps; of hmc only"),
    "beta": (0.2, "bamos: hmcBeta; of hmc only"),
    "anneal": (1.0, "bamos: hmcAnneal; of hmc only"),
}

TABLES = {
    "glcic.config": {
        "paper": GLCIC,
        "paper-celeba": changed(
            GLCIC,
            image_px=(160, "Sec. 4.4"),
            crop=("random160", "Sec. 4.4: shorter side 160 to 178, then a random square"),
            mask_px=((48, 96), "Sec. 4.4"),
            local_px=(96, "Sec. 4.4"),
            global_convs=(5, "Sec. 4.4: one layer less"),
        ),
        "article": changed(
            GLCIC,
            total_steps=((101 + 45) * GLCIC_ARTICLE_EPOCH, "article: 45 epochs of both after the first phase"),
            completion_steps=(101 * GLCIC_ARTICLE_EPOCH, "article: `pass_id <= 100`"),
            discriminator_steps=(0, "article: no such phase (D10)"),
            batch_size=(64, "article"),
            image_px=(128, "article"),
            crop=("squash", "article: resized to 128 x 128"),
            mask_px=((24, 48), "article"),
            local_px=(64, "article"),
            placement=("article", "article: the window first, the hole inside it"),
            output_activation=("tanh", "article"),
            fill=("grey", "article: zeros in [-1, 1]"),
            norm_momentum=(0.99, "article"),
            norm_epsilon=(1e-3, "article"),
            optimizer=("adam", "article"),
            learning_rate=(1e-3, "article"),
        )
        | {"completion norms": GLCIC_ARTICLE_NORM, "discriminator norms": GLCIC_ARTICLE_NORM}
        | {
            f"{name} optimizer": (("Adam", 1e-3, 0.9, 0.999, 1e-8), "article: Adam's defaults")
            for name in ("completion", "discriminator")
        },
    },
    "pix2pix.config": {
        "paper-facades": PIX2PIX,
        "paper-cityscapes": PIX2PIX,
        "colour": changed(
            PIX2PIX,
            direction=("grey-to-colour", "App. 6.2: colorization"),
            epochs=(6, "App. 6.2: about 6 epochs"),
            decay_epochs=(0, "ours: so few epochs have no second half"),
            batch_size=(4, "App. 6.2"),
            load_px=(256, "App. 6.2: no jitter"),
            flip=(False, "App. 6.2: no mirroring"),
        ),
        "article-scene2mask": PIX2PIX_ARTICLE,
        "article-mask2scene": changed(
            PIX2PIX_ARTICLE,
            direction=("label-to-photo", "article"),
            total_steps=(400_000, "article: 400,000 steps of label to photo"),
        ),
    },
    "deepfill.config": {
        "paper-places2": DEEPFILL,
        "paper-celebahq": changed(DEEPFILL, crop=("squash", "release: resized, no random crop")),
        "paper-guided": changed(DEEPFILL, guided=(True, "Sec. 3.5")),
        "article": DEEPFILL_ARTICLE,
    },
    "context_encoder.config": {
        "paper-center": CONTEXT_ENCODER,
        "paper-random-region": changed(
            CONTEXT_ENCODER,
            predicted_region=("whole", "official code: train_random.lua"),
            mask=("regions", "Sec. 3.3"),
            overlap_px=(0, "official code: no overlap"),
            known_weight=(1.0, "official code: useOverlapPred 0, a plain mean (D8)"),
        ),
        "article": changed(
            CONTEXT_ENCODER,
            total_steps=(100 * 14_900 // 64, "article: 100 epochs"),
            load_px=(0, "article: the shorter side to 128, the middle cut out (D10)"),
            flip=(False, "article"),
            conv_bias=(True, "article (D4)"),
            bottleneck_relu=(True, "article (D2)"),
            generator_rate_factor=(1.0, "article: both 2e-4 (D5)"),
        ),
    },
    "dcgan_completion.config": {
        "article": DCGAN,
        "paper": changed(
            DCGAN,
            flip=(True, "Yeh et al., Sec. 4: mirrored"),
            generator_steps=(1, "Radford et al. 2016: one of each"),
        ),
    },
    "dcgan_completion.search_settings": {
        "article": SEARCH,
        "bamos": changed(
            SEARCH,
            optimizer=("adam", "its revisions from May 2017"),
            statistics=("running", "its revisions from May 2017: is_training False"),
        ),
        "yeh2017": changed(
            SEARCH,
            optimizer=("adam", "Yeh et al., Sec. 4"),
            learning_rate=(0.01, "bamos: the paper gives none"),
            perceptual_weight=(0.003, "Yeh et al., Sec. 4: lambda"),
            perceptual_form=("minimax", "Yeh et al., Eq. 4: log(1 - D)"),
            weight_window=(7, "Yeh et al., Sec. 4: window"),
            steps=(1500, "Yeh et al., Sec. 4"),
            statistics=("running", "ours: the paper does not say"),
        ),
        "authors-repo": changed(
            SEARCH,
            learning_rate=(0.0003, "moodoki: default"),
            perceptual_weight=(0.2, "moodoki: default"),
            weight_window=(15, "moodoki: default"),
            steps=(3000, "moodoki: default"),
            z_start=("normal", "moodoki: N(0, 1)"),
        ),
    },
}


def presets_of(module: str) -> dict:
    """The presets of a module that reproduce something; those of config.py stand in pairs with their help."""
    found = importlib.import_module(module).PRESETS
    return {name: each[1] if isinstance(each, tuple) else each for name, each in found.items() if name not in OURS}


MODULES = sorted({f"{paper}.config" for paper in PAPERS} | TABLES.keys())


@pytest.mark.parametrize("module", MODULES)
def test_every_preset_has_a_table(module):
    assert TABLES.get(module, {}).keys() == presets_of(module).keys(), f"add the presets' constants to TABLES: {module}"


@pytest.mark.parametrize(("module", "preset"), [(module, name) for module in MODULES for name in presets_of(module)])
def test_the_constants_of_a_preset(module, preset):
    """All fields but the machinery of a run and paths, and what the networks and optimisers were built with."""
    config = presets_of(module)[preset]
    fields = [field.name for field in dataclasses.fields(config) if field.name not in MECHANICS]
    values = {name: getattr(config, name) for name in fields if not name.startswith("init_") and name[-4:] != "_dir"}
    table = TABLES[module][preset]
    if module.endswith(".config"):
        values |= built(module.removesuffix(".config"), config, table)
    for name in sorted(values.keys() | table.keys()):
        assert name in table, f"{preset}: add {name} to the table, with its source; here it is {values[name]}"
        value, source = table[name]
        assert name in values and values[name] == value, (
            f"{preset}: {name} is {values.get(name)}, not {value} [{source}]"
        )


def built(paper: str, config, table: dict) -> dict:
    """What a preset's networks and optimisers, built narrow, have of: optimiser, norms, dropouts, slopes."""
    fields = {field.name for field in dataclasses.fields(config)}
    narrow = dataclasses.replace(config, **{name: NARROW[name] for name in NARROW.keys() & fields})
    networks, optimizers = importlib.import_module(f"{paper}.train").build(narrow)
    found = {}
    for name, network in networks.items():
        found[f"{name} optimizer"] = optimizer_constants(optimizers[name])
        layers = network.sublayers()
        norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm2D | nn.InstanceNorm2D)]
        found[f"{name} norms"] = {kind_and_constants(layer) for layer in norms}
        found[f"{name} dropouts"] = {layer.p for layer in layers if isinstance(layer, nn.Dropout)}
        found[f"{name} slopes"] = {layer._negative_slope for layer in layers if isinstance(layer, nn.LeakyReLU)}
    return {row: value for row, value in found.items() if value or row in table}


def optimizer_constants(optimizer) -> tuple:
    kind = type(optimizer).__name__
    names = {"Adam": ("_beta1", "_beta2", "_epsilon"), "Adadelta": ("_rho", "_epsilon")}[kind]
    return (kind, optimizer.get_lr(), *(getattr(optimizer, name) for name in names))


def kind_and_constants(norm) -> tuple:
    kind = "BatchNorm2D" if isinstance(norm, nn.BatchNorm2D) else "InstanceNorm2D"
    return kind, norm._momentum if kind == "BatchNorm2D" else None, norm._epsilon
