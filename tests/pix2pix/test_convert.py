"""Published weights brought over compute what their own networks compute.

`fixtures/reference.npz` holds the names, shapes and outputs of the published networks, written in PyTorch from their
descriptions (`fixtures/reference.py`, at a few base channels). The tests fill the same names from the same seed, write
them into files of the published formats, convert, and compare on the same images.
"""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from common.checkpoint.weights import read_weights, save_weights
from data.synthetic import write_streets
from pix2pix import convert, infer
from pix2pix import train as pix2pix_train
from pix2pix.model import PatchDiscriminator
from tests import helpers
from tests.helpers import module

import paddle
from paddle import nn

FIXTURES = Path(__file__).parent / "fixtures"


networks = module(FIXTURES / "published_files.py")
files = networks.files  # GLCIC's, which knows the formats
REFERENCE = dict(np.load(FIXTURES / "reference.npz"))


def published(name: str) -> dict[str, np.ndarray]:
    """The tensors of a reference network under their published names."""
    return networks.fill(name, json.loads(str(REFERENCE[f"{name} shapes"])))


def torch_file(path: Path, tensors: dict) -> Path:
    """A torch.save'd state dict."""
    return files.write_zip(path, *files.state_dict(tensors))


def paddle_file(path: Path, content: dict) -> Path:
    """What paddle.save writes."""
    path.write_bytes(pickle.dumps(content, 2))
    return path


def as_paddle(tensors: dict) -> dict:
    """A state dict of PaddleGAN: batch normalisation's statistics have Paddle's names, and no counter."""
    paddle_names = {"running_mean": "_mean", "running_var": "_variance"}
    renamed = {}
    for name, value in tensors.items():
        layer, _, part = name.rpartition(".")
        if part != "num_batches_tracked":
            renamed[f"{layer}.{paddle_names.get(part, part)}"] = value
    return renamed


def run(*arguments) -> list[Path]:
    return convert.main([str(argument) for argument in arguments])


def scene(name: str, channels: int):
    """The images that the reference network saw."""
    side = REFERENCE[f"{name} side"].tolist()
    return paddle.to_tensor(networks.see(name, side if isinstance(side, int) else tuple(side), channels))


def set_statistics(network, statistics: str) -> None:
    """batch: training without dropout; running: as for one who asks for running averages."""
    network.train() if statistics == "batch" else network.eval()
    for layer in network.sublayers():
        if isinstance(layer, nn.Dropout):
            layer.eval()


def agrees(got, name: str, statistics: str) -> None:
    wanted = REFERENCE[f"{name} {statistics}"]
    np.testing.assert_allclose(networks.sample(got.numpy()), wanted, rtol=0, atol=1e-5)


def same_images(weights: Path, name: str, *kinds: str):
    """The generator paints what the reference paints (the running averages first: training moves them)."""
    network = infer.load(weights)
    for statistics in kinds or ("running", "batch"):
        set_statistics(network, statistics)
        with paddle.no_grad():
            agrees(network(scene(name, network.arguments["source_channels"])), name, statistics)
    return network


def load_discriminator(weights: Path) -> PatchDiscriminator:
    tensors, metadata = read_weights(weights)
    network = PatchDiscriminator(**metadata["discriminator"])
    network.set_state_dict({key.removeprefix("discriminator."): value for key, value in tensors.items()})
    return network


def same_judgement(weights: Path, name: str, *kinds: str) -> PatchDiscriminator:
    """The discriminator's logits are the reference's."""
    network = load_discriminator(weights)
    for statistics in kinds or ("running", "batch"):
        set_statistics(network, statistics)
        seen = scene(name, 6)
        with paddle.no_grad():
            got = network(seen[:, :3], seen[:, 3:]) if network.conditional else network(None, seen)
        agrees(got, name, statistics)
    return network


# ---- PyTorch


