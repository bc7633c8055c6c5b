"""Says what this machine can do, what keeps it from training, and the next command.

python -m common.doctor

python -m common.doctor --data-dir DIR --device gpu

Exit status 1 when training cannot work; each line marked FAIL says why and what to do. It is for broken installations,
so whatever can be broken is imported where it is needed, and Paddle, which may take its process along, in a child.
"""

from __future__ import annotations  # an older Python must get as far as the line that says so

import contextlib
import importlib
import io
import json
import math
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from common import cpu_count
from common.errors import UserError, one_line_errors

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ((3, 10), (3, 13))  # the oldest that the suite runs on, the newest that Paddle has wheels for
PACKAGES = {  # module -> what pip calls it
    **{name: name for name in ("numpy", "scipy", "matplotlib", "tqdm", "tyro", "safetensors")},
    "PIL": "Pillow",
    "cv2": "opencv-python-headless",
}
BUILDS = re.compile("paddlepaddle(-(gpu|xpu|npu|dcu|mlu|ipu|rocm))?")
FOR_PADDLE_2 = {"numpy": '"numpy<2"', "opencv-python-headless": '"opencv-python-headless<4.12"'}
CAPABILITIES = ((6, 1), (8, 6))  # of the machine code in Paddle 2's wheels, which hold nothing to translate for others
LITTLE_GB = 2  # of memory, of a card's memory, of disk
CHILD_SECONDS = 900
TOLERANCE = 1e-3  # relative, of a loss between two devices
SAMPLED = 20  # pictures of a data set that are decoded
LOOKED_INTO = 20  # folders in a folder that are searched for data
PAIR_SIGNS = ("trainA", "trainB", "leftImg8bit", "gtFine", "*train_list*")
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz")


@dataclass(frozen=True)
class Options:
    """Says what this machine can do, what keeps it from training, and the next command."""

    data_dir: Path | None = None
    """folder or zip with the pictures to train on; without it, data/ and AI Studio's mounts are looked through"""
    run_dir: Path | None = None
    """folder for what runs write; without it, runs/"""
    device: str = "auto"
    """that training is meant for: auto, cpu, gpu or gpu:N"""


class Line(NamedTuple):
    """One check: `ok`, `note` (training works, but look) or `FAIL`; what was checked; its value, and what to do."""

    state: str
    what: str
    value: str

    def __str__(self) -> str:
        return f"{self.state:<6}{self.what:<15}{self.value}"


# ---- Python and its packages


def python_line() -> Line:
    version = platform.python_version()
    oldest, newest = (".".join(map(str, pair)) for pair in PYTHONS)
    if sys.version_info[:2] < PYTHONS[0]:
        return Line("FAIL", "Python", f"{version} is too old: make a virtual environment of {oldest} to {newest}")
    if sys.version_info[:2] > PYTHONS[1]:
        return Line("note", "Python", f"{version}; Paddle is known to have wheels up to {newest}")
    return Line("ok", "Python", f"{version}, {platform.system()} {platform.machine()}, {sys.executable}")


def paddle_builds() -> dict[str, str]:
    """Installed builds of Paddle, name -> version. Each of them provides the module `paddle`."""
    from importlib.metadata import distributions

    versions = {}
    for dist in distributions():  # in the order of sys.path: the first is the one that is imported
        name = (dist.metadata or {"Name": ""})["Name"] or ""  # a half-removed package has none
        versions.setdefault(name.lower().replace("_", "-"), dist.version)
    return {name: versions[name] for name in sorted(versions) if BUILDS.fullmatch(name)}


def package_lines(builds: dict[str, str]) -> Iterator[Line]:
    versions, missing = [], []
    paddle_2 = any(version.startswith("2.") for version in builds.values())
    for module, package in PACKAGES.items():
        wanted = FOR_PADDLE_2.get(package, package) if paddle_2 else package
        try:
            versions.append(f"{package} {importlib.import_module(module).__version__}")
        except Exception as problem:  # a broken package raises whatever it likes
            if isinstance(problem, ModuleNotFoundError) and problem.name == module:
                missing.append(wanted)
            else:
                yield Line("FAIL", "packages", f"{package} does not import ({_short(problem)}): pip install {wanted}")
    if missing:
        yield Line("FAIL", "packages", f"not installed: pip install {' '.join(missing)}")
    if len(versions) == len(PACKAGES):
        yield Line("ok", "packages", ", ".join(versions))


