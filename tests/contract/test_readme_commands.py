"""Every command that a README shows is run, small, on drawn images, or stands in a short table that says why not.

A README's commands are run in its order in one folder, so that what one leaves in runs/ is what the next one finds,
and two trainings that would go into one run's folder with other settings are told. READMEs of no paper list commands of
several: there each stands alone.
"""

import contextlib
import dataclasses
import functools
import importlib
import importlib.util
import io
import itertools
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import setuptools
from PIL import Image

import weights
from common.imaging.io import read_image, write_image
from common.imaging.transforms import resize
from tests.helpers import module

ROOT = Path(__file__).parents[2]
READMES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "*/*.md", "data/*/*.md")
    for path in ROOT.glob(pattern)
    if not path.relative_to(ROOT).parts[0].startswith((".", "runs"))
    and not path.name.endswith((".zh-CN.md", "CHANGELOG.md", "claims.md"))  # of claims.md see test_claims.py
)
TRANSLATIONS = {"README.zh-CN.md": "README.md"}
PAPERS = sorted(path.parent.name for path in ROOT.glob("*/infer.py"))
EXAMPLE = "glcic"  # stands for the NAME of a paper to come
BEGINNINGS = ("python ", "pip ", "pytest", "visualdl ", ". ")

# Commands that are not run here: how they begin, why, and where what they do is tested.
NOT_RUN = [
    ("pip install", "installs", "the extras are compared with setup.py here; .ci/run installs two; test_install.py"),
    ("python -m venv", "Python's own", ".ci/run"),
    (". .venv/bin/activate", "the shell's", ".ci/run"),
    ("pytest", "would run itself", ".ci/run"),
    ("python main.gradio.py", "serves until it is stopped", "test_page.py"),
    ("python tests/faults/harness.py", "takes an hour", "faults/test_faults.py; its flags here"),
    ("python tests/faults/soak.py", "takes half an hour", "faults/test_faults.py; its flags here"),
    ("python -m benchmarks", "takes hours", "test_benchmarks.py; its flags here"),
    ("python -m common.doctor", "takes a training step of every paper", "common/doctor/test_doctor.py"),
    ("python -m tools.claims", "trains for hours", "test_claims.py"),
    ("python -m tools.seeds", "trains three times", "test_seeds.py, test_reference_curves.py"),
    ("python -m tools.publish_weights glcic_faces --output published --repo", "uploads", "test_publish_weights.py"),
    ("python -m glcic.train quick --visualdl", "needs the extra log", "test_visualdl_log.py"),
    ("visualdl --logdir", "serves until it is stopped", "test_visualdl_log.py"),
    ("python -m tools.convert_blazeface", "needs a published file and its reader", "test_convert_blazeface.py"),
    ("python -m tools.pack_weights", "needs a run of many minutes", "test_weights.py; its flags here"),
    ("python tests/sixth_paper/start.py", "writes into the repository", "test_sixth_paper.py"),
]
OPTIONS = ("Options", "Settings", "Config")  # how the names of dataclasses of flags end
LAUNCHER_FLAGS = {"--rank", "--nproc_per_node"}  # that the text adds
LAUNCHER = "python -m paddle.distributed.launch"  # run here in one process; in several by runtime/test_distributed.py

COPIES = ("GATED", "PARTIAL", "VANILLA", "L1", "CGAN")  # of weights.safetensors: networks to be compared

# What is written in capitals, and other files that a README supposes; made by the fixture `place`.
WORDS = {
    "PRESET": "quick",
    "PHOTO": "photo.png",
    "IMAGE": "photo.png",
    "MASK": "hole.png",
    "MASK.png": "hole.png",
    "LINES": "lines.png",
    "astronaut.png": "portrait.png",
    "FOLDER": "photos",
    "CELEBA": "faces",
    "celeba": "faces",
    "celeba_half": "faces",
    "CITYSCAPES": "streets",
    "cityscapes": "streets",
    "VOC": "voc",
    "nvidia_irregular": "irregular",
    "WEIGHTS": "weights.safetensors",
    "…": "weights.safetensors",
    **{name: f"{name}.safetensors" for name in COPIES},
    "LABEL_TO_PHOTO": "other_way.safetensors",
    "PHOTO_TO_LABEL": "weights.safetensors",
}
SOURCES = {"celeba": "faces", "cityscapes": "streets", "facades": "streets", "voc": "voc", "images": "photos"}