@pytest.mark.parametrize("name", ["u5", "u6", "u7", "u8"])
def test_unet(tmp_path, capsys, name):
    (written,) = run(torch_file(tmp_path / "latest_net_G.pth", published(name)), tmp_path / "g.safetensors")
    network = same_images(written, name)
    levels = int(name[1])
    assert network.arguments == {
        "kind": "unet", "levels": levels, "base_channels": {5: 4, 6: 3, 7: 2, 8: 2}[levels], "skips": True,
        "norm": "batch", "dropout": "pytorch", "bare_bias": False, "bottleneck_norm": False,
        "source_channels": 3, "target_channels": 3,
    }  # fmt: skip
    metadata = network.metadata
    assert (metadata["paper"], metadata["preset"], metadata["step"]) == ("pix2pix", "published", 0)
    assert metadata["image_px"] == (128 if levels == 7 else 256) and len(metadata["source_sha256"]) == 64
    assert (
        metadata["source"] == "junyanz/pytorch-CycleGAN-and-pix2pix, latest_net_G.pth" and "BSD" in metadata["licence"]
    )
    shown = capsys.readouterr().out
    assert "left out: num_batches_tracked" in shown and f"python -m pix2pix.infer --weights {written}" in shown


def test_unet_without_skips(tmp_path):
    (written,) = run(torch_file(tmp_path / "a.pth", published("u6 no skips")), tmp_path / "g.safetensors")
    assert same_images(written, "u6 no skips").arguments["skips"] is False


def test_unet_without_normalisation(tmp_path):
    (written,) = run(torch_file(tmp_path / "a.pth", published("u5 none")), tmp_path / "g.safetensors")
    assert same_images(written, "u5 none", "batch").arguments["norm"] == "none"


def test_instance_normalisation(tmp_path):
    """No tensors of its own, but biases before it; the image's own statistics always."""
    (written,) = run(torch_file(tmp_path / "a.pth", published("u6 instance")), tmp_path / "g.safetensors")
    assert same_images(written, "u6 instance").arguments["norm"] == "instance"


@pytest.mark.parametrize("parallel", [False, True])
def test_old_instance_normalisation(tmp_path, parallel):
    """Of PyTorch before 0.4: unused running statistics, a legacy pickle, no counters; names of a DataParallel."""
    tensors = {name: value for name, value in published("u7 old instance").items() if "num_batches" not in name}
    assert sum(name.endswith("running_var") for name in tensors) == 11  # levels 2 to 6 on the way down, 6 on the way up
    tensors = {("module." if parallel else "") + name: value for name, value in tensors.items()}
    old = files.write_legacy(tmp_path / "a.pth", *files.state_dict(tensors, legacy=True))
    (written,) = run(old, tmp_path / "g.safetensors")
    network = same_images(written, "u7 old instance", "batch")
    assert network.arguments["norm"] == "instance"
    network.eval()
    with paddle.no_grad():
        agrees(network(scene("u7 old instance", 3)), "u7 old instance", "batch")  # the same without training


@pytest.mark.parametrize(
    "name, blocks, norm, dropout",
    [("r9", 9, "batch", "pytorch"), ("r6", 6, "batch", "none"), ("r6 instance", 6, "instance", "pytorch")],
)
def test_resnet(tmp_path, name, blocks, norm, dropout):
    (written,) = run(torch_file(tmp_path / "a.pth", published(name)), tmp_path / "g.safetensors")
    network = same_images(written, name)
    assert network.arguments == {
        "kind": "resnet", "blocks": blocks, "base_channels": 4, "norm": norm, "dropout": dropout,
        "upsample": "output-padding", "source_channels": 3, "target_channels": 3,
    }  # fmt: skip
    assert sum(isinstance(layer, nn.Dropout) for layer in network.sublayers()) == (blocks if dropout != "none" else 0)
    assert network.metadata["image_px"] == 256


@pytest.mark.parametrize("layers, patch_px", [(0, 1), (1, 16), (2, 34), (3, 70), (4, 142), (5, 286)])
def test_discriminator(tmp_path, layers, patch_px):
    (written,) = run(torch_file(tmp_path / "latest_net_D.pth", published(f"d{layers}")), tmp_path / "d.safetensors")
    assert written.name == "d.safetensors"
    assert same_judgement(written, f"d{layers}").arguments == {
        "patch_px": patch_px, "base_channels": 4, "norm": "batch", "first_norm": False, "conditional": True,
        "source_channels": 3, "target_channels": 3,
    }  # fmt: skip