def build_lines(builds: dict[str, str], numpy_version: str) -> Iterator[Line]:
    """What is wrong with the installed builds, even where Paddle imports."""
    if len(builds) > 1:
        names = " and ".join(f"{name} {version}" for name, version in builds.items())
        todo = f"pip uninstall -y {' '.join(builds)}, then install one (README.md, GPU)"
        yield Line("FAIL", "Paddle", f"{names} are installed, each over files of the other: {todo}")
    for name, version in builds.items():
        if version.startswith("2.") and not numpy_version.startswith(("0.", "1.")):
            text = f"{name} {version} is for numpy 1, with numpy {numpy_version} conversions fail or go wrong"
            yield Line("FAIL", "Paddle", f"{text}: pip install {' '.join(FOR_PADDLE_2.values())}")


def _short(problem) -> str:
    """The first line of an error, not too long."""
    text = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
    return text if len(text) <= 300 else text[:299] + "…"


# ---- Paddle, in a child


def in_child(code: str, **environment: str) -> tuple[list[dict], str]:
    """Runs Python code in a process of its own, which a crash of Paddle ends.

    Returns:
        (the JSON objects that it printed, one a line; why it failed, or "").
    """
    paths = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    settings = {
        "env": {**os.environ, "PYTHONPATH": paths, **environment},
        "timeout": CHILD_SECONDS,
        "capture_output": True,
        "text": True,
        "errors": "replace",
    }
    try:
        done = subprocess.run([sys.executable, "-c", code], **settings)
    except subprocess.TimeoutExpired:
        return [], f"no answer in {CHILD_SECONDS} s"
    said = []
    for line in done.stdout.splitlines():
        with contextlib.suppress(ValueError):  # a library's own words
            said += [json.loads(line)] if line.startswith("{") else []
    return said, _why(done.returncode, done.stderr)


def _why(returncode: int, stderr: str) -> str:
    """The telling line of a process that failed; "" of one that did not."""
    if returncode == 0:
        return ""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line) or "Mismatched GPU" in line]
    text = _short((telling or lines or ["it said nothing"])[-1])
    return text if returncode > 0 else f"{text} (killed by {signal.Signals(-returncode).name})"


def probe(device: str) -> None:
    """Prints what Paddle says of itself, of its cards and of `device`, as JSON objects."""
    from common.device import count_cards, open_device, paddle

    cuda = paddle.is_compiled_with_cuda()
    cards = [paddle.device.cuda.get_device_properties(number) for number in range(count_cards())]
    facts = {
        "version": paddle.__version__,
        "build": f"for CUDA {paddle.version.cuda()}, cuDNN {paddle.version.cudnn()}" if cuda else "for CPU",
        "cuda": cuda,
        "cards": [{"name": c.name, "capability": [c.major, c.minor], "bytes": c.total_memory} for c in cards],
    }
    print(json.dumps(facts), flush=True)  # before the device is opened, which may be the end
    try:
        place = open_device(device)
        name = "cpu" if isinstance(place, paddle.CPUPlace) else f"gpu:{place.get_device_id()}"
        print(json.dumps({"place": name}))
    except UserError as mistake:
        print(json.dumps({"problem": str(mistake)}))


def paddle_facts(device: str) -> dict:
    """What `probe` says; under "broken" why Paddle does not import, under "problem" why `device` cannot be used."""
    said, why = in_child(f"from common import doctor; doctor.probe({device!r})")
    facts = {key: value for each in said for key, value in each.items()}
    if "version" not in facts:
        # common.device calls every failure to import "not installed"; Paddle itself tells which library is missing.
        facts["broken"] = in_child("import paddle")[1] or why
    elif "place" not in facts:
        facts.setdefault("problem", why)
    return facts


