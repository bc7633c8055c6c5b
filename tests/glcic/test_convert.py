"""Published weights brought over compute what their own networks compute.

`fixtures/reference.npz` holds the outputs of the published networks, written from their descriptions in PyTorch, at 8
base channels and with the weights and images that `fixtures/published_files.py` draws from a seed (completions:
every seventh pixel). The tests write the same weights into files of the published formats, convert, and compare.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from common.checkpoint.weights import save_weights
from glcic import convert, infer
from glcic import train as glcic_train
from glcic.config import PAPER
from glcic.model import CompletionNetwork
from glcic.train import load_discriminator
from tests import helpers

import paddle

FIXTURES = Path(__file__).parent / "fixtures"
files = helpers.module(FIXTURES / "published_files.py")

REFERENCE = dict(np.load(FIXTURES / "reference.npz"))
SIDES = {"image": (96, 80), "whole 256": 256, "patch 128": 128, "whole 160": 160, "patch 96": 96}
SCENE = files.scene(10, SIDES)
OTENIM_MEAN = ["0.52", "0.41", "0.36"]


def torch_file(path: Path, tensors: dict, **beside: bytes) -> Path:
    """A torch.save'd state dict, alone or as the entry `state_dict` with others beside it."""
    content, storages = files.state_dict(tensors)
    return files.write_zip(path, files.table({**beside, "state_dict": content}) if beside else content, storages)


def authors_t7(path: Path, tensors: dict, mean=(0.4560, 0.4472, 0.4155)) -> Path:
    """The authors' file: 50 modules with Torch7's working tensors, and the mean."""
    buffer = np.ones(3, np.float32)
    modules = []
    for number in range(50):
        own = {name.partition(".")[2]: array for name, array in tensors.items() if name.startswith(f"{number}.")}
        working = {"output": buffer, "gradInput": buffer} | ({"gradWeight": buffer, "gradBias": buffer} if own else {})
        modules.append((f"nn.Module{number}", {**own, **working, "train": 0}))
    network = ("nn.Sequential", {"modules": modules, "output": buffer, "gradInput": buffer})
    return files.write_torch7(path, {"model": network, "mean": list(mean)})


def run(*arguments) -> list[Path]:
    return convert.main([str(argument) for argument in arguments])


def complete(weights: Path) -> np.ndarray:
    """Every seventh pixel of the completed scene, in [0, 1]."""
    network = infer.load(weights)
    with paddle.no_grad():
        image, mask = paddle.to_tensor(SCENE["image"] * 2 - 1), paddle.to_tensor(SCENE["image hole"])
        return network(image, mask).numpy()[:, :, ::7, ::7] / 2 + 0.5


def judge(weights: Path, whole_px: int, patch_px: int) -> np.ndarray:
    """The logits of the scene, by the discriminators as `train` takes them over."""
    network = load_discriminator(weights, replace(PAPER, image_px=whole_px, local_px=patch_px))
    network.eval()
    images = [paddle.to_tensor(SCENE[name] * 2 - 1) for name in (f"whole {whole_px}", f"patch {patch_px}")]
    with paddle.no_grad():
        return network(*images).numpy()


def close(got, wanted):
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


# ---- the authors' weights, as .t7 and as both ports


def test_authors(tmp_path, capsys):
    published = authors_t7(tmp_path / "completionnet_places2.t7", files.authors())
    (written,) = run(published, tmp_path / "places2.safetensors")
    close(complete(written), REFERENCE["authors"])
    metadata = infer.load(written).metadata
    assert (metadata["paper"], metadata["preset"], metadata["step"]) == ("glcic", "converted", 0)
    assert (metadata["image_px"], metadata["crop"], metadata["largest_hole"]) == (256, "random", 0.5)
    assert "completionnet_places2.t7" in metadata["source"] and "NC" in metadata["licence"]
    assert len(metadata["source_sha256"]) == 64
    shown = capsys.readouterr().out
    assert "98 tensors" in shown and "0.4560 0.4472 0.4155 (from the file)" in shown  # 17 x 2 and 16 x 4
    assert f"python -m glcic.infer --weights {written}" in shown