@pytest.mark.parametrize("name", ["d0 instance", "d3 instance"])
def test_discriminator_with_instance_normalisation(tmp_path, name):
    (written,) = run(torch_file(tmp_path / "a.pth", published(name)), tmp_path / "d.safetensors")
    assert same_judgement(written, name).arguments["norm"] == "instance"


def test_unconditional_discriminator(tmp_path):
    (written,) = run(torch_file(tmp_path / "a.pth", published("d3 alone")), tmp_path / "d.safetensors")
    assert same_judgement(written, "d3 alone").conditional is False


@pytest.mark.medium
def test_parameter_counts(tmp_path, capsys):
    """Spec 1.4 and 1.5, at full width."""
    for name, width, count in (
        ("r9", 64, "generator, 11,383,427"),
        ("r6 instance", 64, "generator, 7,837,699"),
        ("d3", 64, "discriminator, 2,768,705"),
        ("d0", 64, "discriminator, 9,024"),
        ("d1", 64, "discriminator, 139,585"),
    ):
        shapes = json.loads(str(REFERENCE[f"{name} shapes"]))
        ends = {3, 6, 1} if name[0] == "d" else {3}  # images, logits; and kernels, which come after the channels
        wide = {
            key: [side * width // 4 if axis < 2 and side not in ends else side for axis, side in enumerate(shape)]
            for key, shape in shapes.items()
        }
        tensors = {key: np.zeros(shape, np.float32) for key, shape in wide.items()}
        run(torch_file(tmp_path / "a.pth", tensors), tmp_path / "out.safetensors")
        assert f"{count} parameters" in capsys.readouterr().out


# ---- PaddleGAN


@pytest.mark.parametrize("generator", ["u8", "r9"])
def test_paddlegan(tmp_path, capsys, generator):
    """A checkpoint of training: both networks and optimisers. Its discriminator has no bias in the first layer."""
    moments = {"conv2d_0.w_0_moment1_0": np.ones(3, np.float32), "LR_Scheduler": {"last_epoch": 3, "last_lr": 2e-4}}
    content = {
        "epoch": 200,
        "netG": {**as_paddle(published(generator)), "StructuredToParameterName@@": {"a": "conv2d_0.w_0"}},
        "netD": as_paddle(published("d3 no first bias")),
        "optimG": moments,
        "optimD": moments,
    }
    written = run(paddle_file(tmp_path / "Pix2Pix_cityscapes.pdparams", content), tmp_path / "p.safetensors")
    assert [path.name for path in written] == ["p.safetensors", "p-discriminator.safetensors"]
    network = same_images(written[0], generator)
    assert network.arguments["dropout"] == ("none" if generator == "u8" else "pytorch")
    assert network.metadata["direction"] == "label-to-photo" and network.metadata["licence"] == "Apache-2.0"
    judge = same_judgement(written[1], "d3 no first bias")
    assert judge.convs[0].conv.bias.numpy().tolist() == [0, 0, 0, 0]
    shown = capsys.readouterr().out
    assert "ours is set to 0" in shown and "left out: w_0_moment1_0" in shown


def test_paddlegan_extracted(tmp_path):
    """What its extract_weight leaves: the state dict of one network."""
    (written,) = run(paddle_file(tmp_path / "a.pdparams", as_paddle(published("u8"))), tmp_path / "g.safetensors")
    assert same_images(written, "u8").metadata["source"].startswith("PaddlePaddle/PaddleGAN")
    (written,) = run(paddle_file(tmp_path / "a.pkl", as_paddle(published("d3"))), tmp_path / "d.safetensors")
    same_judgement(written, "d3")


@pytest.mark.parametrize("name", ["u6 instance", "r6 instance", "d3 instance"])
def test_paddlegan_instance_normalisation(tmp_path, name):
    """Its scales of 1 and shifts of 0 are never trained: the same as no scales and no shifts."""
    tensors = {}
    for key, value in published(name).items():
        tensors[key] = value
        layer, _, part = key.rpartition(".")
        if part == "bias":  # every convolution has one; the normalisation comes next
            norm = f"{layer.rpartition('.')[0]}.{int(layer.rpartition('.')[2]) + 1}"
            tensors |= {f"{norm}.scale": np.ones_like(value), f"{norm}.bias": np.zeros_like(value)}
    tensors = {key: value for key, value in tensors.items() if not no_normalisation(key, name)}
    written = run(paddle_file(tmp_path / "a.pdparams", tensors), tmp_path / "g.safetensors")[0]
    network = (same_judgement if name[0] == "d" else same_images)(written, name)
    assert network.arguments["norm"] == "instance"


def no_normalisation(key: str, name: str) -> bool:
    """Whether a name comes after a convolution that no normalisation follows."""
    deepest = "model.model.1" + ".model.3" * 4 + ".model.2."
    after = {"u": ("model.model.1.scale", "model.model.1.bias", "model.model.4.", deepest), "r": ("model.24.",)}
    return key.startswith(after.get(name[0], ("model.1.", "model.12.")))


def test_trained_instance_normalisation(tmp_path):
    """Scales and shifts that were trained stay; the biases before them change nothing."""
    tensors = {}
    for name, value in published("r2 affine").items():
        tensors[name.replace("weight", "scale") if value.ndim == 1 else name] = value
    (written,) = run(paddle_file(tmp_path / "a.pdparams", tensors), tmp_path / "g.safetensors")
    assert same_images(written, "r2 affine").arguments["norm"] == "instance-affine"
    scales = {name: value for name, value in tensors.items() if name.endswith(".scale")}
    ones = {name: np.ones_like(value) for name, value in scales.items()}
    zeros = {name.replace("scale", "bias"): np.zeros_like(value) for name, value in scales.items()}
    for half in (tensors | ones, tensors | zeros):  # one of both was trained
        (written,) = run(paddle_file(tmp_path / "a.pdparams", half), tmp_path / "g.safetensors")
        assert read_weights(written)[1]["generator"]["norm"] == "instance-affine"


# ---- Torch7


def authors_t7(path: Path, name: str, tensors: dict | None = None, **options) -> Path:
    """The authors' file: the graph of the network."""
    tensors = {key: x for key, x in (tensors or published(name)).items() if "num_batches" not in key}
    return networks.write(path, networks.unet(tensors, int(name[1]), "no skips" not in name, **options))


@pytest.mark.parametrize("name", ["t8", "t7", "t8 no skips", "t8 first code", "t7 colour"])
def test_torch7(tmp_path, capsys, name):
    """BGR, decoder first, and a bias everywhere: before a normalisation the running average must take it over."""
    written = run(authors_t7(tmp_path / "a.t7", name), tmp_path / "g.safetensors")
    network = same_images(written[0], name)
    arguments = network.arguments
    assert (arguments["levels"], arguments["base_channels"], arguments["dropout"]) == (int(name[1]), 2, "paper")
    assert arguments["skips"] is ("no skips" not in name)
    assert (arguments["bare_bias"], arguments["bottleneck_norm"]) == (True, name == "t8 first code")
    dropped = [step for step, block in enumerate(network.up) if "dropout" in dict(block.named_children())]
    assert dropped == [0, 1, 2]
    shown = capsys.readouterr().out
    assert "left out: gradBias, gradWeight" in shown and ("BGR" in shown) is (name != "t7 colour")
    assert network.metadata["direction"] == ("grey-to-colour" if name == "t7 colour" else "label-to-photo")


@pytest.mark.parametrize("lists", [("modules",), ("forwardnodes",)])
def test_torch7_graphs_of_other_versions(tmp_path, lists):
    """Old versions of nngraph keep no list of layers beside the graph's nodes; a plain container has nothing else."""
    same_images(run(authors_t7(tmp_path / "a.t7", "t7", lists=lists), tmp_path / "g.safetensors")[0], "t7")


def test_torch7_normalised_bottleneck_of_one_picture(tmp_path):
    """One number per channel: less its mean it is nothing, whatever the image, and the shift remains."""
    (written,) = run(authors_t7(tmp_path / "a.t7", "t8 first code"), tmp_path / "g.safetensors")
    network, found = infer.load(written), []
    network.down[-1].register_forward_post_hook(lambda _layer, _inputs, output: found.append(output.numpy().ravel()))
    infer.translate(network, np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8))
    np.testing.assert_array_equal(found, [published("t8 first code")["e8_norm.bias"]])


