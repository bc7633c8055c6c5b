"""Faults are injected, and the doctor names each of them, says what to do, and ends with the right status."""

import ast
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.doctor import __main__ as doctor
from common.doctor import find_datasets, hardware, smoke_step
from common.doctor.__main__ import Line, Options
from common.errors import UserError

import paddle

ROOT = Path(__file__).parents[3]
GB = 2**30


def jpeg(width=178, height=218):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    data = io.BytesIO()
    Image.fromarray(noise).save(data, "JPEG")
    return data.getvalue()


def images(folder, count=60, data=None, first=1):
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(first, first + count):
        (folder / f"{n:06d}.jpg").write_bytes(data or jpeg(40, 30))
    return folder


def truncate(folder, numbers):
    for n in numbers:
        path = folder / f"{n:06d}.jpg"
        path.write_bytes(path.read_bytes()[:-100])


def run_doctor(folder, *flags, python_path=(), **environment):
    paths = os.pathsep.join(map(str, (*python_path, ROOT)))
    environment = {**os.environ, "HOME": str(folder / "home"), "PYTHONPATH": paths, **environment}
    command = [sys.executable, "-m", "common.doctor", *map(str, flags)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


# ---- the whole


@pytest.mark.medium
def test_a_healthy_machine_and_the_next_commands(tmp_path):
    """Really trains every paper; single images go to the papers that take them, pairs are drawn."""
    folder = images(tmp_path / "my images")
    done = run_doctor(tmp_path, "--data-dir", folder, "--device", "cpu", "--run-dir", tmp_path / "out")
    assert done.returncode == 0 and done.stderr == "", done.stderr + done.stdout
    lines = done.stdout.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "note", "next"}
    assert f"{folder}: images, 54 for training and 3 for validation; 20 of them decoded" in done.stdout
    papers = smoke_step.find_papers()
    assert len(papers) >= 5 and sorted(ROOT / paper / "train.py" for paper in papers) == sorted(ROOT.glob("*/train.py"))
    assert [line for line in lines if "a tiny training ends well" in line] == [
        str(Line("ok", "training", f"{paper} on cpu: a tiny training ends well")) for paper in papers
    ]
    commands = [line[6:].strip() for line in lines if line.startswith("next")]
    assert sorted(command.split()[2] for command in commands) == [f"{paper}.train" for paper in papers]
    for command in commands:
        paper = command.split()[2].removesuffix(".train")
        data = f" cpu --data-dir '{folder}'" if "write_faces" in (ROOT / paper / "train.py").read_text() else " quick"
        assert command == f"python -m {paper}.train{data} --run-dir {tmp_path}/out/{paper} --device cpu"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["home", "my images"]  # no run is left behind


@pytest.mark.medium
def test_paddle_that_does_not_import(tmp_path):
    (tmp_path / "fake/paddle").mkdir(parents=True)
    (tmp_path / "fake/paddle/__init__.py").write_text("raise ImportError('libcudnn.so.8: cannot open shared object')")
    done = run_doctor(tmp_path, "--run-dir", "a b", python_path=[tmp_path / "fake"])
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    lines = done.stdout.splitlines()
    (failed,) = [line for line in lines if line.startswith("FAIL")]
    builds = " and ".join(f"{name} {version}" for name, version in doctor.paddle_builds().items())
    assert failed == str(
        Line(
            "FAIL",
            "Paddle",
            f"{builds} is there but does not import (ImportError: libcudnn.so.8: cannot open shared object): install "
            "this library in the version that the build is for, or add its folder to LD_LIBRARY_PATH",
        )
    )
    assert any(line.startswith("ok    disk") for line in lines)  # the rest is examined all the same
    assert lines[-1].endswith("put right what is marked FAIL, then: python -m common.doctor --run-dir 'a b'")
    assert sum(line.startswith("next") for line in lines) == 1


def test_paddle_that_takes_the_process_down():
    code = "import os; os.write(2, b'FatalError: no kernel image\\n  [stack]\\n'); os.abort()"
    said, why = doctor.in_child(code)
    assert (said, why) == ([], "FatalError: no kernel image (killed by SIGABRT)")
    (line,) = doctor.paddle_lines({}, why, {"paddlepaddle": "3.3.1"})
    assert line.state == "FAIL" and why in line.value
    *_, line = doctor.training_lines([], why, "gpu:0")
    assert line == Line("FAIL", "training", f"on gpu:0 it took Paddle down: {why}")


def test_a_child_is_heard_among_other_words():
    said = doctor.in_child("print('W0 gpu_resources'); print('{odd'); print('{\"a\": 1}')\nraise ValueError('x\\ny')")
    assert said == ([{"a": 1}], "ValueError: x")


