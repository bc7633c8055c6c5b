"""The brush page: upload a photo, paint its hole, let a paper fill it; paint a street's labels, see the street.

python main.gradio.py          (pip install -e ".[cpu,demo]"; AI Studio starts files of this name by itself,
and needs `pip install "gradio>=6,<7"` before: its Gradio 4 lacks the sliders, layers and canvas of this page)

Listens on this machine only, at GRADIO_SERVER_PORT or 7860 and up; GRADIO_SERVER_NAME names another address. Every
result is what the papers' own `infer.complete` and `infer.translate` return.
"""

import functools
import importlib.metadata
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

import cv2
import numpy as np

from common.runtime.own_folder import own_folder, remove_old

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# Uploads and results, all of this page's temporary files: removed at its end, or by the next page if it was killed
os.environ["GRADIO_TEMP_DIR"] = str(own_folder(os.environ.get("GRADIO_TEMP_DIR"), "completion-page-"))

try:
    GRADIO = f"Gradio {importlib.metadata.version('gradio')}"
except importlib.metadata.PackageNotFoundError:
    GRADIO = "no Gradio"
if not GRADIO.startswith("Gradio 6."):  # 4, which AI Studio documents, lacks sliders, layers and canvas sizes
    print(f'error: the page needs Gradio 6, and here is {GRADIO}: pip install "gradio>=6,<7"', file=sys.stderr)
    raise SystemExit(2)

import gradio as gr
from fastapi import HTTPException
from starlette.middleware import Middleware

import weights
from common.datasets.paired_images import CLASSES, PALETTE, classify, colourise
from common.errors import UserError
from common.imaging.grid import show_mask
from common.imaging.io import read_bytes, read_image, read_levels, to_uint8, write_image
from common.imaging.transforms import resize
from common.imaging.visitors import read_apart, stand_ready
from common.masks import reader as mask_reader
from common.runtime.device import open_device
from compare import photo as comparison
from deepfill.sketch import read_sketch
from pix2pix.infer import faster, translate
from pix2pix.infer import load as load_translator

FOLDER = Path(os.environ["GRADIO_TEMP_DIR"])
tempfile.tempdir = str(FOLDER)  # where Gradio writes what an editor sends
EXAMPLES = Path(__file__).parent / "data" / "examples"
EDITOR_PX = 640  # longer side of the photo where it is painted on
LARGEST_FILE, LARGEST_REQUEST = "20mb", 22_000_000  # bytes; a request holds one file
# What is painted comes as PNGs of EDITOR_PX, a background and layers, which wait in memory until a button is pressed
PAINTED_PIXELS, PAINTED_BYTES, LAYERS, MOST_PAINTINGS = 4_000_000, 4_000_000, 2, 32
KEPT_SECONDS, SWEPT_SECONDS = 3000, 600  # files of visitors are old after so long, which is looked at so often
MOST_WAITING = 200  # clicks in the queue
MASK_COLOUR, LINE_COLOUR = "#ff3d7f", "#101010"
STREET = (512, 256)  # width and height of label maps; the networks know them squeezed to a square
EXAMPLE_PHOTOS = [  # photo, hole, sketch
    *((f"faces/{name}.png", f"masks/{name}.png", None) for name in ("astronaut", "drawn_1", "drawn_2", "drawn_3")),
    ("sketch/face.png", "sketch/mask.png", "sketch/lines.png"),
    ("photo/astronaut.jpg", "photo_mask/astronaut.png", None),
]
START_FROM = {"a drawn street": "drawn_1", "another one": "drawn_2", "an empty road": ""}
INTRO = """# Image completion
Choose a photo, **paint over what shall go** in pink, and let a paper fill it in. DeepFill v2 also follows **black
lines** that you draw in the hole: pick black and a small brush at the editor's left."""
TERMS = """---
Small networks, trained for {shortest} to {longest} minutes on one processor core. They know faces in the framing of
CelebA, and streets; of other images they make what they can. {terms}. Nothing that you upload leaves this server; it
is deleted within an hour."""


# ---- what visitors send
# Gradio has Pillow open all of it, before we see it: any kind of file, of any size, EPS too, which is a program that
# Ghostscript runs. So it is left to the reader that all commands use, in a process of its own. Gradio writes a file
# for every class that is derived from its own, hence methods of objects.