def test_torch7_of_other_networks(tmp_path, capsys):
    """A normalisation too many or too few; the authors' discriminators were never published."""
    tensors = published("t8")
    more = {key.replace("e7_norm", "e1_norm"): value for key, value in tensors.items() if "e7_norm" in key}
    refused(authors_t7(tmp_path / "a.t7", "t8", tensors | more), "down.0.norm.weight is not part", capsys)
    fewer = {key: value for key, value in tensors.items() if "d7_norm" not in key}
    refused(authors_t7(tmp_path / "a.t7", "t8", fewer), "up.6.norm.weight is missing", capsys)
    layers = [
        ("nn.SpatialConvolution", {"weight": np.zeros((4, 4, 4, 4), np.float32), "bias": np.zeros(4, np.float32)})
        for _ in range(5)
    ]
    sequence = files.write_torch7(tmp_path / "d.t7", ("nn.Sequential", {"modules": layers}))
    refused(sequence, "5 convolutions in a row", capsys)
    refused(files.write_torch7(tmp_path / "e.t7", {"mean": [1, 2, 3]}), "none of the published pix2pix", capsys)


# ---- facts


@pytest.mark.parametrize(
    "path, direction, side",
    [
        ("edges2shoes.pth", "label-to-photo", "right"),
        ("edges2handbags.pth", "label-to-photo", "right"),
        ("sat2map.pth", "photo-to-label", "left"),
        ("map2sat_pretrained/latest_net_G.pth", "label-to-photo", "left"),
        ("facades_label2photo_pretrained/latest_net_G.pth", "label-to-photo", "left"),
        ("facades_label2image/latest_net_G.pth", "label-to-photo", "left"),
        ("cityscapes_label2image.pth", "label-to-photo", "left"),
        ("cityscapes_image2label.pth", "photo-to-label", "left"),
        ("day2night.pth", "photo-to-label", "left"),
        ("Pix2Pix_cityscapes.pdparams", "label-to-photo", "left"),
        ("Pixel2Pixel_facades.pdparams", "label-to-photo", "left"),
        ("mine/latest_net_G.pth", "label-to-photo", None),
    ],
)
def test_direction_from_the_name(tmp_path, capsys, path, direction, side):
    target = tmp_path / path
    target.parent.mkdir(exist_ok=True)
    (written,) = run(torch_file(target, published("u5")), tmp_path / "g.safetensors")
    metadata = read_weights(written)[1]
    assert (metadata["direction"], metadata.get("photo_side")) == (direction, side)
    told = capsys.readouterr().out
    assert ("assumed: direction" in told) is ("assumed: the photo is the left half" in told) is (side is None)
    dropout = "none" if path.endswith(".pdparams") else "pytorch"
    assert f"assumed: dropout {dropout}, as in its code" in told and "assumed: trained on images of 256 px" in told
    assert f"--direction {direction} " in told and ("--photo-side right" in told.split("next:")[-1]) is (
        side == "right"
    )