def test_authors_celeba(tmp_path):
    mean = (0.5, 0.25, 0.75)
    published = authors_t7(tmp_path / "completionnet_celeba.t7", files.authors(), mean)
    network = infer.load(run(published, tmp_path / "celeba.safetensors")[0])
    assert (network.metadata["image_px"], network.metadata["crop"]) == (160, "random160")
    close(network.mean_colour.numpy().ravel(), [0, -0.5, 0.5])


@pytest.mark.parametrize("port", ["ganonymizer", "yangwangx"])
def test_ports_of_the_authors_weights(tmp_path, port):
    tensors = files.authors()
    if port == "ganonymizer":
        published = torch_file(tmp_path / "completionnet_places2.pth", tensors)
    else:  # {"model": state dict}, each row of Table 1 a sequence of its own
        new = {
            old: ours
            for pair in zip(files.AUTHORS, files.YANGWANGX, strict=True)
            for old, ours in zip(*pair, strict=True)
        }
        renamed = {new[name.split(".")[0]] + "." + name.split(".")[1]: array for name, array in tensors.items()}
        content, storages = files.state_dict(renamed, legacy=True)
        published = files.write_legacy(tmp_path / "places2.pt", files.table({"model": content}), storages)
    close(complete(run(published, tmp_path / "out.safetensors")[0]), REFERENCE["authors"])


# ---- otenim


def test_otenim_completion(tmp_path, capsys):
    published = torch_file(tmp_path / "model_cn", files.otenim_cn())
    (written,) = run(published, tmp_path / "cn.safetensors", "--mean", *OTENIM_MEAN)
    close(complete(written), REFERENCE["otenim_cn"])
    metadata = infer.load(written).metadata
    assert (metadata["image_px"], metadata["largest_hole"], metadata["licence"]) == (160, 0.6, "MIT")
    assert "left out: num_batches_tracked" in capsys.readouterr().out


@pytest.mark.parametrize("parallel", [False, True])
def test_otenim_mean_from_its_config(tmp_path, parallel):
    """config.json lies beside the weights, or is named; weights of a DataParallel run start with `module.`."""
    (tmp_path / "config.json").write_text(json.dumps({"mpv": [float(value) for value in OTENIM_MEAN], "bsize": 96}))
    tensors = {("module." if parallel else "") + name: array for name, array in files.otenim_cn().items()}
    folder = tmp_path / "phase_3"
    folder.mkdir()
    published = torch_file((folder if parallel else tmp_path) / "model_cn_step400000", tensors)
    named = ["--config", tmp_path / "config.json"] if parallel else []
    close(complete(run(published, tmp_path / "cn.safetensors", *named)[0]), REFERENCE["otenim_cn"])


def test_otenim_without_its_mean(tmp_path, capsys):
    """Mid grey, and said so."""
    (written,) = run(torch_file(tmp_path / "model_cn", files.otenim_cn()), tmp_path / "cn.safetensors")
    assert infer.load(written).mean_colour.numpy().ravel().tolist() == [0, 0, 0]
    assert "WARNING: mid grey" in capsys.readouterr().out
    assert float(np.abs(complete(written) - REFERENCE["otenim_cn"]).max()) > 1e-3


@pytest.mark.parametrize("whole_px, patch_px, convs", [(160, 96, 5), (256, 128, 6)])
def test_otenim_discriminators(tmp_path, capsys, whole_px, patch_px, convs):
    """CelebA's (5 global convolutions) and Places2's (6)."""
    published = torch_file(tmp_path / "model_cd", files.otenim_cd(whole_px, patch_px, convs))
    (written,) = run(published, tmp_path / "cd.safetensors")
    close(judge(written, whole_px, patch_px), REFERENCE[f"otenim_cd_{whole_px}"])
    assert f"--init-discriminator {written} --image-px {whole_px} --local-px {patch_px}" in capsys.readouterr().out