def opened_by_us(component: gr.ImageEditor | gr.Image) -> gr.ImageEditor | gr.Image:
    """The component, whose images our reader opens; of an image the path is given."""
    if isinstance(component, gr.Image):
        component.preprocess = lambda sent: sent.path if sent else None
        return component
    waiting, take = component.blob_storage, component.accept_blobs

    def accept_blobs(data):
        """Keeps a part of a painting until its button is pressed."""
        if len(data.files[0][1]) > PAINTED_BYTES or data.data["index"] not in (None, "", "null", "0", "1"):
            raise HTTPException(413, "a larger painting than this page has")
        if data.data["type"] == "composite":  # which nobody looks at
            return
        while data.data["id"] not in waiting and len(waiting) >= MOST_PAINTINGS:
            waiting.pop(next(iter(waiting)))
        take(data)

    def preprocess(sent) -> dict | None:
        """The background and the layers of a painting, uint8 [rows, columns, 4] or None."""
        if sent is not None and sent.id is not None:
            sent = waiting.pop(sent.id, None)
        if sent is None:
            return None
        if len(sent.layers or ()) > LAYERS:
            raise gr.Error(f"This page has {LAYERS} layers, and {len(sent.layers)} were sent.", title="Not like this")
        layers = [painted(layer) for layer in sent.layers or () if layer is not None]
        return {"background": painted(sent.background), "layers": layers, "composite": None}

    accept_blobs._is_server_fn = True
    component.accept_blobs, component.preprocess = accept_blobs, preprocess
    return component


def painted(sent) -> np.ndarray | None:
    """An image of the editor, uint8 [rows, columns, 4], from the file or the bytes that were sent.

    Small PNGs, which are decoded at once: in a process of its own each click would take half a second longer.
    """
    if sent is None:
        return None
    try:
        data = read_bytes(sent.path) if hasattr(sent, "path") else bytes(sent)
        if len(data) > PAINTED_BYTES or not data.startswith(b"\x89PNG"):
            raise UserError(f"what was painted is no PNG, or larger than {PAINTED_BYTES:,} bytes")
        levels = read_levels(data, "what was painted", PAINTED_PIXELS)
    except UserError as mistake:
        raise gr.Error(str(mistake), title="Not like this") from None
    values = to_uint8(levels)
    alpha = values[..., -1] if values.shape[2] in (2, 4) else np.full(values.shape[:2], 255, np.uint8)
    colours = values[..., :3] if values.shape[2] > 2 else values[..., :1].repeat(3, 2)
    return np.dstack([colours, alpha])


def bounded(app):
    """The page's server, which hangs up on requests that are larger than any file of this page."""

    async def serve(scope, receive, send):
        left = LARGEST_REQUEST

        async def counted():
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            return message if left >= 0 else {"type": "http.disconnect"}

        await app(scope, counted if scope["type"] == "http" else receive, send)

    return serve


# ---- what is painted