def test_given_facts(tmp_path, capsys):
    source = torch_file(tmp_path / "sat2map.pth", published("u5"))
    flags = ["--direction", "label-to-photo", "--image-px", 512, "--dropout", "none"]
    metadata = read_weights(run(source, tmp_path / "g.safetensors", *flags)[0])[1]
    assert (metadata["direction"], metadata["image_px"], metadata["generator"]["dropout"]) == (
        "label-to-photo",
        512,
        "none",
    )
    told = capsys.readouterr().out
    assert "label-to-photo (as given)" in told and "assumed" not in told


def test_grey_to_colour(tmp_path, capsys):
    """One channel into two can be nothing else; what it cannot be is refused, whoever says so."""
    grey = torch_file(tmp_path / "sat2map.pth", published("u5 colour"))
    (written,) = run(grey, tmp_path / "g.safetensors")
    assert same_images(written, "u5 colour").metadata["direction"] == "grey-to-colour"
    refused(grey, "1 channels into 2, which is not photo-to-label", capsys, "--direction", "photo-to-label")
    colour = torch_file(tmp_path / "a.pth", published("u5"))
    refused(colour, "3 channels into 3, which is not grey-to-colour", capsys, "--direction", "grey-to-colour")
    refused(torch_file(tmp_path / "d.pth", published("d3")), "6 channels", capsys, "--direction", "grey-to-colour")
    odd = published("u5")
    odd["model.model.0.weight"] = odd["model.model.0.weight"].repeat(2, 1)
    refused(torch_file(tmp_path / "a.pth", odd), "6 channels into 3, which is not one of", capsys)


