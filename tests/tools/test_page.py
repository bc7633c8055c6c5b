"""The brush page: what its buttons do, and the page itself in a headless browser.

PAGE_SCREENSHOTS=docs python -m pytest tests/tools/test_page.py keeps the images of the page
"""

import contextlib
import importlib.util
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import weights
from benchmarks.worker import peak_megabytes
from common.datasets.paired_images import CLASSES, PALETTE
from common.errors import UserError
from common.imaging.io import read_image, write_image
from common.runtime.device import open_device

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "data/examples"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [f"--{flag}" for flag in ("no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync")]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
LARGEST_SCREENSHOT = 390_000  # bytes
WAIT_MS = 180_000  # a busy machine draws slowly

pytest.importorskip("gradio", reason='the page needs Gradio: pip install -e ".[demo]"')
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page_module():
    spec = importlib.util.spec_from_file_location("page", ROOT / "main.gradio.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    open_device("cpu")
    return module


# ---- paint


def paint(rows, columns, *boxes):
    """A layer with (rows, columns, colour, alpha) painted."""
    layer = np.zeros((rows, columns, 4), np.uint8)
    for place, colour, alpha in boxes:
        layer[place] = (*colour, alpha)
    return layer


def test_paint_becomes_hole_and_lines(page_module):
    """First layer: all paint is hole, dark paint a line too. Second layer: lines. Faint rims are no paint."""
    pink, black = (255, 61, 127), (16, 16, 16)
    first = paint(40, 60, (np.s_[10:20, 10:30], pink, 255), (np.s_[20:22, 10:30], pink, 90), (np.s_[12:14], black, 255))
    second = paint(40, 60, (np.s_[0:4, 0:4], pink, 255))
    mask, lines = page_module.paint_of({"layers": [first, second]}, 20, 30)
    expected = np.zeros((20, 30), bool)
    expected[5:10, 5:15] = expected[6] = True
    assert np.array_equal(mask, expected)
    line = np.zeros((20, 30), bool)
    line[6] = line[0:2, 0:2] = True
    assert np.array_equal(lines, line)


def test_nothing_painted_is_no_hole(page_module):
    for editor in (None, {"layers": []}, {"layers": [np.zeros((9, 9, 4), np.uint8)]}):
        mask, lines = page_module.paint_of(editor, 20, 30)
        assert mask.shape == lines.shape == (20, 30) and not mask.any() and not lines.any()


def test_paint_at_a_brush_rim_is_one_class_or_the_other(page_module):
    car, sky = (PALETTE[CLASSES.index(name)] for name in ("car", "sky"))
    background = np.dstack([np.full((8, 8, 3), sky), np.full((8, 8), 255, np.uint8)])
    layer = paint(8, 8, (np.s_[2], car, 255), (np.s_[3], car, 127), (np.s_[4], car, 128))
    label = page_module.labels_of({"background": background, "layers": [layer]})
    assert (label[[2, 4]] == car).all() and (label[[0, 1, 3, 5, 6, 7]] == sky).all()


def test_files_and_paint_are_gathered_and_mistakes_told(page_module):
    photo, mask_file = str(EXAMPLES / "faces/drawn_1.png"), str(EXAMPLES / "masks/drawn_1.png")
    image, mask, lines = page_module.gather(photo, None, mask_file)
    assert np.array_equal(image, read_image(photo)) and mask.sum() == 54 * 54 and not lines.any()
    for given, told in (
        ((None, None), "no photo"),
        ((photo, None), "no hole"),
        ((photo, {"layers": [paint(218, 178, (np.s_[:], (255, 61, 127), 255))]}), "leave some"),
    ):
        with pytest.raises(UserError, match=told):
            page_module.gather(*given)


def test_what_visitors_send_is_opened_by_our_reader_alone(page_module, tmp_path, monkeypatch):
    """EPS under another name is a program for Ghostscript, in whose place another one stands here."""
    from gradio.components.image_editor import EditorData
    from gradio.data_classes import FileData, ImageData

    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/gs").write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    (tmp_path / "bin/gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    program = tmp_path / "x.png"
    program.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n%%EOF\n")
    Image.new("RGB", (30, 20)).save(tmp_path / "x.jp2")
    Image.new("1", (5000, 5000)).save(tmp_path / "large.png")
    Image.new("1", (20_000, 20_000)).save(tmp_path / "larger.png")
    photo = str(EXAMPLES / "faces/drawn_1.png")
    inputs = {block for work in page_module.build().fns.values() for block in work.inputs}
    editors = [block for block in inputs if isinstance(block, page_module.gr.ImageEditor)]
    images = [block for block in inputs if isinstance(block, page_module.gr.Image)]
    assert len(editors) == 2 and len(images) == 1
    assert not any(isinstance(block, page_module.gr.Gallery | page_module.gr.ImageSlider) for block in inputs)
    for path, told, told_of_paint in (
        (program, "not an image", "is no PNG"),
        (tmp_path / "x.jp2", "is JPEG2000", "is no PNG"),
        (tmp_path / "large.png", "5000 x 5000 px; the limit is 16,000,000", "the limit is 4,000,000"),
        (tmp_path / "larger.png", "400,000,000 pixels; the limit is 16,000,000", "the limit is 4,000,000"),
    ):
        file = FileData(path=str(path))
        for sent in ({"background": file, "layers": []}, {"background": None, "layers": [file]}):
            for editor in editors:
                with pytest.raises(page_module.gr.Error) as problem:
                    editor.preprocess(EditorData(composite=None, **sent))
                assert told_of_paint in problem.value.message
        sent = images[0].preprocess(ImageData(path=str(path)))
        for button, arguments in (
            (page_module.name_things, (sent,)),
            (page_module.show_photo, (sent, None, False, None)),
            (page_module.show_photo, (photo, sent, False, None)),
            (page_module.show_photo, (photo, None, False, sent)),
        ):
            with pytest.raises(page_module.gr.Error) as problem:
                button(*arguments)
            assert told in problem.value.message and str(tmp_path) not in problem.value.message
    assert not (tmp_path / "ran").exists()


def test_paint_arrives_as_it_was_sent(page_module, tmp_path):
    from gradio.components.image_editor import EditorData
    from gradio.data_classes import FileData

    layer = paint(20, 30, (np.s_[3:9, 4:11], (255, 61, 127), 255), (np.s_[0], (1, 2, 3), 90))
    Image.fromarray(layer).save(tmp_path / "layer.png")
    Image.fromarray(layer[..., :3]).save(tmp_path / "background.png")
    files = [FileData(path=str(tmp_path / f"{name}.png")) for name in ("background", "layer")]
    editor = page_module.opened_by_us(page_module.gr.ImageEditor())
    found = editor.preprocess(EditorData(background=files[0], layers=[files[1]], composite=None))
    np.testing.assert_array_equal(found["layers"][0], layer)
    np.testing.assert_array_equal(found["background"][..., :3], layer[..., :3])
    assert (found["background"][..., 3] == 255).all() and found["composite"] is None


def test_mistakes_become_messages_without_paths(page_module, tmp_path):
    corrupt = tmp_path / "corrupt.png"
    corrupt.write_bytes(b"\x89PNG nothing")
    with pytest.raises(page_module.gr.Error) as told:
        page_module.show_photo(str(corrupt), None, False, None)
    assert "corrupt.png" in told.value.message and str(tmp_path) not in told.value.message

    @page_module.told
    def bug():
        raise ZeroDivisionError("secret")

    with pytest.raises(page_module.gr.Error) as told:
        bug()
    assert "secret" not in told.value.message


def test_paintings_that_wait_are_few_and_small(page_module):
    """An index of 1,000,000,000 made a list of so many layers; what never was asked for waited for ever."""
    from gradio.components.image_editor import EditorData

    layer = io.BytesIO()
    Image.fromarray(paint(20, 30, (np.s_[3:9], (9, 8, 7), 255))).save(layer, "PNG")
    layer = layer.getvalue()
    editor = page_module.opened_by_us(page_module.gr.ImageEditor())

    def send(name, content=layer, index="0", kind="layer"):
        data = {"type": kind, "index": index, "id": name}
        editor.accept_blobs(SimpleNamespace(data=data, files=[("x.png", content)]))

    assert editor.accept_blobs.__name__ in [work.__name__ for work in editor.server_fns]
    assert editor.accept_blobs._is_server_fn  # else Gradio answers 404
    for wrong in ({"index": "1000000000"}, {"index": "-1"}, {"index": "2"}, {"content": bytes(4_000_001)}):
        with pytest.raises(page_module.HTTPException):
            send("x", **wrong)
    for n in range(40):
        send(str(n))
        send(str(n), kind="composite", index="null")
    assert [*editor.blob_storage] == [str(n) for n in range(8, 40)] and not any(
        each.composite for each in editor.blob_storage.values()
    )
    assert editor.preprocess(EditorData(background=None, layers=[], composite=None, id="0")) is None
    found = editor.preprocess(EditorData(background=None, layers=[], composite=None, id="39"))
    assert found["layers"][0][5, 5].tolist() == [9, 8, 7, 255] and len(editor.blob_storage) == 31
    with pytest.raises(page_module.gr.Error, match="3 were sent"):
        editor.preprocess(SimpleNamespace(id=None, background=None, layers=[None] * 3, composite=None))


# ---- as a visitor who means no good


@contextlib.contextmanager
def started(files):
    """The page, started as AI Studio starts it: the file, and the port in the environment; (process, address)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    setting = {"GRADIO_SERVER_PORT": str(port), "GRADIO_TEMP_DIR": str(files), "PYTHONPATH": str(ROOT)}
    log = (files / "log").open("w")
    server = subprocess.Popen(
        [sys.executable, "main.gradio.py"], cwd=ROOT, env={**os.environ, **setting}, stdout=log, stderr=log
    )

    def answers():
        assert server.poll() is None, (files / "log").read_text()
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10).close() is None

    try:
        wait_for(answers)
        yield server, f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait(60)


def wait_for(work):
    for _ in range(240):
        if work():
            return
        time.sleep(0.5)
    pytest.fail("in two minutes nothing happened")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with started(tmp_path_factory.mktemp("page")) as server:
        yield server


@pytest.fixture(scope="module")
def address(server):
    return server[1]


def connect(address):
    return socket.create_connection(("127.0.0.1", int(address.rstrip("/").rpartition(":")[2])))


def test_a_request_larger_than_any_file_takes_no_memory(server):
    """It is answered before all of it is read; what comes after is thrown away."""
    process, address = server
    lines = ("POST /gradio_api/queue/join HTTP/1.1", "Host: x", "Content-Type: application/json")
    with connect(address) as visitor:
        before = peak_megabytes(process.pid)
        visitor.sendall("\r\n".join((*lines, "Content-Length: 1000000000", "", "")).encode())
        for _ in range(200):
            visitor.sendall(bytes(1_000_000))
        visitor.settimeout(60)
        assert visitor.recv(100).startswith(b"HTTP/1.1 4")
    assert peak_megabytes(process.pid) - before < 100


def test_fifty_clicks_wait_in_a_line_that_is_told(address):
    """None is turned away, and each is told its place."""
    config = json.load(urllib.request.urlopen(f"{address}config"))
    button = next(each["id"] for each in config["dependencies"] if each["api_name"] == "draw_street")

    def click(n):
        data = json.dumps({"data": [None, n], "fn_index": button, "session_hash": f"visitor{n}"}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{address}gradio_api/queue/join", data, headers)
        assert urllib.request.urlopen(request).status == 200
        with urllib.request.urlopen(f"{address}gradio_api/queue/data?session_hash=visitor{n}") as messages:
            said = [json.loads(line[5:]) for line in messages if line.startswith(b"data:")]
        assert any(each["msg"] == "process_completed" for each in said)  # that there is nothing to paint on
        return [each["rank"] for each in said if each["msg"] == "estimation"]

    with ThreadPoolExecutor(50) as visitors:
        told = list(visitors.map(click, range(50)))
    assert all(told) and max(map(max, told)) > 20


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_of_what_visitors_sent(tmp_path, number):
    """At the end of the page, or, if it was killed, at the start of the next; what is the user's own stays."""
    for name in ("results/mine", "completion-page-mine"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "x").touch()
        os.utime(tmp_path / name, (0, 0))
    own = set(tmp_path.rglob("*"))
    with started(tmp_path) as (server, address):
        with connect(address) as cut:
            head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
            cut.sendall(b"POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n")
            cut.sendall(b"Content-Type: multipart/form-data; boundary=x\r\n\r\n" + head + bytes(500_000))
            wait_for(lambda: any(path.stat().st_size > 400_000 for path in tmp_path.rglob("tmp*")))
        server.send_signal(number)
        server.wait(60)
    left = set(tmp_path.rglob("*")) - {tmp_path / "log"}
    if number == signal.SIGKILL:
        assert left > own
        with started(tmp_path) as (server, _):
            pages = [path for path in tmp_path.glob("completion-page-*") if path.name != "completion-page-mine"]
            assert len(pages) == 1 and pages[0] not in left
        left = set(tmp_path.rglob("*")) - {tmp_path / "log"}
    assert left == own


# ---- in the browser


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="the browser needs Playwright: pip install playwright"
    )
    if not CHROMIUM:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser, address):
    view = browser.new_page(viewport={"width": 1280, "height": 1180})
    view.set_default_timeout(WAIT_MS)
    view.goto(address)
    view.wait_for_selector("#editor canvas")
    view.wait_for_timeout(2000)
    yield view
    view.close()


