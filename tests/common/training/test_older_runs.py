"""A run that version 0.1.0 began, with its names of flags and its files, goes on to the weights that 0.1.0 reached."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from context_encoder import train
from context_encoder.config import TINY
from data.synthetic import write_faces

RUN = Path(__file__).parent / "run_of_version_0_1"  # stopped after 3 of 6 steps; whole.safetensors: all 6 at once


@pytest.mark.medium
def test_it_resumes(tmp_path):
    """Bit for bit on the processor that 0.1.0 ran on; others round otherwise, by less than a lost moment changes."""
    shutil.copytree(RUN, tmp_path / "run")
    faces = write_faces(tmp_path / "drawn", count=24)
    settings = {"data_dir": faces, "run_dir": tmp_path / "run", "device": "cpu", "resume": "auto"}
    weights = train.train(dataclasses.replace(TINY, base_channels=2, bottleneck=4, **settings))
    expected, resumed = load_file(RUN / "whole.safetensors"), load_file(weights)
    assert expected.keys() == resumed.keys()
    for name, values in expected.items():
        np.testing.assert_allclose(resumed[name], values, rtol=1e-3, atol=2e-6, err_msg=name)