def paint_of(editor: dict | None, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Hole and sketch as painted, at the photo's size.

    The first layer is the hole, and dark paint on it is a line as well; all paint of a second layer is lines.

    Args:
        editor: value of the ImageEditor; its layers are uint8 [rows, columns, 4].

    Returns:
        (hole, lines), bool [height, width].
    """
    layers = [layer for layer in (editor or {}).get("layers") or [] if layer is not None]
    mask = lines = np.zeros((height, width), bool)
    if layers:
        painted = layers[0][..., 3] >= 128
        mask = _at_size(painted, height, width)
        lines = _at_size(painted & (layers[0][..., :3].max(axis=2) < 96), height, width)
    for layer in layers[1:]:
        lines = lines | _at_size(layer[..., 3] >= 128, height, width)
    return mask, lines


def _at_size(painted: np.ndarray, height: int, width: int) -> np.ndarray:
    if painted.shape == (height, width):
        return painted
    kernel = cv2.INTER_AREA if painted.size > height * width else cv2.INTER_LINEAR
    return cv2.resize(painted.astype(np.float32), (width, height), interpolation=kernel) >= 0.5


def gather(photo, editor, mask_file=None, invert=False, sketch_file=None) -> tuple:
    """The photo, its hole and the lines in it, from files and paint.

    Returns:
        (uint8 [height, width, 3], bool [height, width], bool [height, width])

    Raises:
        UserError: there is no photo or no hole, or a file cannot be used.
    """
    image = open_photo(photo)
    height, width = image.shape[:2]
    mask, lines = paint_of(editor, height, width)
    if mask_file:
        mask = mask | open_mask(mask_file, invert, image, photo)
    if sketch_file:
        lines = lines | read_apart(read_sketch, sketch_file, height, width)
    if not mask.any():
        raise UserError("there is no hole: paint over what shall be filled, on the layer Hole, or upload a mask")
    if mask.mean() > mask_reader.LARGEST_FRACTION:
        raise UserError(
            f"the hole covers {mask.mean():.0%} of the photo; leave some of it, or tick “black is the hole”"
        )
    if mask.mean() < mask_reader.SMALLEST_FRACTION:
        gr.Warning(f"the hole covers only {mask.mean():.3%} of the photo")
    return image, mask, lines & mask


def open_photo(photo: str | None) -> np.ndarray:
    """The uploaded photo. Raises UserError if there is none, or it is no image, or too large for this page."""
    if not photo:
        raise UserError("there is no photo: choose one, or take an example")
    return read_apart(read_image, photo)


def open_mask(mask_file: str, invert: bool, image: np.ndarray, photo: str) -> np.ndarray:
    """The uploaded mask, bool [height, width]. Raises UserError like `read_mask`."""
    return read_apart(mask_reader.read_mask, mask_file, invert=invert, photo=image, photo_file=Path(photo))


# ---- what the buttons do


def told(work):
    """Mistakes become messages on the page, without the server's paths; bugs a line there and a trace in the log."""

    @functools.wraps(work)
    def button(*given):
        try:
            open_device("auto")
            return work(*given)
        except UserError as mistake:
            text = str(mistake)
            for folder in {str(Path(one).parent) for one in given if isinstance(one, str) and os.sep in one}:
                text = text.replace(folder + os.sep, "")
            raise gr.Error(text[:1].upper() + text[1:], title="Not like this", duration=12) from None
        except Exception:
            traceback.print_exc()
            raise gr.Error("Something went wrong; the server's log says what.", title="Our fault") from None

    return button


@told
def show_photo(photo, mask_file, invert, sketch_file) -> dict | None:
    """The photo as it is to be painted on: enlarged or shrunk, what the files hide in grey squares."""
    if not photo:
        return None
    image = open_photo(photo)
    height, width = image.shape[:2]
    scale = EDITOR_PX / max(height, width)
    shown = resize(image, max(1, round(height * scale)), max(1, round(width * scale)))
    if mask_file:
        mask = _at_size(open_mask(mask_file, invert, image, photo), *shown.shape[:2])
        shown = np.where(mask[..., None], comparison.checkers(*mask.shape), shown)
    if sketch_file:
        lines = read_apart(read_sketch, sketch_file, height, width)
        shown = show_mask(shown, _at_size(lines, *shown.shape[:2]), (16, 16, 16))
    return {"background": shown, "layers": [], "composite": None}


def take_example(chosen: gr.SelectData) -> tuple:
    """Files of an example: photo, mask, sketch; and that white is the hole."""
    return *(str(EXAMPLES / name) if name else None for name in EXAMPLE_PHOTOS[chosen.index]), False


@told
def complete(photo, editor, mask_file, invert, sketch_file, paper, blend, window) -> tuple:
    """One paper's completion: (before and after, a line about it, the completed PNG, the hole's PNG)."""
    image, mask, lines = gather(photo, editor, mask_file, invert, sketch_file)
    (file,) = comparison.choose((paper,), ()).values()
    options = {"blend": blend or None, "window": window or None, "lines": lines if lines.any() else None}
    result = comparison.ask_paper(paper, file, image, mask, **options)
    if result.problem:
        raise UserError(result.problem)
    if lines.any() and paper != "deepfill":
        gr.Info("Only DeepFill v2 follows lines; the sketch was left out.")
    before = np.where(mask[..., None], comparison.checkers(*mask.shape), image)
    told_of = (
        f"**{result.label}**: {comparison.told_seconds(result.seconds)} for {mask.mean():.1%} of "
        f"{image.shape[1]} × {image.shape[0]} px"
    )
    files = keep("completed.png", result.image), keep("hole.png", mask.astype(np.uint8) * 255)
    return (before, result.image), told_of, *files


@told
def compare(photo, editor, mask_file, invert, sketch_file, blend, window, progress=gr.Progress()) -> tuple:  # noqa: B008
    """All methods side by side: (labelled image, its PNG)."""
    image, mask, lines = gather(photo, editor, mask_file, invert, sketch_file)
    files = comparison.choose((), ())
    options = {"blend": blend or None, "window": window or None, "lines": lines if lines.any() else None}
    total, results = len(files) + len(comparison.CLASSICAL), []
    for result in comparison.ask_all(files, image, mask, **options):
        results.append(result)
        progress((len(results), total), desc=result.label)
    sheet_image = comparison.sheet(image, mask, results)
    return sheet_image, keep("side_by_side.png", sheet_image)


def start_labels(name: str) -> dict:
    """A label map to paint on, enlarged."""
    if START_FROM[name]:
        label = read_image(EXAMPLES / "labels" / f"{START_FROM[name]}.png")
    else:
        classes = np.full((256, 256), CLASSES.index("building"))
        classes[:60] = CLASSES.index("sky")
        classes[130:] = CLASSES.index("sidewalk")
        road = np.array([[118, 130], [138, 130], [256, 236], [256, 256], [0, 256], [0, 236]], np.int32)
        classes[cv2.fillPoly(np.zeros((256, 256), np.uint8), [road], 1) > 0] = CLASSES.index("road")
        label = PALETTE[classes]
    label = cv2.resize(label, STREET, interpolation=cv2.INTER_NEAREST)
    return {"background": label, "layers": [], "composite": None}


def labels_of(editor: dict | None) -> np.ndarray:
    """The painted label map, each pixel of the nearest class's colour: uint8 [rows, columns, 3].

    Raises:
        UserError: there is nothing to paint on.
    """
    if not editor or editor.get("background") is None:
        raise UserError("there is no label map; choose one to start from")
    label = editor["background"][..., :3].copy()
    for layer in editor.get("layers") or []:
        painted = layer[..., 3] >= 128  # all or nothing: colours that are mixed at a brush's edge mean another class
        label[painted] = layer[..., :3][painted]
    return colourise(classify(label, void=True))


@functools.cache
def translator(direction: str):
    """The network for one direction, loaded once."""
    names = [name for name in weights.of_paper("pix2pix") if direction.replace("-", "_") in name]
    if not names:
        raise UserError(f"there are no weights {direction} of pix2pix in weights/")
    return faster(load_translator(weights.find(names[0])))


@told
def draw_street(editor, seed) -> tuple:
    """A street for a painted label map: (image, a line about it, its PNG, the labels' PNG)."""
    label, network = labels_of(editor), translator("label-to-photo")
    start = time.perf_counter()
    street = translate(network, label, seed=int(seed))
    told_of = f"**pix2pix, 2017**: {comparison.told_seconds(time.perf_counter() - start)}"
    return street, told_of, keep("street.png", street), keep("labels.png", label)


@told
def name_things(photo) -> tuple:
    """The labels of a photo of a street: (image, its PNG)."""
    image = open_photo(photo)
    label = colourise(classify(translate(translator("photo-to-label"), image), void=False))
    return label, keep("labels.png", label)


def keep(name: str, image: np.ndarray) -> str:
    """Writes a result as PNG where the page can send it from."""
    path = Path(tempfile.mkdtemp(dir=FOLDER), name)
    write_image(path, image)
    return str(path)


def sweep(kept: set[Path]) -> None:
    """Removes what visitors sent and got, uploads that were cut off too, when it is old; but what is in `kept`."""
    while True:
        time.sleep(SWEPT_SECONDS)
        remove_old(FOLDER, KEPT_SECONDS, kept)


# ---- the page


def legend() -> str:
    """The classes and their colours, as HTML."""
    boxes = [
        f'<span class="class"><i style="background:rgb{tuple(map(int, colour))}"></i>{name}</span>'
        for name, colour in zip(CLASSES, PALETTE, strict=True)
    ]
    return f'<div id="legend">{"".join(boxes)}</div>'


CSS = """
.gradio-container { max-width: 1280px !important; margin: auto !important; }
#legend { line-height: 1.9; } #legend .class { display: inline-block; margin-right: 14px; white-space: nowrap; }
#legend i { display: inline-block; width: 14px; height: 14px; margin-right: 5px; vertical-align: -2px; }
"""
RESULT = {"format": "png", "interactive": False, "buttons": ["download", "fullscreen"]}
ONE_AT_A_TIME = {"concurrency_limit": 1, "concurrency_id": "networks"}  # two would only halve each other's speed


def completion_tab() -> None:
    """The tab that completes photos."""
    papers = [(comparison.LABELS.get(paper, paper), paper) for paper in comparison.completing_papers()]
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=420):
            photo = gr.File(label="1  Photo", file_types=["image"], height=110, elem_id="photo")
            gr.Markdown("or one of these:")
            examples = gr.Gallery(
                [str(EXAMPLES / name) for name, _, _ in EXAMPLE_PHOTOS], show_label=False, columns=6, rows=1,
                height=110, allow_preview=False, object_fit="cover", elem_id="examples", interactive=False, buttons=[],
            )  # fmt: skip
            editor = gr.ImageEditor(
                label="2  Paint the hole", sources=(), transforms=(),
                brush=gr.Brush(36, [MASK_COLOUR, LINE_COLOUR], MASK_COLOUR, "fixed"), eraser=gr.Eraser(36),
                layers=gr.LayerOptions(False, ["Hole", "Sketch"]), format="png", height=700, elem_id="editor",
                canvas_size=(EDITOR_PX, EDITOR_PX),
            )  # fmt: skip
            with gr.Accordion("Files in place of painting", open=False):
                with gr.Row():
                    mask_file = gr.File(label="Mask, of the photo's size; white is hole", height=110, elem_id="mask")
                    sketch_file = gr.File(label="Sketch, of the photo's size", height=110, elem_id="sketch")
                invert = gr.Checkbox(label="black is the hole")
        with gr.Column(scale=5, min_width=420):
            paper = gr.Radio(papers, value=papers[-1][1] if papers else None, label="3  Paper", elem_id="paper")
            with gr.Row():
                ways = [("best measured", ""), ("the paper's", "paper"), "paste", "feather", "poisson", "telea-poisson"]
                blend = gr.Dropdown(ways, value="", label="Blending", elem_id="blend")
                sights = [
                    ("what it was trained on", ""),
                    ("all of the photo", "whole"),
                    ("the hole's surroundings", "mask"),
                ]
                window = gr.Dropdown(sights, value="", label="The network sees")
            go = gr.Button("Complete", variant="primary", elem_id="complete")
            slider = gr.ImageSlider(
                label="Before and after", format="png", elem_id="slider", max_height=560, slider_position=20
            )
            about = gr.Markdown(
                "*DCGAN completion searches for half a minute, the others take a second.*", elem_id="about"
            )
            with gr.Row():
                result = gr.DownloadButton("Download the photo", elem_id="download")
                mask = gr.DownloadButton("Download the hole", elem_id="download-hole")
    both = gr.Button("Compare all papers, and the classical methods", elem_id="compare")
    sheet = gr.Image(label="Side by side", elem_id="sheet", visible=False, **RESULT)
    sheet_file = gr.DownloadButton("Download the comparison", visible=False)

    files = [photo, mask_file, invert, sketch_file]
    shown = {"fn": show_photo, "inputs": files, "outputs": editor, "show_progress": "hidden"}
    examples.select(take_example, None, [photo, mask_file, sketch_file, invert]).then(**shown)
    for event in (photo.upload, photo.clear):  # what belonged to another photo goes
        event(lambda: (None, None, False), None, [mask_file, sketch_file, invert]).then(**shown)
    for event in (mask_file.upload, mask_file.clear, sketch_file.upload, sketch_file.clear, invert.input):
        event(**shown)
    given = [photo, opened_by_us(editor), mask_file, invert, sketch_file]
    go.click(complete, [*given, paper, blend, window], [slider, about, result, mask], **ONE_AT_A_TIME)
    both.click(lambda: (gr.update(visible=True), gr.update(visible=True)), None, [sheet, sheet_file]).then(
        compare, [*given, blend, window], [sheet, sheet_file], **ONE_AT_A_TIME
    )