# ---- refusals


def refused(published: Path, text: str, capsys, *flags, output: str = "out.safetensors"):
    """Exit status 2, one line that says `text`, and nothing written."""
    assert text in helpers.refused(capsys, convert.main, published, published.parent / output, *flags) + "\n"
    assert not (published.parent / "out.safetensors").exists()


INNER = "model.model.1.model.3.model"


@pytest.mark.parametrize(
    "name, missing",
    [
        ("u6", f"{INNER}.1.weight"),
        ("u6", f"{INNER}.6.running_mean"),
        ("u6", "model.model.1.model.2.running_var"),
        ("u6", "model.model.3.bias"),
        ("u6", "model.model.3.weight"),
        ("u6 instance", f"{INNER}.5.bias"),
        ("u6 instance", "model.model.0.bias"),
        ("r9", "model.19.weight"),
        ("r9", "model.26.bias"),
        ("r9", "model.14.conv_block.7.bias"),
        ("r9", "model.14.conv_block.1.weight"),
        ("r6", "model.13.conv_block.5.weight"),
        ("d3", "model.5.weight"),
        ("d3", "model.11.bias"),
        ("d3", "model.0.bias"),
        ("d3", "model.6.running_mean"),
        ("d0", "net.5.weight"),
    ],
)
def test_a_missing_tensor(tmp_path, capsys, name, missing):
    tensors = published(name)
    del tensors[missing]
    refused(torch_file(tmp_path / "a.pth", tensors), f"lacks the tensor {missing}\n", capsys)


def test_strict(tmp_path, capsys):
    """A tensor too many or of another shape is named."""
    tensors, small = published("u6"), np.zeros(3, np.float32)
    refused(torch_file(tmp_path / "a.pth", {**tensors, "model.extra.weight": small}), "model.extra.weight", capsys)
    refused(torch_file(tmp_path / "a.pth", {**tensors, "model.model.0.bias": small + 1}), "model.model.0.bias", capsys)
    wide = {**tensors, f"{INNER}.1.weight": np.zeros((12, 6, 3, 3), np.float32)}
    refused(torch_file(tmp_path / "a.pth", wide), "down.2.conv.weight has shape [12, 6, 3, 3]", capsys)
    bent = {**tensors, f"{INNER}.1.bias": np.zeros(5, np.float32)}
    refused(torch_file(tmp_path / "a.pth", bent), f"{INNER}.1.bias is misshapen: [5]", capsys)
    flat = {**tensors, "model.model.0.weight": small}
    refused(
        torch_file(tmp_path / "a.pth", flat), "model.model.0.weight has shape [3], its place asks 4 dimensions", capsys
    )
    judge = published("d5")
    for part in ("weight", "bias", "running_mean", "running_var"):
        judge[f"model.18.{part}"] = judge[f"model.15.{part}"]
    deeper = {**judge, "model.17.weight": judge["model.14.weight"], "model.20.weight": judge["model.17.weight"]}
    refused(torch_file(tmp_path / "a.pth", deeper), "a discriminator of 6 layers", capsys)
    both = {"netG": as_paddle(published("u6")), "netD": {**as_paddle(published("d3")), "model.12.weight": small}}
    refused(paddle_file(tmp_path / "a.pdparams", both), "model.12.weight", capsys)


def test_a_bias_before_a_normalisation(tmp_path):
    """Not the official code's, but no reason to refuse: the running average takes it over."""
    tensors = published("u6")
    shift = np.linspace(-1, 1, 12).astype(np.float32)
    tensors |= {f"{INNER}.1.bias": shift, f"{INNER}.2.running_mean": tensors[f"{INNER}.2.running_mean"] + shift}
    same_images(run(torch_file(tmp_path / "a.pth", tensors), tmp_path / "g.safetensors")[0], "u6")


