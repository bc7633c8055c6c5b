"""Files of strangers: read in a process of its own, whose time and memory are counted from here."""

import sys
import time

import numpy as np
import pytest

from common.errors import UserError
from common.imaging import visitors
from common.imaging.io import read_image
from common.imaging.visitors import read_apart
from tests.common.imaging.test_io import photo, png, saved, scans

pytestmark = pytest.mark.medium


@pytest.fixture
def image(tmp_path):
    (tmp_path / "x.png").write_bytes(saved(photo(20, 30), "PNG"))
    return tmp_path / "x.png"


class Name(str):
    """As Gradio calls files; its class must not be imported where they are read."""


def test_the_image_is_as_it_is_read_here(image):
    np.testing.assert_array_equal(read_apart(read_image, Name(image)), read_image(image))


@pytest.mark.skipif(sys.platform != "linux", reason="there are no such limits")
def test_what_takes_too_long_or_too_much_ends(image, monkeypatch):
    from tests.common.imaging import works

    seconds, memory, *modules = read_apart(works.surroundings, Name(image)).tolist()
    assert 0 < seconds <= visitors.CPU_SECONDS + 10 and memory == visitors.MEGABYTES << 20 and modules == [0, 0, 1]
    with pytest.raises(UserError, match="gave up"):
        read_apart(works.greedy, image)
    monkeypatch.setattr(visitors, "SECONDS", 1)
    start = time.monotonic()
    with pytest.raises(UserError, match="gave up"):
        read_apart(works.asleep, image)
    assert time.monotonic() - start < 60
    monkeypatch.undo()
    assert read_apart(read_image, image).shape == (20, 30, 3)  # the next one is read


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("x.j2k", lambda: saved(photo(20, 30), "JPEG2000"), "is JPEG2000; this page takes AVIF"),
        ("one row.png", lambda: png(14142, 14142, bytes(1 + 3 * 14142)), "the limit is 16,000,000 pixels on this page"),
        ("400.png", lambda: png(20_000, 20_000, b""), "400,000,000 pixels; the limit is 16,000,000 on this page"),
        ("4000.png", lambda: png(4001, 4000, bytes(1 + 3 * 4000)), "4001 x 4000 px; the limit is 16,000,000"),
        ("scans.jpg", lambda: scans(1000), "more than 64 scans"),
        ("none.png", lambda: b"", "not an image"),
    ],
)
def test_what_is_refused(tmp_path, name, data, told):
    (tmp_path / name).write_bytes(data())
    with pytest.raises(UserError, match=told):
        read_apart(read_image, tmp_path / name)