def test_an_old_python_is_told_so_and_nothing_else_is_tried(monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    monkeypatch.setattr(doctor, "checks", lambda _: pytest.fail("went on"))
    with pytest.raises(SystemExit) as stop:
        doctor.main([])
    assert stop.value.code == 1 and "is too old" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["__init__", "errors", "runtime/commands", "doctor/__main__"])
def test_an_old_python_gets_as_far_as_that(name):
    """Python 3.7's grammar, no package at the top, no annotation that is evaluated."""
    tree = ast.parse((ROOT / f"common/{name}.py").read_text(), feature_version=(3, 7))
    modules = {node.names[0].name if isinstance(node, ast.Import) else node.module for node in tree.body
               if isinstance(node, ast.Import | ast.ImportFrom)}  # fmt: skip
    known = set(sys.stdlib_module_names) | {"common"}
    assert all(module.split(".")[0] in known and module != "importlib.metadata" for module in modules)
    if name not in ("errors", "__init__"):
        assert "__future__" in modules


def test_help_and_a_wrong_flag(capsys):
    for flags, status in ((["--help"], 0), (["--sped"], 2)):
        with pytest.raises(SystemExit) as stop:
            doctor.main(flags)
        assert stop.value.code == status
    assert "--data-dir" in capsys.readouterr().out


# ---- packages


