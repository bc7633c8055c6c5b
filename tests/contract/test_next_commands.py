"""Every command that a command prints is run as it was printed: harvested from real output, found by itself."""

import contextlib
import dataclasses
import functools
import importlib
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.config import FREE_FIELDS
from common.datasets.image_folder import open_images
from common.datasets.paired_images import open_pairs
from common.doctor.__main__ import Options, next_lines
from common.doctor.find_datasets import explore
from common.errors import UserError
from common.imaging.io import read_image
from common.runtime.commands import next_command
from data.synthetic import write_faces, write_streets

pytestmark = pytest.mark.medium

ROOT = Path(__file__).parents[2]
PAPERS = sorted(path.parent.name for path in ROOT.glob("*/infer.py"))
ODD = '-Lena\'s "faces" $HOME; café 图'  # of a folder: looks like a flag, holds what a shell would read
PRINTED = re.compile(r"`(python [^`\n]+)`|(python (?:-m )?[\w./]+ .+)$", re.MULTILINE)


def harvest(text):
    """The commands in what was printed: between backticks, or from `python` to the end of the line."""
    return [one or other for one, other in PRINTED.findall(text)]


def run(command, *more):
    """Does what a shell would do with the command, in this process; returns its words and its main's answer."""
    words = shlex.split(command)
    assert words[:2] == ["python", "-m"], command
    return words, importlib.import_module(words[2]).main([*words[3:], *map(str, more)])


def small(paper, preset):
    """Flags that make a preset as small as the paper's TINY."""
    config = importlib.import_module(f"{paper}.config")
    usual, flags = vars(config.PRESETS[preset][1]), ["--device", "cpu", "--workers", "0"]
    for name, value in vars(config.TINY).items():
        if usual[name] != value and name not in FREE_FIELDS - {"total_steps"}:
            flag = "--" + name.replace("_", "-")
            if isinstance(value, bool):
                flags.append(flag if value else flag.replace("--", "--no-", 1))
            else:
                flags += [flag, *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return flags


@pytest.fixture
def quick_search(monkeypatch):
    """Where a paper's evaluation and inference search, they search for three steps."""
    for name in ("options", "infer"):
        module = importlib.import_module(f"dcgan_completion.{name}")
        few = dataclasses.replace(module.PRESETS["suite"], steps=3)
        monkeypatch.setattr(module, "PRESETS", {**module.PRESETS, "suite": few})
    evaluate = importlib.import_module("dcgan_completion.evaluate")
    monkeypatch.setattr(evaluate, "Options", functools.partial(evaluate.Options, search=few))
    monkeypatch.setattr(evaluate, "GATE", dataclasses.replace(evaluate.GATE, steps=3))


# ---- how they are printed


def test_a_command_is_quoted_and_paths_are_never_flags_or_homes():
    command = next_command("a.b", "--input", Path("-x y.png"), "--mask", Path("~/m"), "--output", "a'b", Path("/-/~"))
    assert command == "python -m a.b --input './-x y.png' --mask './~/m' --output 'a'\"'\"'b' '/-/~'"
    assert shlex.split(command)[3:] == ["--input", "./-x y.png", "--mask", "./~/m", "--output", "a'b", "/-/~"]


@pytest.mark.parametrize("started, module, expected", [
    ("glcic/train.py", "glcic.infer", "python glcic/infer.py --demo"),
    ("train.py", "glcic.infer", "python infer.py --demo"),
    ("-a b/train.py", "glcic.infer", "python './-a b/infer.py' --demo"),
    ("glcic/train.py", "common.doctor", "python -m common.doctor --demo"),
    ("glcic/train.py", "PAPER.convert", "python -m PAPER.convert --demo"),
])  # fmt: skip
def test_what_was_started_as_a_file_goes_on_as_files(monkeypatch, started, module, expected):
    main = type(sys)("__main__")
    main.__file__, main.__spec__ = str(ROOT / "glcic" / "train.py"), None
    monkeypatch.setitem(sys.modules, "__main__", main)
    monkeypatch.setattr(sys, "argv", [started, "quick"])
    assert next_command(module, "--demo") == expected
    main.__spec__ = "not None: python -m glcic.train"
    assert next_command(module, "--demo") == f"python -m {module} --demo"


def test_no_command_with_a_path_is_printed_another_way():
    """A name between braces behind `python -m` was neither quoted nor kept from looking like a flag."""
    sources = [path for path in ROOT.rglob("*.py") if not {"tests", "convert.py"} & {*path.relative_to(ROOT).parts}]
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in sources
        for line in path.read_text("utf-8").splitlines()
        if re.search(r"python -m [^`\"]*\{", line) and "prog=" not in line and "parse(" not in line
    ]
    assert len(sources) > 80 and not found, "; use common.runtime.commands.next_command: ".join(found)


# ---- train