# Fields of TINY that make a training small and leave it what it is.
SIZES = {
    *("total_steps", "batch_size", "image_px", "load_px", "mask_px", "local_px", "overlap_px", "patch_px", "levels"),
    *("base_channels", "discriminator_channels", "bottleneck", "z_channels"),
    *("completion_steps", "discriminator_steps", "plain_steps", "warmup_steps", "decay_steps"),
}
SMALL = {  # flags that make other commands small, by the end of the module's name
    ".evaluate": "--limit 3",
    "dcgan_completion.evaluate": "--limit 2 --steps 2 --restarts 1",
    "dcgan_completion.infer": "--steps 2 --restarts 1",
    "data.synthetic": "--count 20",
    "data.draw_examples": "--output out/examples",
    "compare photo": "--papers glcic",
    "compare table": "--papers glcic --limit 2 --image-px 64 --baselines fast",
}


# What makes the tensors of a published file in a paper's test_convert.py; two papers have ways of their own.
PUBLISHED = {"pix2pix": ("published", "u5"), "context_encoder": ("boyuan",), "deepfill": ("both", "networks")}

FOREIGN = {  # flags in READMEs that stand in no dataclass of options
    "--help": "of all",
    "--make-partition": "of data.prepare, whose options are a function's",
    "--eval": "of the pix2pix authors' code",
}


# ---- what the READMEs say


def codes(text: str) -> list[str]:
    """Lines of fenced and indented blocks, and what stands between backticks, in a text's order.

    Lines that end in a backslash are joined with the next, and line breaks between backticks are spaces.
    """
    found = []
    for piece in re.split(r"^(```\w*\n.*?^```)", text, flags=re.M | re.S):
        if piece.startswith("```"):
            found += re.sub(r"\\\n\s*", "", piece).splitlines()[1:-1]
        else:
            found += re.findall(r"^ {4}(\S.*)$", piece, re.M)
            found += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", piece)]
    return found


def commands_of(readme: str) -> list[str]:
    """Every command of a README, once, in its order."""
    lines = [line for line in codes((ROOT / readme).read_text()) if line.startswith(BEGINNINGS)]
    parts = [part.strip() for line in lines for part in re.split(r"\s{3,}|#", line)[0].split("&&")]
    return list(dict.fromkeys(parts))


ALL = list(dict.fromkeys(command for readme in READMES for command in commands_of(readme)))


def not_run(command: str) -> bool:
    return command.startswith(tuple(beginning for beginning, *_ in NOT_RUN))


def split(command: str) -> tuple[str, list[str]]:
    """The module that a command starts, and its arguments; of the launcher's, what that starts."""
    words = shlex.split(command.replace("NAME", EXAMPLE))
    if command.startswith(LAUNCHER):
        place = launching(words)
        return words[place].removesuffix(".py").replace("/", "."), words[place + 1 :]
    if words[1].endswith(".py"):
        return words[1].removesuffix(".py").replace("/", "."), words[2:]
    return words[2], words[3:]


def test_commands_are_found():
    assert len(ALL) > 60 and {"README.md", "CONTRIBUTING.md", "data/README.md"} <= set(READMES)
    assert {split(command)[0].split(".")[0] for command in ALL if not not_run(command)} >= {*PAPERS, "data"}


@pytest.mark.parametrize("command", ALL)
def test_each_is_run_or_stands_in_the_table(command):
    """A command of a new kind has to be put into NOT_RUN, or be a module of ours that has a `main`."""
    if not not_run(command):
        known = command.startswith("python -m ") or re.match(r"python \w+/\w+\.py\b", command)
        assert known, f"{command!r} is of no kind that this test knows"
        name = split(command)[0]
        assert importlib.util.find_spec(name), f"{command!r}: there is no module {name}"
        assert callable(importlib.import_module(name).main)


def test_the_table_is_needed():
    for beginning, *_ in NOT_RUN:
        assert any(command.startswith(beginning) for command in ALL), f"no README has {beginning!r} any more"


# ---- flags


def settings(module) -> set[str]:
    """Flags of a module's dataclasses of options, those of dataclasses inside them with them."""
    kinds = [kind for name, kind in vars(module).items() if name.endswith(OPTIONS) and dataclasses.is_dataclass(kind)]
    found: set[str] = set()
    while kinds:
        for field in dataclasses.fields(kinds.pop()):
            flag = field.name.replace("_", "-")
            found |= {f"--{flag}", f"--no-{flag}"} if isinstance(field.default, bool) else {f"--{flag}"}
            kinds += [type(field.default)] if dataclasses.is_dataclass(field.default) else []
    return found