def install(folder, name, version):
    """What pip leaves of a package: its metadata."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


def test_both_builds_installed(tmp_path, monkeypatch):
    install(tmp_path, "paddlepaddle", "2.6.1")
    install(tmp_path, "paddlepaddle-gpu", "2.6.2")
    install(tmp_path, "paddlepaddle-hub", "1.0")
    (tmp_path / "half_removed-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    builds = doctor.paddle_builds()
    assert builds == {"paddlepaddle": "2.6.1", "paddlepaddle-gpu": "2.6.2"}
    line = list(doctor.package_lines(builds))[1]
    assert line.state == "FAIL" and "pip uninstall -y paddlepaddle paddlepaddle-gpu" in line.value


@pytest.mark.parametrize(
    "version, numpy_version, fails", [("2.6.2", "2.1.3", 1), ("2.6.2", "1.26.4", 0), ("3.3.1", "2.4.6", 0)]
)
def test_numpy_2_and_paddle_2(monkeypatch, version, numpy_version, fails):
    monkeypatch.setattr(np, "__version__", numpy_version)
    lines = [line for line in doctor.package_lines({"paddlepaddle-gpu": version}) if line.state == "FAIL"]
    assert len(lines) == fails
    assert all('pip install "numpy<2" "opencv-python-headless<4.12"' in line.value for line in lines)


@pytest.mark.parametrize(
    "version, wanted", [("3.3.1", "opencv-python-headless"), ("2.6.2", '"opencv-python-headless<4.12"')]
)
def test_opencv_missing(monkeypatch, version, wanted):
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr(np, "__version__", "1.26.4")
    values = [line.value for line in doctor.package_lines({"paddlepaddle": version}) if line.state == "FAIL"]
    assert [value.partition("pip install ")[2] for value in values] == ["tqdm", wanted]


def test_opencv_without_its_libraries(tmp_path, monkeypatch):
    (tmp_path / "cv2.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    monkeypatch.delitem(sys.modules, "cv2")
    monkeypatch.syspath_prepend(str(tmp_path))
    (line,) = doctor.package_lines({})
    assert line.state == "FAIL" and "libGL.so.1" in line.value and "pip install opencv-python-headless" in line.value


def test_the_packages_are_those_of_setup():
    text = (ROOT / "setup.py").read_text().split("install_requires=[")[1].split("]")[0]
    assert {line.strip(' ",').split(">")[0] for line in text.split("\n") if ">" in line} == set(
        doctor.PACKAGES.values()
    )
    (line,) = doctor.package_lines({})
    assert line.state == "ok" and f"numpy {np.__version__}" in line.value


# ---- GPUs


@pytest.mark.skipif(os.name != "posix", reason="a script stands in for nvidia-smi")
def test_why_there_is_no_gpu(tmp_path, monkeypatch):
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\necho 535.104.05\necho 535.104.05\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert "driver 535.104.05 may be too old" in hardware.why_no_gpu(cuda=True)
    assert "paddlepaddle-gpu does" in hardware.why_no_gpu(cuda=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "CUDA_VISIBLE_DEVICES=-1 hides them" in hardware.why_no_gpu(cuda=True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    script.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed because it could not talk to the driver'\nexit 9\n")
    assert "no NVIDIA driver answers" in hardware.why_no_gpu(cuda=True) and hardware.why_no_gpu(cuda=False) == ""
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert "no NVIDIA driver answers" in hardware.why_no_gpu(cuda=True) and hardware.why_no_gpu(cuda=False) == ""


def test_what_paddle_says_of_its_devices(monkeypatch, capsys):
    doctor.probe("cpu")
    report = {k: v for line in capsys.readouterr().out.splitlines() for k, v in json.loads(line).items()}
    assert report["Paddle"].startswith(f"{paddle.__version__}, built for") and report["place"] == "cpu"
    monkeypatch.setattr(doctor, "why_no_gpu", lambda cuda: "hidden")
    lines = list(doctor.paddle_lines({**report, "gpus": 0}, "", {}))
    assert lines[1:] == [Line("note", "GPU", "hidden"), Line("ok", "device", report["device"])]
    assert [line.what for line in doctor.paddle_lines({**report, "gpus": 1}, "", {})] == ["Paddle", "device"]
    with pytest.raises(UserError):
        doctor.probe("tpu")


def test_a_device_that_cannot_be_used():
    (line,) = [line for line in doctor.checks(Options(device="tpu")) if line.state == "FAIL"]
    assert line.what == "device" and line.value.startswith("unknown device 'tpu'; use auto, cpu, gpu")


# ---- the disk


def test_disk(tmp_path, monkeypatch):
    line = Line(*hardware.look_at_disk(tmp_path / "new/runs"))
    assert line.state in ("ok", "note") and str(tmp_path / "new/runs") in line.value and not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file/runs"):  # in the way
        line = Line(*hardware.look_at_disk(folder))
        assert line.state == "FAIL" and f"cannot write {folder}: Not a directory; name another --run-dir" in line.value
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(hardware.shutil, "disk_usage", lambda _: usage(0, 0, int(1.5 * GB)))
    assert Line(*hardware.look_at_disk(tmp_path)).state == "note"
    assert Line(*hardware.look_at_disk(tmp_path)).value.startswith("1.5 GB free")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware.tempfile, "TemporaryFile", lambda dir: open("/dev/full", "wb"))  # noqa: SIM115, PTH123
    line = Line(*hardware.look_at_disk(tmp_path))
    assert line.state == "FAIL" and "No space left" in line.value


# ---- data


def celeba(folder, listed=True):
    images(folder / "img_align_celeba", data=jpeg())
    if listed:
        codes = [0] * 54 + [1] * 3 + [2] * 3
        (folder / "list_eval_partition.txt").write_text("".join(f"{n:06d}.jpg {c}\n" for n, c in enumerate(codes, 1)))
    return folder


def zipped(folder, name="img_align_celeba.zip"):
    with zipfile.ZipFile(folder / name, "w") as archive:
        for path in sorted(folder.rglob("*.jpg")):
            archive.write(path, path.relative_to(folder))
    for path in folder.rglob("*.jpg"):
        path.unlink()


def only(place):
    (found,) = find_datasets.explore(place)
    return found


def test_celeba(tmp_path):
    found = only(celeba(tmp_path / "faces"))
    assert found.title == "CelebA, 54 for training and 3 for validation; 20 of them decoded"
    assert (found.place, found.pairs, found.problem, found.note) == (tmp_path / "faces", False, "", "")
    assert "list_eval_partition.txt" in only(celeba(tmp_path / "unlisted", listed=False)).problem


def test_celebas_zip(tmp_path):
    zipped(celeba(tmp_path / "data12"))
    (tmp_path / "data12/img_align_celeba").rmdir()
    assert only(tmp_path / "data12").title.startswith("CelebA, 54")
    assert only(tmp_path / "data12/img_align_celeba.zip").title.startswith("CelebA, 54")
    (tmp_path / "data12/list_eval_partition.txt").unlink()
    alone = only(tmp_path / "data12/img_align_celeba.zip")
    assert (
        f"python -m data.prepare celeba {tmp_path}/data12/img_align_celeba.zip --output data/img_align_celeba"
        in alone.problem
    )


def test_archives(tmp_path):
    mount = images(tmp_path / "data345/cityscapes/train").parents[1]
    zipped(mount, "cityscapes.zip")
    photos = only(mount)  # a zip of photos is a data set as it is
    assert photos.place == mount / "cityscapes.zip" and not photos.problem
    assert photos.title.startswith("images in a zip, ")
    shutil.rmtree(mount)
    zipped(images(tmp_path / "data345/cityscapes/train", 3, jpeg(80, 40)).parents[1], "cityscapes.zip")
    assert "data.prepare cityscapes" in only(mount).problem
    (tmp_path / "page.zip").write_text("<html>")
    assert "web page" in only(tmp_path / "page.zip").problem
    (tmp_path / "x.tar.gz").write_bytes(b"")
    assert "python -m data.prepare images" in only(tmp_path / "x.tar.gz").problem
    assert "takes a folder or a zip" in only(images(tmp_path / "p", 1) / "000001.jpg").problem


def test_pairs(tmp_path):
    images(tmp_path / "joined/train", 30, jpeg(80, 40))
    assert ", 29 for training and 1 for validation" in only(tmp_path / "joined").title  # every twentieth is held out
    images(tmp_path / "joined/val", 4, jpeg(80, 40))
    found = only(tmp_path / "joined")
    assert (
        found.pairs
        and found.title == "pairs of photo and label, 30 for training and 4 for validation; 20 of them decoded"
    )
    images(tmp_path / "apart/trainA", 5)
    images(tmp_path / "apart/trainB", 4)
    spoilt = only(tmp_path / "apart")
    assert spoilt.pairs and "without a partner" in spoilt.problem and "000005" in spoilt.problem


def test_single_pictures_in_splits_are_no_pairs(tmp_path):
    for split in ("train", "val", "test"):
        images(tmp_path / split, 3)
    found = only(tmp_path)
    assert not found.pairs and found.title == "images, 3 for training and 3 for validation; 3 of them decoded"


@pytest.mark.parametrize("count, state", [(0, "ok"), (1, "note"), (2, "FAIL")])
def test_truncated_pictures(tmp_path, count, state):
    """The readers' first image and their last are among those tried."""
    truncate(images(tmp_path / "p"), [1, 58][:count])
    sets = find_datasets.find_data(tmp_path / "p")
    (line,) = doctor.data_lines(sets, tmp_path / "p")
    assert line.state == state
    assert f"corrupt: {count} of 20 tried" in line.value or count == 0
    assert f"`python -m data.prepare verify {tmp_path}/p` names all" in line.value or count == 0
    (line,) = doctor.data_lines(sets, None)  # found, not asked for: quick still works
    assert line.state == ("note" if count else "ok")
    papers = [{"paper": "a", "presets": ["quick", "cpu"], "pairs": False}]
    (command,) = doctor.next_lines(papers, sets, "cpu", Options())
    assert ("quick" in command.value) == (count == 2)