def street_tab() -> None:
    """The tab that translates between labels and photos of streets."""
    colours = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in PALETTE.tolist()]
    with gr.Row(equal_height=False):
        with gr.Column(min_width=420):
            start = gr.Dropdown(list(START_FROM), value=next(iter(START_FROM)), label="1  Start from", elem_id="start")
            labels = gr.ImageEditor(
                start_labels(next(iter(START_FROM))), label="2  Paint what shall be where", sources=(), transforms=(),
                brush=gr.Brush(30, colours, colours[CLASSES.index("car")], "fixed"), eraser=gr.Eraser(30),
                layers=gr.LayerOptions(disabled=True), format="png", height=430, elem_id="labels", canvas_size=STREET,
            )  # fmt: skip
            gr.HTML(legend())
        with gr.Column(min_width=420):
            seed = gr.Slider(0, 99, 0, step=1, label="Seed of the dropout, the network's only chance")
            draw = gr.Button("3  Make a street of it", variant="primary", elem_id="draw")
            street = gr.Image(label="Street", height=350, elem_id="street", **RESULT)
            about = gr.Markdown()
            with gr.Row():
                street_file = gr.DownloadButton("Download the street", elem_id="download-street")
                label_file = gr.DownloadButton("Download the labels", elem_id="download-labels")
    gr.Markdown("### The other way round: what is in a photo of a street?")
    with gr.Row(equal_height=False):
        with gr.Column(min_width=420):
            example = cv2.resize(read_image(EXAMPLES / "streets" / "drawn_2.jpg"), STREET)
            photo = gr.Image(example, label="Photo", type="filepath", sources=["upload"], height=350)
            name = gr.Button("Find out", elem_id="name")
        with gr.Column(min_width=420):
            found = gr.Image(label="Labels", height=350, elem_id="found", **RESULT)
            found_file = gr.DownloadButton("Download the labels")
    start.change(start_labels, start, labels)
    draw.click(draw_street, [opened_by_us(labels), seed], [street, about, street_file, label_file], **ONE_AT_A_TIME)
    name.click(name_things, opened_by_us(photo), [found, found_file], **ONE_AT_A_TIME)