@functools.cache
def helped(*command: str) -> frozenset[str]:
    """Flags that a command's --help names."""
    done = subprocess.run([sys.executable, *command, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return frozenset(flags_in(done.stdout))


def flags_in(text: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text))


def flags_of(words: list[str]) -> set[str]:
    """A command's own, without those of a command that is quoted in it."""
    return {word for word in words if word.startswith("--")}


def before_flags(words: list[str]) -> list[str]:
    """What a command is before its first flag: its options are those of its preset."""
    return list(itertools.takewhile(lambda word: not word.startswith("--"), words))


def launching(words: list[str]) -> int:
    """Where the launcher's arguments end, and what it starts begins."""
    return next(n for n, word in enumerate(words) if word.endswith(".py"))


def test_flags_of_commands_that_are_not_run():
    assert helped("-m", "paddle.distributed.launch") >= LAUNCHER_FLAGS
    for command in ALL:
        words, known = shlex.split(command), frozenset()
        if command.startswith(LAUNCHER):
            words, known = words[: launching(words)], helped("-m", "paddle.distributed.launch")
        elif not_run(command) and words[0] == "python" and flags_of(words):
            known = helped(*before_flags(words[1:])) | {"--help"}
        else:
            continue
        unknown = flags_of(words) - known
        assert not unknown, f"{command!r}: there is no {', '.join(unknown)}"


def subject(readme: str) -> str:
    """The folder that a page is about: its own, or the paper whose details it holds."""
    path = Path(readme)
    return path.stem if path.stem in PAPERS else path.parts[0] if len(path.parts) > 1 else "."


def known_flags(readme: str) -> set[str]:
    """Those of the commands of a paper's folder, or, outside the papers, of all commands."""
    folder = subject(readme)
    known = set(FOREIGN)
    for name in [folder] if folder in PAPERS else [*PAPERS, "common", "compare", "data", "tools", "benchmarks", "."]:
        for path in (ROOT / name).glob("*.py"):
            has_options = re.search(rf"^(class|from) .*({'|'.join(OPTIONS)})\b", path.read_text(), re.M)
            if path.stem.isidentifier() and has_options:
                known |= settings(importlib.import_module(f"{name}.{path.stem}".removeprefix("..")))
    return known


@pytest.mark.parametrize("readme", READMES)
def test_every_flag_that_a_readme_names_is_of_some_command(readme):
    """In the text too, where nothing is run."""
    text, known = (ROOT / readme).read_text(), known_flags(readme)
    pieces = [piece.strip() for code in codes(text) for piece in code.split("&&")]
    for piece in pieces:
        if not_run(piece) or piece.startswith((LAUNCHER, "python -m data.")):
            continue  # above, and below
        unknown = flags_in(piece) - known - (LAUNCHER_FLAGS if LAUNCHER in text else set())
        assert not unknown, f"{readme}: `{piece}`: there is no {', '.join(unknown)}"


def test_extras_that_are_installed_exist(monkeypatch):
    """And packages that are named are requirements of ours."""
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **words: given.update(words))
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    extras = given["extras_require"]
    listed = [*given["install_requires"], *itertools.chain(*extras.values())]
    required = {re.match(r"[\w-]+", text)[0] for text in listed}
    installs = [command for command in ALL if command.startswith("pip install")]
    assert len(installs) >= 5
    for command in installs:
        wanted = [word for word in shlex.split(command)[2:] if not word.startswith("-")]
        assert wanted
        for word in wanted:
            match = re.fullmatch(r"\.(?:\[([\w,]+)\])?", word)
            assert set((match[1] or "").split(",")) - {""} <= extras.keys() if match else word in required, command


# ---- running them