@pytest.mark.parametrize("paper", PAPERS)
def test_what_train_prints(paper, tmp_path, monkeypatch, capsys, quick_search):
    """Of folders with the oddest names, and of a zip, in which nothing is a file that could be named."""
    monkeypatch.chdir(tmp_path)
    train = importlib.import_module(f"{paper}.train")
    drawn = train.draw_images(Path(ODD), count=24)
    weights = train.main(["quick", f"--data-dir={ODD}", f"--run-dir={ODD}-run", *small(paper, "quick")])
    (command,) = harvest(capsys.readouterr().out)
    words, _ = run(command)
    value = dict(zip(words, words[1:], strict=False))
    image, result = (read_image(Path(value[flag])) for flag in ("--input", "--output"))
    half = 2 if "--half" in words else 1
    assert result.shape == (image.shape[0], image.shape[1] // half, 3)
    if (drawn / "img_align_celeba").is_dir():  # pairs are in folders alone
        archive = shutil.make_archive("img_align_celeba", "zip", drawn, "img_align_celeba")
        shutil.copy(drawn / "list_eval_partition.txt", tmp_path)
        monkeypatch.setattr(train, "train", lambda cfg: weights)
        capsys.readouterr()
        train.main(["quick", "--data-dir", archive])
        (command,) = harvest(capsys.readouterr().out)
        assert command.endswith(" --demo")
        run(command)
        assert len(list(Path(f"demo_{paper}").glob("*.png"))) > 1


# ---- prepare


@pytest.fixture
def until_trained(monkeypatch):
    """(command, more flags) -> the folder that a printed `train` command learns from. A small network, and one step."""

    def go(command, *more):
        paper, preset = re.fullmatch(r"python -m (\w+)\.train (\S+) .*", command).groups()
        monkeypatch.setattr(importlib.import_module(f"{paper}.evaluate"), "evaluate", lambda options: 1 / 0)
        with contextlib.suppress(ZeroDivisionError):  # what comes after training takes its time
            run(command, *small(paper, preset), "--max-minutes", "1e-9", "--run-dir", "run", *more)
        assert Path("run/weights.safetensors").is_file()
        return Path(json.loads(Path("run/options.json").read_text())["data_dir"])

    return go


def voc_of_one(folder):
    for part in ("SegmentationClass", "ImageSets/Segmentation"):
        (folder / part).mkdir(parents=True)
    ids = np.zeros((40, 60), np.uint8)
    ids[10:30, 15:45] = 7
    image = Image.fromarray(ids, "P")
    image.putpalette([*range(256)] * 3)
    image.save(folder / "SegmentationClass/a.png")
    for split in ("train", "val"):
        (folder / f"ImageSets/Segmentation/{split}.txt").write_text("a\n")
    return folder


@pytest.mark.parametrize("opener", [open_images, open_pairs])
def test_what_is_said_of_archives_in_place_of_folders(opener, tmp_path, monkeypatch, capsys):
    """A tar of images given as data, and a folder of tars: the command that is named makes a folder that is read."""
    monkeypatch.chdir(tmp_path)
    count = 0
    for place, archive in ((Path("a 'b'.tar"), "a 'b'"), (Path("-c d"), "-c d/e")):
        folder = write_streets(Path(f"drawn{count}"), count=24)
        if "/" in archive:
            Path("-c d").mkdir()
        shutil.make_archive(archive, "tar", folder)
        with pytest.raises(UserError) as told:
            opener(place, "train")
        (command,) = harvest(str(told.value))
        words, _ = run(command)
        count += len(opener(Path(words[-1]), "train")) > 0
    assert count == 2


@pytest.mark.parametrize("kind", ["celeba", "cityscapes", "facades", "voc"])
def test_what_prepare_prints(kind, tmp_path, monkeypatch, capsys, until_trained):
    """An archive is unpacked by the command that the doctor prints, and trained on by the one that prepare prints."""
    monkeypatch.chdir(tmp_path)
    write = {"celeba": write_faces, "voc": lambda folder, count: voc_of_one(folder)}.get(kind, write_streets)
    folder = write(Path(f"drawn/{ODD}"), count=24)
    archive = Path(shutil.make_archive(f"{kind} {ODD}", "zip", folder))
    if kind in ("celeba", "cityscapes"):
        (told,) = explore(archive)
        (command,) = harvest(told.problem)
    else:
        command = next_command("data.prepare", kind, Path(archive.name), "--output", Path(f"-{kind}"))
    run(command)
    output = Path(shlex.split(command)[-1])
    (command,) = harvest(capsys.readouterr().out)
    if kind == "voc":  # holes for other images; quick would draw 1,200
        until_trained(command, "--data-dir", write_faces(Path("faces"), count=24))
    else:
        assert until_trained(command) == output


@pytest.mark.parametrize("paper", PAPERS)
def test_what_the_doctor_offers(paper, tmp_path, monkeypatch, until_trained):
    """For the data that it finds in a folder."""
    monkeypatch.chdir(tmp_path)
    drawn = importlib.import_module(f"{paper}.train").draw_images(Path(ODD), count=24)
    sets = explore(drawn)
    presets = list(importlib.import_module(f"{paper}.config").PRESETS)
    (line,) = next_lines([{"paper": paper, "presets": presets, "pairs": sets[0].pairs}], sets, "cpu", Options())
    (command,) = harvest(line.value)
    assert until_trained(command) == drawn