def build() -> gr.Blocks:
    """The page."""
    known = weights.read_manifest().values()
    minutes = [about["wall_minutes"] for about in known] or [0]
    terms = ". ".join(sorted({about["terms"] for about in known}))
    with gr.Blocks(title="Image completion") as page:
        gr.Markdown(INTRO)
        with gr.Tab("Complete a photo"):
            completion_tab()
        with gr.Tab("Streets and labels", id="streets"):
            street_tab()
        gr.Markdown(TERMS.format(shortest=round(min(minutes)), longest=round(max(minutes)), terms=terms))
    return page.queue(max_size=MOST_WAITING)


def launch(**options):
    """Starts the page; loopback, unless GRADIO_SERVER_NAME says otherwise. Options are those of Gradio's `launch`."""
    theme = gr.themes.Soft(primary_hue="pink", font=["system-ui", "sans-serif"], font_mono=["monospace"])
    fixed = {"theme": theme, "css": CSS, "max_file_size": LARGEST_FILE, "allowed_paths": [str(EXAMPLES)]}
    server = {"middleware": [Middleware(bounded)]}
    page = build()
    stand_ready()
    threading.Thread(target=sweep, args=[{*FOLDER.rglob("*")}], daemon=True).start()  # the page's own images stay
    return page.launch(**fixed, footer_links=[], app_kwargs=server, **options)


if __name__ == "__main__":
    for number in {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}:  # which Paddle's import has taken over
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        launch()
    finally:
        gr.close_all(verbose=False)  # so that nothing is written any more when the page's files are removed