def write_published(paper: str, folder: Path) -> None:
    """The published files that a paper's README names, of a few channels, as the tests of its `convert` make them."""
    files = module(ROOT / "tests/glcic/fixtures/published_files.py")
    if paper == "glcic":
        files.write_zip(folder / "PUBLISHED", *files.state_dict(files.otenim_cn(2)))
    elif paper == "dcgan_completion":
        tests = module(ROOT / f"tests/{paper}/test_convert.py")
        tests.bundle(folder, tests.fill(tests.RELEASED))
        for name, shapes in (("netG.pth", tests.NET_G), ("netD.pth", tests.NET_D)):
            tests.torch_file(folder / name, tests.fill(shapes))
    elif paper in PUBLISHED:
        make, *arguments = PUBLISHED[paper]
        tensors = getattr(module(ROOT / f"tests/{paper}/test_convert.py"), make)(*arguments)
        files.write_zip(folder / "PUBLISHED", *files.state_dict(tensors))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Images that all READMEs share, and weights that each paper trained once."""
    from data.synthetic import write_faces, write_streets

    folder = tmp_path_factory.mktemp("drawn")
    write_faces(folder / "faces", 60)
    write_streets(folder / "streets", 20)
    for number in range(1, 22):
        face = read_image(folder / f"faces/img_align_celeba/{number:06}.jpg")
        write_image(folder / f"photos/{number}.png", face[60:124, 50:110])
    write_image(folder / "photo.png", resize(read_image(folder / "faces/img_align_celeba/000001.jpg"), 627, 512))
    write_image(folder / "portrait.png", read_image(folder / "photo.png")[:512])
    mask, lines = np.zeros((627, 512), np.uint8), np.full((627, 512), 255, np.uint8)
    mask[320:350, 230:270] = 255
    lines[330:334, 240:260] = 0
    write_image(folder / "hole.png", mask)
    write_image(folder / "irregular/0.png", mask)
    write_image(folder / "lines.png", lines)
    (folder / "voc/SegmentationClass").mkdir(parents=True)
    (folder / "voc/ImageSets/Segmentation").mkdir(parents=True)
    shape = np.zeros((60, 80), np.uint8)
    shape[20:50, 10:60] = 3
    for split in ("train", "val"):
        image = Image.fromarray(shape, "P")
        image.putpalette([*range(0, 250, 10)] * 3)
        image.save(folder / f"voc/SegmentationClass/{split}.png")
        (folder / f"voc/ImageSets/Segmentation/{split}.txt").write_text(f"{split}\n")
    return folder


@pytest.fixture(scope="module")
def trained(drawn):
    """(paper, changes of its TINY) -> weights, trained when they are asked for first."""
    known = {}

    def train(paper: str, **changes) -> Path:
        key = paper, *changes.items()
        if key not in known:
            train, config = (importlib.import_module(f"{paper}.{name}") for name in ("train", "config"))
            data = drawn / ("streets" if "streets" in train.draw_images.__name__ else "faces")
            run_dir = drawn / f"run-{len(known)}"
            cfg = dataclasses.replace(config.TINY, data_dir=data, run_dir=run_dir, device="cpu", **changes)
            known[key] = train.train(cfg)
        return known[key]

    return train


def prepare(folder: Path, paper: str, drawn: Path, trained) -> None:
    """What a paper's commands need, in the folder that they run in."""
    for path in drawn.iterdir():
        if not path.name.startswith("run-"):
            (folder / path.name).symlink_to(path)
    for name in ("data", "weights"):
        (folder / name).symlink_to(ROOT / name)
    if paper in PAPERS:
        for copy in ("weights", *COPIES):
            shutil.copy(trained(paper), folder / f"{copy}.safetensors")
        write_published(paper, folder)
        fields = importlib.import_module(f"{paper}.config").Config.__dataclass_fields__
        if "direction" in fields:
            other = trained(paper, direction="label-to-photo")
            shutil.copy(other, folder / "other_way.safetensors")


def filled(command: str, fresh) -> tuple[str, list[str]]:
    """A command's module, and its arguments with files in place of capitals, and flags that make it small."""
    name, arguments = split(command)
    draws = importlib.import_module(f"{name.split('.')[0]}.train").draw_images if name.split(".")[0] in PAPERS else None
    data = "streets" if draws and "streets" in draws.__name__ else "faces"
    arguments = [each for word in arguments for each in braced(word)]
    for n, word in enumerate(arguments):
        before = arguments[n - 1] if n else ""
        if before == "--output" and word in ("DIR", "FOLDER"):
            arguments[n] = next(fresh)
        elif (before, word) == ("--data-dir", "FOLDER"):
            arguments[n] = "faces"
        elif word == "SOURCE":
            arguments[n] = SOURCES[before]
        elif name == "data.prepare" and not n:
            continue
        else:
            arguments[n] = {**WORDS, "DIR": data}.get(word, word)
    if not arguments:  # a command that is named, not shown
        return name, ["--help"]
    if name.endswith(".train"):
        arguments += small_training(name.split(".")[0], arguments[0])
    named = SMALL.get(" ".join([name, *arguments[:1]])) or SMALL.get(name)
    small = named or next((flags for end, flags in SMALL.items() if name.endswith(end)), "")
    return name, arguments + small.split()