# ---- MMagic


@pytest.mark.medium
@pytest.mark.parametrize("early", [False, True])
def test_mmagic(tmp_path, capsys, early):
    """BGR, clipped, no bias; in 2020 the layer `fc.linear` was called `fc`. Its checkpoints carry more than weights."""
    tensors = files.mmagic()
    if early:
        tensors = {name.replace("fc.linear", "fc"): array for name, array in tensors.items()}
    hub = files.call("mmengine.logging.HistoryBuffer", files.text("x"))
    published = torch_file(tmp_path / "gl_256x256.pth", tensors, message_hub=hub, meta=files.table({"iter": b"K\x05"}))
    written = run(published, tmp_path / "mm.safetensors")
    assert [path.name for path in written] == ["mm.safetensors", "mm-discriminator.safetensors"]
    close(complete(written[0]), REFERENCE["mmagic"] / 2 + 0.5)
    close(judge(written[1], 256, 128), REFERENCE["mmagic_disc"])
    assert infer.load(written[0]).arguments["conv_bias"] is False
    assert "BGR" in capsys.readouterr().out


# ---- full width


def full_width(tmp_path, tensors: dict, shown) -> str:
    run(torch_file(tmp_path / "published", tensors), tmp_path / "out.safetensors")
    for path in tmp_path.glob("*"):
        path.unlink()
    return shown.readouterr().out


@pytest.mark.medium
def test_parameter_counts_of_otenim_and_mmagic(tmp_path, capsys):
    assert "completion, 6,072,131 parameters" in full_width(tmp_path, files.otenim_cn(64), capsys)
    shown = full_width(tmp_path, files.mmagic(64), capsys)
    assert "completion, 6,069,155 parameters" in shown and "discriminator, 45,060,225 parameters" in shown


@pytest.mark.medium
@pytest.mark.parametrize(
    "sizes, count",
    [((160, 96, 5), "39,557,121"), ((256, 128, 6), "45,063,681"), ((128, 64, 6), "32,480,769")],
)
def test_parameter_counts_of_discriminators(tmp_path, capsys, sizes, count):
    assert f"discriminator, {count} parameters" in full_width(tmp_path, files.otenim_cd(*sizes, 64), capsys)


# ---- refusals


def refused(published: Path, text: str, capsys, *flags, output: str = "out.safetensors"):
    """Exit status 2, one line that says `text`, and nothing written."""
    assert text in helpers.refused(capsys, convert.main, published, published.parent / output, *flags) + "\n"
    assert not (published.parent / "out.safetensors").exists()


@pytest.mark.medium
def test_strict(tmp_path, capsys):
    """Each tensor missing, one too many, or of another shape is named."""
    tensors = files.otenim_cn()
    for name in ("conv3.bias", "bn7.running_var", "deconv15.weight"):
        less = {key: array for key, array in tensors.items() if key != name}
        refused(torch_file(tmp_path / "a", less), name, capsys)
    refused(torch_file(tmp_path / "a", {**tensors, "conv18.weight": tensors["bn1.bias"]}), "conv18.weight", capsys)
    wide = {**tensors, "conv9.weight": np.zeros((32, 16, 3, 3), np.float32)}
    refused(torch_file(tmp_path / "a", wide), "dilated3.conv.weight has shape [32, 16, 3, 3]", capsys)
    refused(torch_file(tmp_path / "a", {**tensors, "conv1.weight": tensors["bn1.bias"]}), "conv1.weight", capsys)
    judges = files.otenim_cd(160, 96, 5)
    for name in ("model_ld.bn5.weight", "model_gd.linear6.weight", "model_gd.conv4.weight", "linear1.bias"):
        less = {key: array for key, array in judges.items() if key != name}
        refused(torch_file(tmp_path / "a", less), name, capsys)