def stroke(page, editor, size, points):
    """Drags the mouse along points in pixels of an image, which stands in the middle of its editor."""
    canvas = page.locator(f"#{editor} canvas").first.bounding_box()
    zoom = int(page.locator(f"#{editor}").get_by_text("%").first.inner_text().strip("% \n")) / 100
    scale = zoom * (640 / max(size) if editor == "editor" else 1)
    middle = canvas["x"] + canvas["width"] / 2, canvas["y"] + canvas["height"] / 2
    places = [(middle[0] + scale * (x - size[0] / 2), middle[1] + scale * (y - size[1] / 2)) for x, y in points]
    page.mouse.move(*places[0])
    page.wait_for_timeout(1000)  # the brush follows with some delay
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=6)
    page.mouse.up()
    page.wait_for_timeout(1500)


def tap(button):
    """Clicks at once. Playwright's own click waits for frames, which take seconds where software draws them."""
    button.evaluate("element => element.click()")


def upload(page, element, path):
    page.locator(f"#{element} input[type=file]").set_input_files(path)
    page.get_by_text(Path(path).name).wait_for()
    page.wait_for_timeout(4000)


def press(page, button, done):
    """Clicks, and waits until the text `done` stands on the page."""
    tap(page.locator(f"#{button}"))
    page.get_by_text(done).first.wait_for()
    page.wait_for_timeout(2500)


