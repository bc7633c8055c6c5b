"""From the published layout of BlazeFace's tensors to the file that the detector reads."""

import numpy as np
import pytest

from common.checkpoint.weights import read_weights
from common.inpainting.face_detector import WEIGHTS
from tests.helpers import refused
from tools import convert_blazeface


@pytest.mark.medium
def test_published_tensors_become_those_of_the_file():
    """The file's own tensors, laid out as TensorFlow does: inputs last, depthwise channels last."""
    kept, _ = read_weights(WEIGHTS)
    published = {}
    for theirs, ours in convert_blazeface.names().items():
        weight = kept[f"blazeface.{ours}.weight"]
        axis = 0 if weight.shape[1] == 1 else 1
        published[f"{theirs}/Kernel"] = np.moveaxis(weight, axis, 3)
        published[f"{theirs}/Bias"] = kept[f"blazeface.{ours}.bias"]
    assert published["conv2d/Kernel"].shape == (24, 5, 5, 3)
    assert published["depthwise_conv2d_15/Kernel"].shape == (1, 3, 3, 24)
    assert published["conv2d_16/Kernel"].shape == (48, 1, 1, 24)
    converted = convert_blazeface.convert(published)
    assert converted.keys() == kept.keys() and len(kept) == 138
    for name, tensor in kept.items():
        assert tensor.dtype == np.float16
        np.testing.assert_array_equal(converted[name], tensor)


def test_what_is_no_such_file(capsys, tmp_path):
    assert "there is no file" in refused(capsys, convert_blazeface.main, tmp_path / "no.tflite")
    (tmp_path / "face_detection_back.tflite").write_text("text")
    told = refused(capsys, convert_blazeface.main, tmp_path / "face_detection_back.tflite")
    assert "pip install ai-edge-litert" in told or "is no BlazeFace" in told