def test_files_of_other_networks(tmp_path, capsys):
    other = torch_file(tmp_path / "other.pth", {"layer1.weight": np.zeros((2, 3), np.float32)})
    refused(other, "none of the published GLCIC networks", capsys)
    refused(other, "layer1.weight", capsys)
    refused(torch_file(tmp_path / "empty.pth", {}), "none at all", capsys)
    refused(tmp_path / "nothing.pth", "cannot read", capsys)
    ours = save_weights(tmp_path / "ours.safetensors", {"completion": CompletionNetwork(8)}, {"paper": "glcic"})
    refused(ours, "none of the published GLCIC networks", capsys)


def test_flags_that_cannot_work(tmp_path, capsys):
    published = torch_file(tmp_path / "model_cn", files.otenim_cn())
    refused(published, "ends in .safetensors", capsys, output="out.pdparams")
    refused(published, "--image-px 150", capsys, "--image-px", 150)
    refused(published, "between 0 and 1", capsys, "--mean", 129, 104, 96)
    refused(published, "config.json", capsys, "--config", tmp_path / "model_cn")
    (tmp_path / "file").write_text("")
    refused(published, "cannot write", capsys, output="file/out.safetensors")


def test_image_px_of_weights_trained_anew(tmp_path):
    published = torch_file(tmp_path / "model_cn", files.otenim_cn())
    (written,) = run(published, tmp_path / "cn.safetensors", "--image-px", 128, "--mean", 0.5, 0.5, 0.5)
    assert infer.load(written).metadata["image_px"] == 128


# ---- folders, and what is printed to be done next


def test_a_folder_with_one_file(tmp_path, capsys):
    """otenim's folder of a phase, config.json included; with both of its files one has to be named."""
    folder = tmp_path / "phase_3"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"mpv": [float(value) for value in OTENIM_MEAN]}))
    torch_file(folder / "model_cn_step400000", files.otenim_cn())
    close(complete(run(folder, tmp_path / "cn.safetensors")[0]), REFERENCE["otenim_cn"])
    assert f"from {folder / 'config.json'}" in capsys.readouterr().out
    torch_file(folder / "model_cd_step400000", files.otenim_cd(160, 96, 5))
    (tmp_path / "empty").mkdir()
    for published in (folder, tmp_path / "empty"):
        with pytest.raises(SystemExit) as stop:
            run(published, tmp_path / "x.safetensors")
        assert stop.value.code == 2
    told = capsys.readouterr().err
    assert "2 weights files (model_cd_step400000, model_cn_step400000)" in told
    assert f"there is no weights file in the folder {tmp_path / 'empty'}" in told


@pytest.mark.medium
@pytest.mark.parametrize(
    ("tensors", "verbs"),
    [
        (lambda: files.authors(), ["infer"]),
        (lambda: files.otenim_cn(), ["infer"]),
        (lambda: files.otenim_cd(160, 96, 5), ["train"]),
        (lambda: files.mmagic(), ["infer", "train"]),
    ],
    ids=["authors", "model_cn", "model_cd", "mmagic"],
)
def test_next_commands_work(tmp_path, capsys, monkeypatch, follow, tensors, verbs):
    """From a path with a space."""
    (tmp_path / "my files").mkdir()
    run(torch_file(tmp_path / "my files/a.pth", tensors()), tmp_path / "my files/out.safetensors")
    for constant in ("PREVIEW_IMAGES", "VALIDATION_IMAGES", "FINAL_IMAGES"):
        monkeypatch.setattr(glcic_train, constant, 1)
    told = capsys.readouterr().out
    commands = follow(told, "--base-channels", "4", "--completion-steps", "0", "--discriminator-steps", "0")
    assert [command[2] for command in commands] == [f"glcic.{verb}" for verb in verbs]
    assert "assumed: trained on images of" in told or verbs == ["train"]
