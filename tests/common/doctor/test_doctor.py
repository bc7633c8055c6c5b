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
from common.training import run

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


def states(lines):
    return [line.state for line in lines]


# ---- the whole


@pytest.mark.medium
def test_a_healthy_machine_and_the_next_commands(tmp_path):
    """Really trains a step of every paper; single images go to the papers that take them, pairs are drawn."""
    folder = images(tmp_path / "my images")
    done = run_doctor(tmp_path, "--data-dir", folder, "--device", "cpu", "--run-dir", tmp_path / "out")
    assert done.returncode == 0 and done.stderr == "", done.stderr + done.stdout
    lines = done.stdout.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "note", "next"}
    assert f"{folder}: images, 54 for training and 3 for validation; 20 of them decoded" in done.stdout
    papers = smoke_step.find_papers()
    assert len(papers) >= 5 and sorted(ROOT / paper / "train.py" for paper in papers) == sorted(ROOT.glob("*/train.py"))
    assert [line for line in lines if "the losses are finite" in line] == [
        str(Line("ok", "training", f"a step of {paper} on cpu: the losses are finite")) for paper in papers
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


def test_paddle_that_takes_the_process_down(tmp_path, monkeypatch):
    (tmp_path / "paddle.py").write_text(
        "import os; os.write(2, b'FatalError: no kernel image\\n  [stack]\\n'); os.abort()"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    report = doctor.ask_paddle("auto")
    assert report == {"import_error": "FatalError: no kernel image (killed by SIGABRT)"}
    line = doctor.paddle_line({"paddlepaddle": "3.3.1"}, report)
    assert line.state == "FAIL" and "no kernel image" in line.value


def test_a_child_that_hangs(monkeypatch):
    monkeypatch.setattr(doctor, "CHILD_SECONDS", 0.2)
    assert doctor.in_child("import time; time.sleep(60)") == ([], "no answer in 0.2 s")


def test_a_child_is_heard_among_other_words():
    said = doctor.in_child("print('W0 gpu_resources'); print('{odd'); print('{\"a\": 1}')\nraise ValueError('x\\ny')")
    assert said[0] == [{"a": 1}] and said[1] == "ValueError: x"
    code = "import json, os; print(json.dumps({'a': os.environ['PLANTED']}))"
    assert doctor.in_child(code, PLANTED="yes") == ([{"a": "yes"}], "")


def test_an_old_python_is_told_so_and_nothing_else_is_tried(monkeypatch, capsys):
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    monkeypatch.setattr(doctor, "checks", lambda _: pytest.fail("went on"))
    with pytest.raises(SystemExit) as stop:
        doctor.main([])
    assert stop.value.code == 1 and "is too old" in capsys.readouterr().out
    monkeypatch.setattr(sys, "version_info", (3, 14, 0))
    assert doctor.python_line().state == "note"


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
    (line,) = doctor.build_lines(builds, "1.26.4")
    assert line.state == "FAIL" and "pip uninstall -y paddlepaddle paddlepaddle-gpu" in line.value


@pytest.mark.parametrize(
    "version, numpy_version, fails", [("2.6.2", "2.1.3", 1), ("2.6.2", "1.26.4", 0), ("3.3.1", "2.4.6", 0)]
)
def test_numpy_2_and_paddle_2(version, numpy_version, fails):
    lines = list(doctor.build_lines({"paddlepaddle-gpu": version}, numpy_version))
    assert states(lines) == ["FAIL"] * fails
    assert all('pip install "numpy<2" "opencv-python-headless<4.12"' in line.value for line in lines)


@pytest.mark.parametrize(
    "version, wanted", [("3.3.1", "opencv-python-headless"), ("2.6.2", '"opencv-python-headless<4.12"')]
)
def test_opencv_missing(monkeypatch, version, wanted):
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    (line,) = doctor.package_lines({"paddlepaddle": version})
    assert line == Line("FAIL", "packages", f"not installed: pip install tqdm {wanted}")


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

Card = namedtuple("Card", "name major minor total_memory")


@pytest.fixture
def cuda(monkeypatch):
    """Makes this Paddle say that it is built for CUDA and finds these GPUs."""

    def pretend(*gpus):
        monkeypatch.setattr(paddle, "is_compiled_with_cuda", lambda: True)
        monkeypatch.setattr(paddle.device.cuda, "device_count", lambda: len(gpus))
        monkeypatch.setattr(paddle.device.cuda, "get_device_properties", lambda number: gpus[number])
        monkeypatch.setattr(paddle.version, "cuda", lambda: "11.8")
        monkeypatch.setattr(paddle.version, "cudnn", lambda: "8.6.0")
        place = namedtuple("CUDAPlace", "number get_device_id")
        monkeypatch.setattr(paddle, "CUDAPlace", lambda number: place(number, lambda: number))
        opened = []
        monkeypatch.setattr(paddle, "set_device", opened.append)
        return opened

    return pretend


def probed(device, capsys):
    doctor.probe(device)
    return {k: v for line in capsys.readouterr().out.splitlines() for k, v in json.loads(line).items()}


def test_a_cuda_build_without_a_card(cuda, capsys, monkeypatch):
    """paddle.set_device("gpu") would kill the process there: it is not called."""
    opened = cuda()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    report = probed("auto", capsys)
    assert report["place"] == "cpu" and report["gpus"] == [] and opened == ["cpu"]
    assert doctor.paddle_line({}, report).value == f"{paddle.__version__}, built for CUDA 11.8, cuDNN 8.6.0"
    (line,) = hardware.gpu_lines(report, None)
    assert line.state == "note" and "no NVIDIA driver" in line.value and "trains on the processor" in line.value
    driver, gpu = hardware.gpu_lines(report, ["450.80, Tesla T4, 15000, 15360"])
    assert driver == Line("ok", "driver", "450.80, Tesla T4, 14.6 GB of 15.0 GB free")
    assert gpu.state == "note" and "450.80 may be too old" in gpu.value
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "CUDA_VISIBLE_DEVICES=-1 hides" in list(hardware.gpu_lines(report, ["450.80, Tesla T4, 1, 2"]))[1].value
    assert "finds 0 usable GPU" in probed("gpu", capsys)["problem"] and opened == ["cpu"]
    assert "use auto, cpu, gpu" in probed("tpu", capsys)["problem"]


def test_a_cpu_build_beside_a_card():
    report = {"version": "3.3.1", "cuda": False, "gpus": [], "place": "cpu"}
    assert list(hardware.gpu_lines(report, None)) == []
    driver, gpu = hardware.gpu_lines(report, ["535.104, Tesla T4, 1024, 15360"])
    assert driver.state == "note" and "1.0 GB of 15.0 GB free: nvidia-smi names" in driver.value
    assert gpu.state == "note" and "paddlepaddle-gpu does" in gpu.value


def test_the_cards_that_paddle_finds(cuda, capsys):
    cuda(Card("Tesla P100", 6, 0, 16 * GB), Card("Tesla T4", 7, 5, 15 * GB))
    report = {**probed("gpu:1", capsys), "version": "2.6.2"}
    assert report["place"] == "gpu:1"
    lines = list(hardware.gpu_lines(report, ["535.104, A, [N/A], [N/A]"]))
    assert states(lines) == ["ok", "note", "ok"] and lines[0].value == "535.104, A"
    assert lines[2].value == "gpu:1 Tesla T4, 15.0 GB, compute capability 7.5"


@pytest.mark.parametrize(
    "version, capability, state",
    [
        *(("2.6.2", capability, "FAIL") for capability in [(5, 2), (6, 0), (9, 0), (12, 0)]),
        *(("2.6.2", capability, "ok") for capability in [(6, 1), (7, 0), (7, 5), (8, 0), (8, 6)]),
        ("2.6.2", (8, 9), "note"),  # runs code for 8.6, says CUDA's guide
        ("3.3.1", (12, 0), "ok"),
    ],
)
def test_compute_capabilities(version, capability, state):
    gpu = {"name": "X", "capability": list(capability), "bytes": 8 * GB}
    report = {"version": version, "cuda": True, "gpus": [gpu], "place": "gpu:0"}
    (line,) = hardware.gpu_lines(report, None)
    assert line.state == state and ("Paddle 3" in line.value) == (state == "FAIL")


@pytest.mark.skipif(os.name != "posix", reason="a script stands in for nvidia-smi")
def test_nvidia_smi(tmp_path, monkeypatch):
    script = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    script.write_text("#!/bin/sh\necho '535.104.05, Tesla T4, 14900, 15360'\n")
    script.chmod(0o755)
    assert hardware.nvidia_gpus() == ["535.104.05, Tesla T4, 14900, 15360"]
    script.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed because it could not talk to the driver'\nexit 9\n")
    assert hardware.nvidia_gpus() is None
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert hardware.nvidia_gpus() is None


# ---- the machine


@pytest.fixture
def memory(tmp_path):
    """Writes files below proc/ and cgroup/: memory(total GB, free GB, groups, {path: text})."""

    def write(total, free, groups="", files=()):
        meminfo = (
            f"MemTotal: {int(total * 2**20)} kB\nMemFree: 1 kB\nMemAvailable: {int(free * 2**20)} kB\nHugePages: 0\n"
        )
        for name, text in {"proc/meminfo": meminfo, "proc/self/cgroup": groups, **dict(files)}.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(str(text))
        return hardware.memory_line(tmp_path / "proc", tmp_path / "cgroup")

    return write


def test_memory_without_a_limit(memory, tmp_path):
    assert memory(16, 10) == Line("ok", "memory", "10.0 GB of 16.0 GB free")
    assert memory(16, 1.5).state == "note" and "--batch-size" in memory(16, 1.5).value
    assert hardware.memory_line(tmp_path / "nowhere").state == "note"


def test_memory_of_a_container_version_2(memory):
    """Limit 8, used 7, of which 3 is cache: 4 free. The group above has less left: 5 - 4.5."""
    own = {"cgroup/a/b/memory.max": 8 * GB, "cgroup/a/b/memory.current": 7 * GB,
           "cgroup/a/b/memory.stat": f"anon 1\ninactive_file {3 * GB}\n"}  # fmt: skip
    line = memory(64, 50, "0::/a/b\n", own)
    assert line == Line("ok", "memory", "4.0 GB of 8.0 GB, the limit of this container, free")
    above = {"cgroup/a/memory.max": 5 * GB, "cgroup/a/memory.current": int(4.5 * GB), "cgroup/a/memory.stat": ""}
    assert memory(64, 50, "0::/a/b\n", above).value.startswith("512 MB of 5.0 GB")
    assert memory(64, 50, "0::/a/b\n", above).state == "note"
    unlimited = {"cgroup/a/memory.max": "max", "cgroup/a/b/memory.max": "max"}
    assert memory(64, 50, "0::/a/b\n", unlimited).value == "50.0 GB of 64.0 GB free"


@pytest.mark.parametrize("path", ["/docker/abc", "/../outside"])
def test_memory_of_a_container_version_1(memory, path):
    """Inside, the container's own group is at the top and the path leads nowhere."""
    files = {"memory.limit_in_bytes": 3 * GB, "memory.usage_in_bytes": GB, "memory.stat": "inactive_file 7\n"}
    line = memory(64, 50, f"5:cpu,cpuacct:/x\n4:memory:{path}\n", {f"cgroup/memory/{k}": v for k, v in files.items()})
    assert line == Line("ok", "memory", "2.0 GB of 3.0 GB, the limit of this container, free")
    no_limit = {"cgroup/memory/memory.limit_in_bytes": 9223372036854771712}
    assert memory(64, 50, f"4:memory:{path}\n", no_limit).value == "50.0 GB of 64.0 GB free"


def test_threads(monkeypatch):
    monkeypatch.setattr(hardware, "cpu_count", lambda: 8)
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert hardware.processor_line() == Line("ok", "processor", "8 cores, 8 threads")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert hardware.processor_line().state == "note" and "unset it" in hardware.processor_line().value


def test_shared_memory(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(hardware.shutil, "disk_usage", lambda _: usage(64 * 2**20, 0, 64 * 2**20))
    assert list(hardware.shared_memory_lines(1, tmp_path)) == []
    (line,) = hardware.shared_memory_lines(2, tmp_path)
    assert (
        line.state == "note" and line.value.startswith(f"64 MB in {tmp_path} is little") and "--shm-size" in line.value
    )


def test_disk(tmp_path, monkeypatch):
    line = hardware.disk_line(tmp_path / "new/runs")
    assert line.state in ("ok", "note") and str(tmp_path / "new/runs") in line.value and not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file/runs"):  # in the way
        line = hardware.disk_line(folder)
        assert line.state == "FAIL" and f"cannot write {folder}: Not a directory; name another --run-dir" in line.value
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(hardware.shutil, "disk_usage", lambda _: usage(0, 0, int(1.5 * GB)))
    assert hardware.disk_line(tmp_path).state == "note"
    assert hardware.disk_line(tmp_path).value.startswith("1.5 GB free")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(hardware.tempfile, "TemporaryFile", lambda dir: open("/dev/full", "wb"))  # noqa: SIM115, PTH123
    line = hardware.disk_line(tmp_path)
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
    assert "python -m data.prepare --help" in only(tmp_path / "x.tar.gz").problem
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


# ---- a step of every paper


@pytest.mark.medium
def test_two_places_are_compared_paper_by_paper(monkeypatch, capsys):
    """CPU against CPU, where each seed is another: as a GPU's generator would, it draws other numbers from it."""
    seed, seeds = paddle.seed, []

    def other(number):
        seeds.append(number)
        return seed(number + len(seeds))

    papers = smoke_step.find_papers()[:2]
    monkeypatch.setattr(smoke_step, "find_papers", lambda: papers)
    monkeypatch.setattr(paddle, "seed", other)
    smoke_step.try_papers(["cpu", "cpu"])
    said = capsys.readouterr()
    tried = [json.loads(line) for line in said.out.splitlines()]
    assert [each["paper"] for each in tried] == smoke_step.find_papers() and said.err == ""
    assert len(seeds) >= 4 * len(tried)
    for each in tried:
        assert "problem" not in each, each
        assert each["losses"][0] == each["losses"][1] and len(each["losses"][0]) >= 2
    lines = list(doctor.training_lines(tried, "", ["cpu", "gpu:0"]))
    assert states(lines) == ["ok"] * len(tried)
    assert all("on cpu and gpu:0: the losses agree to 0 %" in line.value for line in lines)


@pytest.mark.medium
def test_a_planted_difference_is_found(monkeypatch, capsys):
    """The second place computes another loss; only its paper fails."""
    papers = smoke_step.find_papers()[:2]
    monkeypatch.setattr(smoke_step, "find_papers", lambda: papers)
    record, runs = run.Run.record, []

    def spoilt(run, losses):
        runs.append(run)
        record(run, {k: 1.002 * v for k, v in losses.items()} if len(runs) == 2 else losses)

    monkeypatch.setattr(run.Run, "record", spoilt)
    smoke_step.try_papers(["cpu", "cpu"])
    tried = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    lines = list(doctor.training_lines(tried, "", ["cpu", "gpu:0"]))
    assert states(lines) == ["FAIL", "ok"]
    assert "on cpu, " in lines[0].value and papers[0] in lines[0].value and "--device cpu" in lines[0].value


def test_differences():
    places = ["cpu", "gpu:0"]
    assert doctor.differences([{"a": 1.0, "b": -2.0}, {"a": 1.0009, "b": -2.0}], places) == []
    assert doctor.differences([{"a": 1.0}, {"a": 1.0011}], places) == ["the loss a is 1 on cpu, 1.0011 on gpu:0"]
    assert doctor.differences([{"a": 0.0}, {"a": 9e-7}], places) == []  # of losses near zero, the rounding
    assert len(doctor.differences([{"a": 0.0}, {"a": 2e-6}], places)) == 1
    assert doctor.differences([{"a": float("inf")}], ["cpu"]) == ["the loss a is inf on cpu"]
    missing = ["the loss a is nan on gpu:0", "the loss b is nan on cpu, 1 on gpu:0"]
    assert doctor.differences([{"a": 1.0}, {"b": 1.0}], places) == missing


def test_a_step_that_cannot_be_done(monkeypatch, capsys):
    """A paper that fails does not keep the others from being tried; one that kills the process is told."""
    monkeypatch.setattr(smoke_step, "find_papers", lambda: ["common", "no_paper"])
    smoke_step.try_papers(["cpu"])
    tried = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    lines = list(doctor.training_lines(tried, "OSError: no kernel image", ["cpu", "gpu:0"]))
    assert states(lines) == ["FAIL"] * 3 and "took Paddle down: OSError: no kernel image" in lines[2].value


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


def on_a_gpu(monkeypatch, losses):
    """A machine with a GPU, as its two children describe it."""
    report = {"version": "3.3.1", "build": "for CUDA 12.6, cuDNN 9.5", "cuda": True, "place": "gpu:0",
             "gpus": [{"name": "Tesla T4", "capability": [7, 5], "bytes": 15 * GB}]}  # fmt: skip
    tried = {**PAPERS[1], "losses": losses}
    asked = []

    def child(code, **environment):
        asked.append((code, environment))
        return ([report], "") if "probe" in code else ([tried], "")

    monkeypatch.setattr(doctor, "in_child", child)
    monkeypatch.setattr(hardware, "nvidia_gpus", lambda: ["535.104.05, Tesla T4, 14900, 15360"])
    return asked


def test_a_card_that_computes_as_the_processor_does(monkeypatch, capsys, tmp_path):
    asked = on_a_gpu(monkeypatch, [{"a": 1.0}, {"a": 1.00002}])
    doctor.main(["--data-dir", str(images(tmp_path / "p"))])
    said = capsys.readouterr().out
    assert "a step of faces on cpu and gpu:0: the losses agree to 0.002 %" in said
    assert said.splitlines()[-1].endswith(f"python -m faces.train paper-celeba --data-dir {tmp_path}/p")
    assert asked[1] == (
        "from common.doctor.smoke_step import try_papers; try_papers(['cpu', 'gpu:0'])",
        {"NVIDIA_TF32_OVERRIDE": "0"},
    )


def test_a_card_that_computes_something_else(monkeypatch, capsys, tmp_path):
    on_a_gpu(monkeypatch, [{"a": 1.0}, {"a": 1.5}])
    with pytest.raises(SystemExit) as stop:
        doctor.main(["--data-dir", str(images(tmp_path / "p")), "--device", "gpu"])
    said = capsys.readouterr().out.splitlines()
    assert stop.value.code == 1
    assert [line for line in said if line.startswith("FAIL")] == [
        str(Line("FAIL", "training", "a step of faces on cpu and gpu:0: the loss a is 1 on cpu, 1.5 on gpu:0; "
                                     "--device cpu does without the GPU"))
    ]  # fmt: skip
    assert said[-1].endswith(f"then: python -m common.doctor --data-dir {tmp_path}/p --device gpu")
    assert sum(line.startswith("next") for line in said) == 1


def test_a_device_that_cannot_be_used(monkeypatch):
    report = {
        "version": "3.3.1",
        "build": "for CPU",
        "cuda": False,
        "gpus": [],
        "problem": "--device gpu: a CPU build",
    }
    monkeypatch.setattr(doctor, "ask_paddle", lambda _: report)
    lines = list(doctor.checks(Options(device="gpu")))
    assert Line("FAIL", "device", "--device gpu: a CPU build") in lines
    assert not {"training", ""} & {line.what for line in lines}


def test_a_missing_reader_is_told_once(monkeypatch):
    monkeypatch.setattr(doctor, "ask_paddle", lambda _: {"import_error": "ImportError: x"})
    monkeypatch.setattr(doctor, "find_data", lambda _: __import__("no_such_package"))
    lines = [line for line in doctor.checks(Options()) if line.what == "data"]
    assert lines == [Line("note", "data", "not looked at: No module named 'no_such_package'")]