def test_files_of_other_networks(tmp_path, capsys):
    other = torch_file(tmp_path / "other.pth", {"layer1.weight": np.zeros((2, 3), np.float32)})
    refused(other, "none of the published pix2pix networks", capsys)
    refused(other, "layer1.weight", capsys)
    refused(torch_file(tmp_path / "empty.pth", {}), "none at all", capsys)
    refused(tmp_path / "nothing.pth", "cannot read", capsys)
    ours = save_weights(tmp_path / "ours.safetensors", {"discriminator": PatchDiscriminator(70, 4)}, {"paper": "x"})
    refused(ours, "none of the published pix2pix networks", capsys)
    cyclegan = {f"netG_A.{name}": value for name, value in published("r6").items()}
    refused(torch_file(tmp_path / "cyclegan.pth", cyclegan), "netG_A.model.1.weight", capsys)


def test_flags_that_cannot_work(tmp_path, capsys):
    source = torch_file(tmp_path / "a.pth", published("u6"))
    refused(source, "ends in .safetensors", capsys, output="out.pdparams")
    refused(source, "--image-px 100 is no multiple of 64", capsys, "--image-px", 100)
    refused(source, "--image-px 0", capsys, "--image-px", 0)
    residual = torch_file(tmp_path / "r.pth", published("r6"))
    refused(residual, "--dropout paper is for a U-Net", capsys, "--dropout", "paper")
    (tmp_path / "file").write_text("")
    refused(source, "cannot write", capsys, output="file/out.safetensors")


# ---- folders, and what is printed to be done next


def test_a_folder_with_one_file(tmp_path, capsys):
    """As the official script keeps pretrained weights; the folder's name tells the direction."""
    folder = tmp_path / "sat2map_pretrained"
    folder.mkdir()
    torch_file(folder / "latest_net_G.pth", published("u5"))
    (written,) = run(folder, tmp_path / "g.safetensors")
    assert same_images(written, "u5").metadata["direction"] == "photo-to-label"
    torch_file(folder / "latest_net_D.pth", published("d3"))
    with pytest.raises(SystemExit):
        run(folder, tmp_path / "h.safetensors")
    assert "2 weights files (latest_net_D.pth, latest_net_G.pth)" in capsys.readouterr().err


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    return write_streets(tmp_path_factory.mktemp("streets") / "drawn", count=20)


@pytest.mark.medium
@pytest.mark.parametrize(
    ("name", "tensors", "verbs"),
    [
        ("edges2shoes.pth", lambda: published("u5"), ["infer", "train"]),
        ("a.pth", lambda: published("u5 colour"), ["infer", "train"]),
        ("a.pth", lambda: published("u7"), ["infer", "train"]),
        ("d.pth", lambda: published("d2"), ["train"]),
        ("d.pth", lambda: published("d3 alone"), ["train"]),
    ],
    ids=["photo on the right", "colour", "128 px", "patches of 34 px", "unconditional"],
)
def test_next_commands_work(tmp_path, capsys, monkeypatch, follow, streets, own_files, name, tensors, verbs):
    """From a path with a space; for a generator of 5 levels the side is cut, or its one step takes minutes."""
    (tmp_path / "my files").mkdir()
    run(torch_file(tmp_path / "my files" / name, tensors()), tmp_path / "my files/out.safetensors")
    for constant in ("PREVIEW_PAIRS", "VALIDATION_PAIRS", "FINAL_PAIRS"):
        monkeypatch.setattr(pix2pix_train, constant, 1)
    told = capsys.readouterr().out
    small = ["--base-channels", "2", "--discriminator-channels", "2", "--levels", "5"]
    small += ["--image-px", "64", "--load-px", "0" if "colour" in told else "72"] if "128 px" not in told else []
    commands = follow(told, *small, DIR=own_files["DIR"] if "train colour" in told else streets)
    assert [command[2] for command in commands] == [f"pix2pix.{verb}" for verb in verbs]
    assert json.loads((tmp_path / f"run{len(verbs) - 1}/options.json").read_text())["total_steps"] == 1
