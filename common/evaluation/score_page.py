"""The images an evaluation was worst and best at: an HTML page with sortable scores, and one small picture."""

import base64
import html

import cv2
import numpy as np

from common.imaging.grid import grid, show_mask

SHOWN, THUMBNAIL_PX = 20, 128
EXTREMES, EXTREME_PX = 5, 80  # of the small picture
MASK_COLOUR = (230, 30, 90)  # which no background has
RANKED_BY = "hole_psnr_db"

PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em; color: #222;
  overflow-wrap: anywhere }}
table {{ border-collapse: collapse; font-size: 13px }}
div.wide {{ overflow: auto; max-height: 90vh }}
th, td {{ padding: 3px 9px; text-align: right; border-bottom: 1px solid #ddd; overflow-wrap: normal }}
th:first-child, td:first-child {{ text-align: left; white-space: nowrap }}
table.sortable th {{ cursor: pointer; background: #f3f3f3; position: sticky; top: 0 }}
div.images {{ display: flex; flex-wrap: wrap; gap: 14px }}
figure {{ margin: 0; max-width: 100% }} figcaption {{ font-size: 12px; color: #555 }}
img {{ display: block; max-width: 100% }}
</style>
<h1>{title}</h1><p>{about}</p>
<div class="wide">{summary}</div>
<p>{notes}</p>
<h2>Worst {count}, by {ranked_by} of {method}</h2><p>From left to right: input, {method}, {second}, truth.</p>
<div class="images">{worst}</div>
<h2>Best {count}</h2><div class="images">{best}</div>
<h2>Every image</h2><p>Click a heading to sort.</p>
<div class="wide">{scores}</div>
<script>
document.querySelectorAll("table.sortable th").forEach((head, column) => head.addEventListener("click", () => {{
  const body = head.closest("table").tBodies[0], up = head.dataset.up !== "1";
  const value = row => {{ const text = row.cells[column].textContent, number = parseFloat(text);
    return isNaN(number) ? text : number; }};
  head.dataset.up = up ? "1" : "0";
  [...body.rows].sort((a, b) => (value(a) > value(b) ? 1 : value(a) < value(b) ? -1 : 0) * (up ? 1 : -1))
    .forEach(row => body.append(row));
}}));
</script></html>
"""


def page(result: dict) -> str:
    """The page of a result of `comparison.compare`, about its first learned row."""
    method, order = ranked(result)
    rows = result["rows"]
    others = [name for name in result.get("baselines", rows) if name != method]
    second = max(others, key=lambda name: rows[name][RANKED_BY][0], default=method)
    count = min(SHOWN, len(order))
    about = "{images_scored} images of {image_px} px; masks: {masks}, {mask_fraction_percent} % of the image".format(
        **result
    )
    return PAGE.format(
        title=html.escape(f"{result.get('weights', method)}"),
        about=html.escape(about),
        summary=_summary(rows),
        notes="<br>".join(map(html.escape, result.get("metric_notes", []))),
        count=count,
        ranked_by=RANKED_BY,
        method=html.escape(method),
        second=html.escape(second),
        worst="".join(_figure(result, n, method, second) for n in order[:count]),
        best="".join(_figure(result, n, method, second) for n in order[::-1][:count]),
        scores=_scores(result, method),
    )


def ranked(result: dict) -> tuple[str, np.ndarray]:
    """The first learned row, and the numbers of its images from the worst to the best."""
    method = (result.get("learned") or [*result["rows"]])[0]
    return method, np.argsort([scores[RANKED_BY] for scores in result["per_image"][method]], kind="stable")


def extremes(result: dict) -> np.ndarray:
    """The five worst images of the first learned row, and beside each one of the five best: uint8 [H, W, 3].

    The input, the row's completion and the truth; chosen by the PSNR inside the mask alone.
    """
    method, order = ranked(result)
    kept: list[tuple] = []
    for place, n in enumerate([*order[:EXTREMES], *order[EXTREMES:][-EXTREMES:]]):
        kept.append((place, _shown(result, n, (method, "truth"))))
    return extremes_sheet(kept, [method[:11], "truth"])


def keep_extremes(kept: list[tuple[float, list]], score: float, images: list[np.ndarray]) -> None:
    """Adds an image's score and what is to be shown of it to a sorted list of the five lowest and the five highest."""
    kept.append((score, images))
    kept.sort(key=lambda each: each[0])
    del kept[EXTREMES:-EXTREMES]


def extremes_sheet(kept: list[tuple[float, list]], titles: list[str]) -> np.ndarray:
    """Rows of one of the worst, from the worst on, and one of the best, from the best on: uint8 [H, W, 3].

    Args:
        kept: in the order of their scores; of fewer than ten images some are shown twice.
        titles: of the images after the first.
    """
    count = min(EXTREMES, len(kept))
    rows = [
        [cv2.resize(image, (EXTREME_PX, EXTREME_PX), interpolation=cv2.INTER_AREA) for image in [*worst, *best]]
        for (_, worst), (_, best) in zip(kept[:count], kept[::-1][:count], strict=True)
    ]
    return grid(rows, ["worst", *titles, "best", *titles])


def _shown(result: dict, n: int, names: tuple[str, ...]) -> list[np.ndarray]:
    images = result["images"]
    masked = show_mask(images["truth"][n], images["masks"][n], MASK_COLOUR)
    return [masked, *(images[name][n] for name in names)]


def _table(head: list[str], rows: list[list[str]], kind: str = "") -> str:
    cells = ["".join(f"<td>{html.escape(text)}</td>" for text in row) for row in rows]
    top = "".join(f"<th>{html.escape(text)}</th>" for text in head)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return f'<table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>'


def _summary(rows: dict) -> str:
    keys = list(dict.fromkeys(key for scores in rows.values() for key in scores))
    values = [
        [name, *(f"{scores[key][0]:.3f}" if key in scores else "" for key in keys)] for name, scores in rows.items()
    ]
    return _table(["method", *keys], values)


def _scores(result: dict, method: str) -> str:
    per_image, masks = result["per_image"][method], result["images"]["masks"]
    names = result.get("names") or [""] * len(masks)
    keys = list(per_image[0])
    rows = [
        [names[n] or str(n), f"{100 * masks[n].mean():.2f}", *(f"{scores[key]:.4g}" for key in keys)]
        for n, scores in enumerate(per_image)
    ]
    return _table(["image", "mask %", *keys], rows, "sortable")


def _figure(result: dict, n: int, method: str, second: str) -> str:
    shown = _shown(result, n, (method, second, "truth"))
    height = max(1, round(THUMBNAIL_PX * shown[0].shape[0] / shown[0].shape[1]))
    strip = np.concatenate(
        [cv2.resize(each, (THUMBNAIL_PX, height), interpolation=cv2.INTER_AREA) for each in shown], 1
    )
    data = cv2.imencode(".jpg", strip[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])[1]
    name = (result.get("names") or [""] * (n + 1))[n] or str(n)
    caption = html.escape(f"{name}: {result['per_image'][method][n][RANKED_BY]:.2f} dB")
    source = base64.b64encode(data.tobytes()).decode()
    image = f'<img alt="{caption}" src="data:image/jpeg;base64,{source}">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"