def braced(word: str) -> list[str]:
    """What a shell makes of a{b,c}d."""
    match = re.fullmatch(r"(.*)\{(.+)\}(.*)", word)
    return [match[1] + part + match[3] for part in match[2].split(",")] if match else [word]


def small_training(paper: str, preset: str) -> list[str]:
    """Flags that bring a preset to TINY's sizes, for two steps."""
    config = importlib.import_module(f"{paper}.config")
    words = ["--device", "cpu", "--workers", "0"]
    if preset == "quick":
        words += ["--data-dir", "streets" if "streets" in config.PRESETS["quick"][0] else "faces"]
    for field in dataclasses.fields(config.TINY):
        value = getattr(config.TINY, field.name)
        if field.name in SIZES and value != getattr(config.PRESETS[preset][1], field.name):
            value = 2 if field.name == "total_steps" else value
            words += [f"--{field.name.replace('_', '-')}", *map(str, value if isinstance(value, tuple) else [value])]
    return words


def stand_alone(name: str, arguments: list[str], weights_file) -> None:
    """Trainings start anew, and weights of runs that another README describes are there."""
    if name.endswith(".train") and arguments != ["--help"]:
        arguments += ["--resume", "never"]
    for word in arguments:
        if re.fullmatch(r"(runs/.+|glcic_faces)\.safetensors", word) and not Path(word).exists():
            Path(word).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(weights_file(), word)


def told(name: str, arguments: list[str]) -> str:
    """What went wrong with a command; empty if nothing did."""
    heard = io.StringIO()
    try:
        with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
            importlib.import_module(name).main(arguments)
    except SystemExit as stop:
        if stop.code not in (0, None):
            return f"ends with {stop.code}: {' '.join(heard.getvalue()[-1500:].split())}"
    except Exception as problem:
        return f"{type(problem).__name__}: {problem}"
    for n, word in enumerate(arguments):
        if word == "--output" and not name.endswith(".train") and not Path(arguments[n + 1]).exists():
            return f"does not write {arguments[n + 1]}"
    return ""


@pytest.mark.parametrize("readme", TRANSLATIONS)
def test_a_translation_shows_the_same_commands(readme):
    """All of its own are the original's, and it has all blocks of those."""
    original = TRANSLATIONS[readme]
    assert set(commands_of(readme)) <= set(commands_of(original))
    blocks = [re.findall(r"^```\n(.*?)^```", (ROOT / name).read_text(), re.M | re.S) for name in (readme, original)]
    shown = [[re.split(r"\s{3,}", line)[0] for block in each for line in block.splitlines()] for each in blocks]
    assert shown[0] == shown[1]


@pytest.mark.slow
@pytest.mark.parametrize("readme", [readme for readme in READMES if not all(map(not_run, commands_of(readme)))])
def test_its_commands_run(readme, tmp_path, monkeypatch, drawn, trained, curves):
    """All of them are tried; those that fail are told together."""
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path, subject(readme), drawn, trained)
    fresh, failed, known = (f"out/{n}" for n in itertools.count()), [], []
    for command in commands_of(readme):
        if not not_run(command):
            name, arguments = filled(command, fresh)
            paper = name.split(".")[0]
            if "--demo" in arguments and not weights.of_paper(paper):
                continue  # they are to come; tests/contract/test_demo.py says what is told until then
            if readme.split("/")[0] not in PAPERS and paper in PAPERS:
                stand_alone(name, arguments, lambda paper=paper: trained(paper))
            problem = "" if (name, arguments) in known else told(name, arguments)
            known.append((name, arguments))
            failed += [f"{command}\n  as {name} {shlex.join(arguments)}\n  {problem}"] if problem else []
    for line in codes((ROOT / readme).read_text()):
        if line.startswith("runs/") and "options.json" in line:  # what a run leaves
            first, *others = line.split()
            folder = Path(first).parent
            failed += [
                f"there is no {folder / each}" for each in (Path(first).name, *others) if not (folder / each).exists()
            ]
    assert not failed, "\n".join([f"{readme}: {len(failed)} went wrong", *failed])
