"""The make-believe GPU is built for the installed Paddle, or the reason is told why not."""

import ctypes
import os
import shutil

import pytest

from tests.device import build


def test_without_a_compiler(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert build.build(tmp_path) == "there is no C++ compiler"


def test_a_compiler_that_cannot(tmp_path, monkeypatch):
    compiler = tmp_path / "compiler"
    compiler.write_text("#!/bin/sh\necho 'x.cc:1: note: here' >&2\necho 'x.cc:1: error: what is this' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    assert build.build(tmp_path).endswith("cannot compile it for this Paddle: x.cc:1: error: what is this")
    assert os.environ.get("CUSTOM_DEVICE_ROOT") != str(tmp_path)


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_it_compiles_for_this_paddle(tmp_path, monkeypatch):
    for name in ("CUSTOM_DEVICE_ROOT", "FLAGS_use_stride_kernel", "FLAGS_free_idle_chunk", "GLOG_minloglevel"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))  # put back afterwards
    monkeypatch.delenv("CXX", raising=False)
    assert build.build(tmp_path) == "" and os.environ["CUSTOM_DEVICE_ROOT"] == str(tmp_path)
    library = ctypes.CDLL(str(build.library(tmp_path)))
    assert library.InitPlugin and build.counts().held == (0, 0)