def test_where_data_is_looked_for(tmp_path, monkeypatch):
    """data/ of the working folder, and AI Studio's mounts in the home folder; what lies elsewhere is not searched."""
    home = tmp_path / "home"
    monkeypatch.setattr(Path, "home", lambda: home)
    monkeypatch.setattr(find_datasets, "ROOT", tmp_path / "clone")
    monkeypatch.chdir(tmp_path)
    assert list(doctor.data_lines(find_datasets.find_data(None), None))[0].state == "note"
    celeba(home / "data/data12345/archive")
    images(home / "data/private")
    images(tmp_path / "data/mine/deeper")
    images(tmp_path / "data/__pycache__")
    images(tmp_path / "clone/data/theirs/train", 20, jpeg(80, 40))
    (tmp_path / "data/page.zip").write_text("<html>")
    places = [str(each.place) for each in find_datasets.find_data(None)]
    clone = tmp_path / "clone/data/theirs"
    assert places == ["data/mine", "data/page.zip", str(clone), str(home / "data/data12345/archive")]
    monkeypatch.chdir(tmp_path / "clone")
    assert [str(each.place) for each in find_datasets.find_data(None)] == ["data/theirs", places[-1]]  # once, not twice
    celeba(tmp_path / "clone/data")
    assert [str(each.place) for each in find_datasets.find_data(None)] == ["data", places[-1]]


@pytest.mark.parametrize("user", ["aistudio", "someone"])
def test_data_sets_that_ai_studio_mounts_are_found(user, tmp_path, monkeypatch):
    """In a notebook's home folder, whoever it runs as, once each; of a script job above the code, which is the cwd."""
    home, job = tmp_path / "home/aistudio", tmp_path / "paddlejob/workspace"
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home" / user)
    monkeypatch.setattr(find_datasets, "AI_STUDIO", home)
    clone = home / "work/suite"
    clone.mkdir(parents=True)
    monkeypatch.setattr(find_datasets, "ROOT", clone)
    monkeypatch.chdir(clone)
    assert find_datasets.find_data(None) == []
    celeba(home / "data/data12345")
    images(home / "data/faces/train", 20, jpeg(80, 40))
    images(tmp_path / "home/someone/data/private")
    celeba(job / "train_data/datasets/data777/archive")
    images(job / "train_data/datasets/other")
    found = sorted(each.place for each in find_datasets.find_data(None))
    assert found == [home / "data/data12345", home / "data/faces"]
    (job / "code").mkdir()
    monkeypatch.chdir(job / "code")
    monkeypatch.setattr(find_datasets, "ROOT", job / "code")
    monkeypatch.setattr(find_datasets, "AI_STUDIO", tmp_path / "none")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "none")
    (found,) = find_datasets.find_data(None)
    assert found.place == job / "train_data/datasets/data777/archive" and found.title.startswith("CelebA")