def paddle_line(builds: dict[str, str], facts: dict) -> Line:
    if "broken" not in facts:
        return Line("ok", "Paddle", f"{facts['version']}, built {facts['build']}")
    missing = re.search(r"No module named '([\w.]+)'", facts["broken"])
    if missing and missing[1] == "paddle" and not builds:
        return Line("FAIL", "Paddle", 'not installed: pip install -e ".[cpu]", or for a card see README.md, GPU')
    todo = f"pip install {missing[1]}" if missing and missing[1] != "paddle" else "install it anew (README.md, GPU)"
    return Line("FAIL", "Paddle", f"it does not import ({facts['broken']}): {todo}")


# ---- cards


def nvidia_cards() -> list[str] | None:
    """Driver, name and memory of each card that the driver knows, MiB; None: no driver answers."""
    command = ["nvidia-smi", "--query-gpu=driver_version,name,memory.free,memory.total"]
    try:
        done = subprocess.run(
            [*command, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return [line for line in done.stdout.splitlines() if line.count(",") == 3]


def card_lines(facts: dict, driven: list[str] | None) -> Iterator[Line]:
    """The cards, as the driver and as Paddle know them, and whether they fit this build of Paddle."""
    for driver, name, free, total in (map(str.strip, card.split(",")) for card in driven or ()):
        text, little = f"{driver}, {name}", False
        if free.isdigit() and total.isdigit():  # some virtual cards answer [N/A]
            little = int(free) < LITTLE_GB * 1024
            text += f", {_size(int(free) << 20)} of {_size(int(total) << 20)} free"
        todo = ": nvidia-smi names the programs that hold the rest" if little else ""
        yield Line("note" if little else "ok", "driver", text + todo)
    for number, card in enumerate(facts.get("cards", ())):
        yield _card_line(number, card, facts)
    if facts.get("cards") == []:
        why = _why_no_card(facts, driven)
        if why:
            yield Line("note", "card", why)


def _card_line(number: int, card: dict, facts: dict) -> Line:
    capability = tuple(card["capability"])
    text = f"gpu:{number} {card['name']}, {_size(card['bytes'])}, compute capability {capability[0]}.{capability[1]}"
    (low, high), newest = CAPABILITIES, CAPABILITIES[1]
    # A wheel of Paddle 3 serves what its CUDA does: the training step tells.
    if not facts["version"].startswith("2.") or low <= capability <= high:
        return Line("ok", "card", text)
    text += f"; Paddle {facts['version']} has code for {low[0]}.{low[1]} to {high[0]}.{high[1]}"
    if capability > newest and capability[0] == newest[0]:  # cards run code of their own generation's lower numbers
        return Line("note", "card", f"{text}, which this card can run; the training step below tells")
    used = facts.get("place") == f"gpu:{number}"
    return Line("FAIL" if used else "note", "card", f"{text}: install Paddle 3 (README.md, GPU) or use --device cpu")


def _why_no_card(facts: dict, driven: list[str] | None) -> str:
    """Why Paddle finds no card, and what to do; "" where there is none to find."""
    if not facts["cuda"]:
        return "this build of Paddle does not use it; paddlepaddle-gpu does (README.md, GPU)" if driven else ""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and not re.match(r"\s*\d|GPU-|MIG-", hidden):
        why = f"CUDA_VISIBLE_DEVICES={hidden} hides them: unset it"
    elif driven:
        why = f"none that Paddle can use; driver {driven[0].split(',')[0]} may be too old for it: install a newer one"
    else:
        why = "none: no NVIDIA driver answers (nvidia-smi)"
    return f"{why}; --device auto trains on the processor"


# ---- the machine


def processor_line() -> Line:
    cores, threads = cpu_count(), os.environ["OMP_NUM_THREADS"]
    if threads == str(cores):
        return Line("ok", "processor", f"{cores} cores, {threads} threads")
    return Line("note", "processor", f"{cores} cores, but OMP_NUM_THREADS is {threads}: unset it to use them all")


def memory_line(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> Line:
    try:
        rows = [line.split() for line in (proc / "meminfo").read_text().splitlines()]
        info = {row[0]: 1024 * int(row[1]) for row in rows if len(row) > 1}
        total, free = info["MemTotal:"], info["MemAvailable:"]
    except (OSError, ValueError, KeyError):
        return Line("note", "memory", "unknown on this system")
    whose = ""
    for limit, used in _memory_limits(proc, cgroup):
        if limit < total:
            total, whose = limit, ", the limit of this container,"
        free = min(free, max(0, limit - used))
    text = f"{_size(free)} of {_size(total)}{whose} free"
    if free >= LITTLE_GB << 30:
        return Line("ok", "memory", text)
    return Line("note", "memory", f"{text}, which is little: close other programs, or lower --batch-size")


def _memory_limits(proc: Path, cgroup: Path) -> Iterator[tuple[int, int]]:
    """(limit, used without the cache that can be dropped), bytes, of this process's group and of those around it."""
    try:
        groups = [line.split(":", 2) for line in (proc / "self/cgroup").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in groups:
        if not controllers:  # version 2
            top, limit, used, cache = cgroup, "memory.max", "memory.current", "inactive_file"
        elif "memory" in controllers.split(","):
            top, limit, used = cgroup / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
            cache = "total_inactive_file"
        else:
            continue
        group = top / path.lstrip("/")  # a container sees its own group at the top, and nothing there
        for level in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):  # no such group, or no limit: "max"
                stat = (level / "memory.stat").read_text()
                droppable = re.search(rf"^{cache} (\d+)$", stat, re.MULTILINE)
                taken = int((level / used).read_text()) - int(droppable[1] if droppable else 0)
                yield int((level / limit).read_text()), taken
            if level == top:
                break


def shared_memory_line(folder: Path = Path("/dev/shm"), cards: int = 0) -> Line:
    size = shutil.disk_usage(folder).total if folder.is_dir() else 0
    if cards > 1 and size < 1 << 30:  # NCCL's buffers
        text = f"{_size(size)} in {folder} is little for training on several cards: docker run --shm-size=1g"
        return Line("note", "shared memory", text)
    return Line("ok", "shared memory", f"{_size(size)} in {folder}; any size will do, threads read the pictures")


def disk_line(run_dir: Path | None) -> Line:
    folder = (run_dir or Path("runs")).absolute()
    try:
        place = next(path for path in (folder, *folder.parents) if path.exists())
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(1 << 20))
            file.flush()
        free = shutil.disk_usage(place).free
    except OSError as problem:
        return Line("FAIL", "disk", f"cannot write {folder}: {problem.strerror or problem}; name another --run-dir")
    if free < LITTLE_GB << 30:
        return Line("note", "disk", f"{_size(free)} free for {folder}: make room, checkpoints may not fit")
    return Line("ok", "disk", f"{_size(free)} free for {folder}")


def _size(count: int) -> str:
    """Bytes in words."""
    return f"{count / 2**30:.1f} GB" if count >= 1 << 30 else f"{count / 2**20:.0f} MB"


# ---- data


@dataclass(frozen=True)
class DataSet:
    """A data set that was found.

    Args:
        place: what --data-dir takes.
        pairs: of photo and label, not single pictures.
        title: what it is, and its size.
        problem: why it cannot be trained on, and what to do; "" when it can.
        note: a smaller trouble.
    """

    place: Path
    pairs: bool
    title: str
    problem: str = ""
    note: str = ""


def find_data(given: Path | None) -> list[DataSet]:
    """The data sets in the folder given; else in data/, here and in the clone, and in AI Studio's mounts."""
    if given:
        return explore(given)
    from common.celeba import find_celeba

    places = []
    for folder in (Path("data"), ROOT / "data"):
        places += [folder] if find_celeba(folder) else _folders(folder) + _archives(folder)
    places += sorted(Path.home().glob("data/data[0-9]*"))
    found = {}
    for place in places:
        found.setdefault(place.resolve(), place)
    return [each for place in found.values() for each in explore(place)]


def explore(place: Path) -> list[DataSet]:
    """The data set that a folder is; else those in its folders; else its pictures; else its archives; or an archive."""
    from common.image_folder import ImageFolder
    from common.images import find_images

    if place.is_file():
        return [_archive(place)]
    own = [_published(place)]
    found = [each for each in own if each] or [each for each in map(_published, _folders(place)) if each]
    if not found and place.is_dir() and find_images(place):
        found = [_opened(place, "pictures", ImageFolder, pairs=False)]
    return found or [_archive(path) for path in _archives(place)]


def _folders(place: Path) -> list[Path]:
    return [path for path in sorted(place.glob("[!._]*")) if path.is_dir()][:LOOKED_INTO]


def _archives(place: Path) -> list[Path]:
    return [path for path in sorted(place.glob("[!.]*")) if path.name.lower().endswith(ARCHIVES) and path.is_file()]


def _published(place: Path) -> DataSet | None:
    """CelebA or a set of pairs, as the readers find them; a spoilt one is told as such."""
    from common.celeba import find_celeba
    from common.cityscapes import open_pairs
    from common.image_folder import open_pictures

    if find_celeba(place):
        return _opened(place, "CelebA", open_pictures, pairs=False)
    with contextlib.suppress(UserError):
        open_pairs(place, "train")
        return _opened(place, "pairs of photo and label", open_pairs, pairs=True)
    if any(next(place.glob(sign), None) for sign in PAIR_SIGNS):
        return _opened(place, "pairs of photo and label", open_pairs, pairs=True)
    return None


def _opened(place: Path, title: str, opener, pairs: bool) -> DataSet:
    """A set opened as training does, with SAMPLED items spread over it decoded."""
    try:
        items, held_out = opener(place, "train"), opener(place, "val")
    except UserError as problem:
        return DataSet(place, pairs, title, problem=str(problem))
    title = f"{title}, {len(items):,} for training and {len(held_out):,} for validation"
    numbers = sorted({round(n * (len(items) - 1) / (SAMPLED - 1)) for n in range(SAMPLED)})
    broken = []
    for number in numbers:
        try:
            items[number]
        except UserError as problem:
            broken.append(str(problem))
    if not broken:
        return DataSet(place, pairs, f"{title}; {len(numbers)} of them decoded")
    names = f": `python -m data.prepare verify {shlex.quote(str(place))}` names all" if place.is_dir() else ""
    said = f"broken: {len(broken)} of {len(numbers)} tried ({broken[0]}); training"
    if len(broken) > 1:  # of a set with 1 % broken, once in sixty times
        return DataSet(place, pairs, title, problem=f"{said} stops at more than 1 %{names}")
    return DataSet(place, pairs, title, note=f"{said} passes over up to 1 %{names}")


def _archive(path: Path) -> DataSet:
    """CelebA's zip with its list beside it is read as it is; other archives are to be unpacked."""
    if not path.name.lower().endswith(ARCHIVES):
        return DataSet(path, False, "a file", problem="--data-dir takes a folder of pictures, or CelebA's zip")
    from common.celeba import find_celeba
    from common.image_folder import open_pictures

    verb = f"--help` says how to unpack {shlex.quote(str(path))}"
    if path.suffix.lower() == ".zip":
        try:
            with zipfile.ZipFile(path) as opened:
                parts = {part for name in opened.namelist() for part in name.split("/")}
        except (OSError, zipfile.BadZipFile):
            again = "a failed download is often a web page of that name; download it again"
            return DataSet(path, False, "no zip", problem=again)
        faces = any(re.fullmatch(r"\d{6}\.jpg", part) for part in parts)
        if faces and find_celeba(path)[1].is_file():
            return _opened(path, "CelebA", open_pictures, pairs=False)
        pairs = parts & {*PAIR_SIGNS, "train"}
        if pairs or faces:
            verb = f"{'cityscapes' if pairs else 'celeba'} {shlex.quote(str(path))} --output DIR` unpacks it"
    return DataSet(path, False, "an archive", problem=f"`python -m data.prepare {verb}")


def data_lines(sets: list[DataSet], given: Path | None) -> Iterator[Line]:
    usable = any(not each.problem for each in sets)
    for each in sets:
        trouble = each.problem or each.note
        state = "FAIL" if given and not usable else "note" if trouble else "ok"
        yield Line(state, "data", "; ".join(filter(None, [f"{each.place}: {each.title}", trouble])))
    if given and not sets:
        there = "holds no picture and no archive" if given.exists() else "is not there"
        yield Line("FAIL", "data", f"{given} {there}: --data-dir takes a folder of pictures (data/README.md)")
    elif not sets:
        where = "data/README.md says where to get some"
        yield Line("note", "data", f"none in data/; the preset quick draws its own, {where}")


# ---- a step of every paper


def find_papers() -> list[str]:
    return sorted(path.parent.name for path in ROOT.glob("*/train.py") if (path.parent / "config.py").is_file())


def try_papers(places: Sequence[str]) -> None:
    """Prints each paper's presets, the kind of its data and its `step_losses`, or its problem, as JSON objects."""
    for paper in find_papers():
        said, quiet = {"paper": paper}, io.StringIO()
        with tempfile.TemporaryDirectory() as folder, redirect_stdout(quiet), redirect_stderr(quiet):
            try:
                said["presets"] = list(importlib.import_module(f"{paper}.config").PRESETS)
                drawn = importlib.import_module(f"{paper}.train").draw_pictures(Path(folder, "data"), count=20)
                said["pairs"] = explore(drawn)[0].pairs
                said["losses"] = step_losses(paper, drawn, Path(folder), places)
            except Exception as problem:  # whatever it is, the other papers are still tried
                said["problem"] = f"{type(problem).__name__}: {_short(problem)}"
        print(json.dumps(said), flush=True)


def step_losses(paper: str, data_dir: Path, folder: Path, places: Sequence[str]) -> list[dict[str, float]]:
    """The losses of one training step at each place: of the preset TINY, from equal weights, pictures and chance.

    Args:
        data_dir: the pictures.
        folder: for what the runs write.
        places: devices, as --device names them.
    """
    from common.checkpoint import save_state
    from common.device import open_device
    from common.runlog import read_stats

    train = importlib.import_module(f"{paper}.train")
    tiny = replace(importlib.import_module(f"{paper}.config").TINY, data_dir=data_dir, workers=0)
    open_device("cpu")
    # Late in the run every network takes part. It is not its last step, which would be followed by an evaluation.
    start = save_state(folder, *train.build(tiny), {"step": tiny.total_steps - 2})
    losses = []
    for number, place in enumerate(places):
        run = replace(tiny, run_dir=folder / str(number), device=place, resume=str(start), max_minutes=1e-9)
        with _numpys_chance():
            train.train(run)
        last = read_stats(run.run_dir)[-1]
        losses.append({name: value for name, value in last.items() if name not in ("step", "time")})
    return losses


@contextlib.contextmanager
def _numpys_chance() -> Iterator[None]:
    """Numpy draws what Paddle would: from the same seed, Paddle's generators give each kind of device other numbers."""
    import numpy as np

    from common.device import paddle

    rng = np.random.default_rng(0)

    def uniform(shape, dtype=None, min=-1.0, max=1.0, **_):
        return paddle.to_tensor(rng.uniform(min, max, shape).astype(np.float32))

    def normal(mean=0.0, std=1.0, shape=None, **_):
        return paddle.to_tensor(rng.normal(mean, std, shape).astype(np.float32))

    def randn(shape, **_):
        return normal(shape=shape)

    def dropout(x, p=0.5, training=True, **_):
        return x * paddle.to_tensor((rng.random(x.shape) >= p).astype(np.float32) / (1 - p)) if training else x

    changed = mock.patch.multiple(paddle, uniform=uniform, normal=normal, randn=randn)
    with changed, mock.patch.object(paddle.nn.functional, "dropout", dropout):
        yield


def training_lines(tried: list[dict], why: str, places: Sequence[str]) -> Iterator[Line]:
    """The verdict on what `try_papers` printed of these places (one, or two to compare), and on how it ended."""
    devices = " and ".join(places)
    for each in tried:
        problem = each.get("problem") or "; ".join(differences(each["losses"], places))
        if problem:
            todo = "; --device cpu does without the card" if len(places) > 1 else ""
            yield Line("FAIL", "training", f"a step of {each['paper']} on {devices}: {problem}{todo}")
        else:
            first, last = each["losses"][0], each["losses"][-1]
            worst = 100 * max(_apart(first[name], last[name]) for name in first)
            verdict = f"the losses agree to {worst:.1g} %" if len(places) > 1 else "the losses are finite"
            yield Line("ok", "training", f"a step of {each['paper']} on {devices}: {verdict}")
    if why:
        yield Line("FAIL", "training", f"a step on {devices} took Paddle down: {why}")


def differences(losses: list[dict[str, float]], places: Sequence[str]) -> list[str]:
    """The losses that are no finite number, or that differ from the first place's by more than TOLERANCE."""
    found = []
    for place, each in zip(places, losses, strict=True):
        for name in sorted(losses[0].keys() | each.keys()):
            first, here = losses[0].get(name, math.nan), each.get(name, math.nan)
            if not math.isfinite(here):
                found.append(f"the loss {name} is {here} on {place}")
            elif not _apart(first, here) <= TOLERANCE:
                found.append(f"the loss {name} is {first:.6g} on {places[0]}, {here:.6g} on {place}")
    return found


def _apart(one: float, other: float) -> float:
    """The relative difference of a loss; of losses near zero, of 1e-3."""
    return abs(one - other) / max(abs(one), abs(other), 1e-3)


# ---- what to do next


def next_lines(papers: list[dict], sets: list[DataSet], place: str, options: Options) -> Iterator[Line]:
    """The command that trains each paper, on the data found; papers with data come first."""
    usable = sorted((each for each in sets if not each.problem), key=lambda each: not each.title.startswith("CelebA"))
    commands = []
    for each in papers:
        data = next((found for found in usable if found.pairs == each["pairs"]), None)
        kinds = ("quick",) if data is None else ("cpu",) if place == "cpu" else ("paper", "article")
        command = ["python", "-m", f"{each['paper']}.train", next(n for n in each["presets"] if n.startswith(kinds))]
        command += ["--data-dir", str(data.place)] if data else []
        command += ["--run-dir", str(options.run_dir / each["paper"])] if options.run_dir else []
        command += ["--device", options.device] if options.device != "auto" else []
        commands.append((data is None, shlex.join(command)))
    for _, command in sorted(commands):
        yield Line("next", "", command)


def checks(options: Options) -> Iterator[Line]:
    """Every line after Python's; those of the next commands come last."""
    builds = paddle_builds()
    yield from package_lines(builds)
    yield from build_lines(builds, getattr(sys.modules.get("numpy"), "__version__", "1."))
    facts = paddle_facts(options.device)
    yield paddle_line(builds, facts)
    yield from card_lines(facts, nvidia_cards())
    if "problem" in facts:
        yield Line("FAIL", "device", facts["problem"])
    yield processor_line()
    yield memory_line()
    yield shared_memory_line(cards=len(facts.get("cards", ())))
    yield disk_line(options.run_dir)
    sets = []
    try:
        sets = find_data(options.data_dir)
        yield from data_lines(sets, options.data_dir)
    except (ImportError, OSError) as problem:  # a package is missing, as told above; a folder must not be read
        yield Line("note", "data", f"not looked at: {_short(problem)}")
    if "place" in facts:
        places = list(dict.fromkeys(["cpu", facts["place"]]))
        code = f"from common import doctor; doctor.try_papers({places!r})"
        tried, why = in_child(code, NVIDIA_TF32_OVERRIDE="0")  # else cards round to 10 bits, more than is tolerated
        yield from training_lines(tried, why, places)
        yield from next_lines([each for each in tried if "losses" in each], sets, facts["place"], options)


def read_options(argv: Sequence[str] | None) -> Options:
    try:
        import tyro
    except ImportError:  # told in the line of the packages
        return Options()
    return tyro.cli(Options, args=argv, prog="python -m common.doctor")


@one_line_errors
def main(argv: Sequence[str] | None = None) -> None:
    first, failed = python_line(), False
    print(first, flush=True)
    if first.state == "FAIL":
        raise SystemExit(1)
    for line in checks(read_options(argv)):
        failed = failed or line.state == "FAIL"
        if line.state != "next" or not failed:
            print(line, flush=True)
    if failed:
        again = shlex.join(["python", "-m", "common.doctor", *(sys.argv[1:] if argv is None else argv)])
        print(Line("next", "", f"put right what is marked FAIL, then: {again}"))
        raise SystemExit(1)


if __name__ == "__main__":
    main()