def download(page, button, path):
    with page.expect_download() as got:
        tap(page.locator(f"#{button}"))
    got.value.save_as(path)
    return read_image(path)


def keep_screenshot(page, name):
    if os.environ.get("PAGE_SCREENSHOTS"):
        page.mouse.move(5, 5)
        page.evaluate("window.scrollTo(0, 0)")
        page.wait_for_timeout(800)
        path = Path(os.environ["PAGE_SCREENSHOTS"], name)
        page.screenshot(path=path, timeout=WAIT_MS)
        image = Image.open(path).convert("RGB")
        for width in range(image.width, 600, -80):
            image.resize((width, image.height * width // image.width), Image.LANCZOS).save(path, optimize=True)
            if path.stat().st_size < LARGEST_SCREENSHOT:
                break


def test_upload_paint_complete_download(page, tmp_path):
    """The downloaded image is what the Python API makes of the photo and the downloaded hole, bit for bit."""
    from glcic.infer import complete, load

    photo = EXAMPLES / "faces/astronaut.png"
    upload(page, "photo", photo)
    stroke(page, "editor", (178, 218), [(88, 112), (90, 112), (90, 134), (88, 134)])
    tap(page.locator("#paper").get_by_text("GLCIC"))
    press(page, "complete", "of 178 × 218 px")
    keep_screenshot(page, "page_completion.png")
    done = download(page, "download", tmp_path / "done.png")
    mask = download(page, "download-hole", tmp_path / "hole.png")[..., 0] > 0
    assert mask[120, 89] and not mask[80, 89] and 0.01 < mask.mean() < 0.1
    image = read_image(photo)
    assert np.array_equal(done, complete(load(weights.find("glcic_faces")), image, mask))
    assert np.array_equal(done[~mask], image[~mask]) and not np.array_equal(done, image)


def test_a_sketch_on_the_second_layer_guides_deepfill(page, tmp_path):
    from deepfill.infer import complete, load

    photo = EXAMPLES / "sketch/face.png"
    upload(page, "photo", photo)
    for y in (162, 173, 184):
        stroke(page, "editor", (192, 192), [(58, y), (134, y)])
    editor = page.locator("#editor")
    tap(editor.get_by_label("Show Layers"))
    tap(editor.get_by_label("layer-2"))
    tap(editor.get_by_label("Show Layers"))
    tap(editor.get_by_label("Color", exact=True))
    tap(editor.locator(".swatch button").nth(1))
    tap(editor.get_by_label("Brush Size"))
    editor.locator("input[type=range]").first.fill("4", force=True)
    tap(editor.get_by_label("Brush", exact=True))
    smile = [(58, 158), (76, 166), (96, 169), (116, 166), (134, 158), (116, 174), (96, 180), (76, 174), (58, 158)]
    stroke(page, "editor", (192, 192), smile)
    tap(page.locator("#paper").get_by_text("DeepFill"))
    press(page, "complete", "of 192 × 192 px")
    keep_screenshot(page, "page_sketch.png")
    done = download(page, "download", tmp_path / "done.png")
    mask = download(page, "download-hole", tmp_path / "hole.png")[..., 0] > 0
    image = read_image(photo)
    unguided = complete(load(weights.find("deepfill_faces")), image, mask)
    assert np.array_equal(done[~mask], image[~mask])
    assert np.abs(done.astype(int) - unguided)[mask].max() > 20  # the lines were seen


def test_painted_labels_become_a_street(page, tmp_path):
    from pix2pix.infer import load, translate

    tap(page.get_by_role("tab", name="Streets"))
    page.wait_for_selector("#labels canvas")
    page.wait_for_timeout(4000)
    for y in (140, 160, 172):
        stroke(page, "labels", (512, 256), [(160, y), (215, y)])  # a car on the road
    press(page, "draw", "pix2pix, 2017")
    press(page, "name", "Streets")
    page.wait_for_selector("#found img")
    page.wait_for_timeout(2000)
    page.set_viewport_size({"width": 1280, "height": 1330})
    keep_screenshot(page, "page_street.png")
    street = download(page, "download-street", tmp_path / "street.png")
    label = download(page, "download-labels", tmp_path / "labels.png")
    assert label.shape == (256, 512, 3) and (label[160, 160:215] == PALETTE[CLASSES.index("car")]).all()
    assert np.array_equal(street, translate(load(weights.find("pix2pix_label_to_photo")), label, seed=0))


def test_mistakes_are_messages(page, tmp_path):
    press(page, "complete", "There is no photo")
    corrupt = tmp_path / "corrupt.png"
    write_image(corrupt, np.zeros((50, 50, 3), np.uint8))
    corrupt.write_bytes(corrupt.read_bytes()[:60])
    page.locator("#photo input[type=file]").set_input_files(corrupt)
    page.get_by_text("Cannot read corrupt.png").wait_for()


def test_the_page_listens_on_this_machine_alone(address):
    """By the kernel's table, in which 127.0.0.1 is 0100007F."""
    table = Path("/proc/net/tcp")
    if not table.exists():
        pytest.skip("only Linux has this table")
    port = int(address.rstrip("/").rpartition(":")[2])
    rows = [line.split() for line in table.read_text().splitlines()[1:]]
    listening = [row[1] for row in rows if row[3] == "0A" and int(row[1].partition(":")[2], 16) == port]
    assert listening == [f"0100007F:{port:04X}"]