def test_the_examples_are_never_offered_as_training_data(tmp_path, monkeypatch):
    """In a fresh clone they are the only images in data/, half of them masks; also in another clone than this one."""
    clone = tmp_path / "clone"
    images(clone / "data/examples/faces", 3)
    images(clone / "data/examples/masks", 3)
    (clone / "data/draw_examples.py").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path))
    for here in (clone, ROOT):
        monkeypatch.chdir(here)
        assert not [each.place for each in find_datasets.find_data(None) if find_datasets.is_example(each.place)]
    monkeypatch.setattr(find_datasets, "ROOT", clone)
    for here in (clone, tmp_path):
        monkeypatch.chdir(here)
        assert find_datasets.find_data(None) == []
    for given in (clone / "data", clone / "data/examples", clone / "data/examples/faces"):
        (found,) = find_datasets.find_data(given)
        (line,) = doctor.data_lines([found], given)
        assert line.state == "FAIL" and "the preset quick" in line.value
    images(clone / "data/mine/examples", 30)  # of the user's own
    assert [each.place.name for each in find_datasets.find_data(None)] == ["mine"]


def test_data_that_is_not_there(tmp_path):
    for place, said in ((tmp_path / "none", "is not there"), (tmp_path, "holds no image")):
        (line,) = doctor.data_lines(find_datasets.find_data(place), place)
        assert line.state == "FAIL" and said in line.value


# ---- a training of every paper


def test_a_paper_that_cannot_be_trained(monkeypatch, capsys):
    """It does not keep the others from being tried, and is told."""
    monkeypatch.setattr(smoke_step, "find_papers", lambda: ["common", "no_paper"])
    smoke_step.try_papers("cpu")
    tried = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    lines = list(doctor.training_lines(tried, "", "cpu"))
    assert [line.state for line in lines] == ["FAIL"] * 2 and "no_paper on cpu: ModuleNotFoundError" in lines[1].value


# ---- what to do next

PAPERS = [
    {"paper": "streets", "presets": ["quick", "cpu", "article-x", "paper"], "pairs": True},
    {"paper": "faces", "presets": ["quick", "cpu", "paper-celeba", "article"], "pairs": False},
]
FOLDER = find_datasets.DataSet(Path("my data"), False, "images")
CELEBA = find_datasets.DataSet(Path("celeba"), False, "CelebA, 3 for training")
PAIRS = find_datasets.DataSet(Path("pairs"), True, "pairs of photo and label")


@pytest.mark.parametrize(
    "sets, place, options, commands",
    [
        ([], "cpu", Options(), ["faces.train quick", "streets.train quick"]),
        ([], "gpu:0", Options(), ["faces.train quick", "streets.train quick"]),
        ([FOLDER], "cpu", Options(), ["faces.train cpu --data-dir 'my data'", "streets.train quick"]),
        ([FOLDER, CELEBA, PAIRS], "gpu:0", Options(),
         ["faces.train paper-celeba --data-dir celeba", "streets.train article-x --data-dir pairs"]),
        ([PAIRS], "gpu:1", Options(run_dir=Path("r"), device="gpu:1"),
         ["streets.train article-x --data-dir pairs --run-dir r/streets --device gpu:1",
          "faces.train quick --run-dir r/faces --device gpu:1"]),
    ],
)  # fmt: skip
def test_the_next_commands(sets, place, options, commands):
    lines = list(doctor.next_lines(PAPERS, sets, place, options))
    assert [line.value for line in lines] == [f"python -m {command}" for command in commands]


def test_a_missing_reader_is_told_once(monkeypatch):
    monkeypatch.setattr(doctor, "in_child", lambda _: ([], "ImportError: x"))
    monkeypatch.setitem(sys.modules, "common.doctor.find_datasets", None)
    (line,) = [line for line in doctor.checks(Options()) if line.what == "data"]
    assert line.state == "note" and line.value.startswith("not looked at: ")
