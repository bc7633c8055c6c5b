"""Which files below a folder are images, what is passed over there, and names that are equal on every file system."""

import importlib.util
import json
import os
import re
import unicodedata
import zipfile
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import features

from common.errors import UserError, first_line

HEIF = importlib.util.find_spec("pillow_heif") is not None
# Suffixes by Pillow's name of the format. It knows more, but needless ones: EPS is a program, which it would run.
KINDS = {
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif", ".jif"),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TIFF": (".tif", ".tiff"),
    **({"AVIF": (".avif",)} if "avif" in features.modules and features.check("avif") else {}),
    **({"HEIF": (".heic", ".heif", ".hif")} if HEIF else {}),
    **({"JPEG2000": (".jp2", ".j2k", ".jpc", ".jpf", ".jpx")} if features.check("jpg_2000") else {}),
    **({"WEBP": (".webp",)} if features.check("webp") else {}),
}
FORMATS = tuple(KINDS)
READABLE = frozenset(suffix for suffixes in KINDS.values() for suffix in suffixes)
ADVICE = {  # how to have kinds read that are passed over on this machine
    **dict.fromkeys((".heic", ".heif", ".hif"), "`pip install pillow-heif` and they are read"),
    ".avif": "Pillow 11.3 or newer reads them",
}
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm"}  # of images that are made
WRITABLE = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")  # of photos, see `photo_file`
RECORD = ".results.jsonl"  # what `finished` writes in a folder of results
MEMBER_BYTES = 2**26  # of an image in a zip; more is likelier a decompression bomb

# Left out without a word in any case, like names that begin with a dot (._name, .DS_Store, .ipynb_checkpoints).
LITTER = {
    *("@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "$recycle.bin", "recycler", "lost+found"),
    *("system volume information", "__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"),
}


def same_name(text: str) -> str:
    """The name as it is compared: composed (NFC). macOS writes `é` as two characters (NFD), other systems as one."""
    return unicodedata.normalize("NFC", text)


def is_litter(name: str) -> bool:
    """Whether a file or folder is hidden, or left by a NAS, macOS or Windows."""
    return name.startswith(".") or name.lower() in LITTER


@dataclass(frozen=True)
class Survey:
    """What lies below a folder, or in a zip.

    Args:
        folder: the folder or zip.
        images: the images, sorted by path; those of a zip as paths below it.
        passed_over: suffix (`` for none) -> number of other files; litter and hidden files are not counted.
        own: folders and files that a command of the suite wrote: runs, results, previews.
        unreadable: folders that cannot be listed.
        members: of a zip, each image's path -> its name there.
    """

    folder: Path
    images: list[Path] = field(default_factory=list)
    passed_over: Counter = field(default_factory=Counter)
    own: list[Path] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)
    members: dict[Path, str] = field(default_factory=dict)

    def note(self) -> str:
        """What was passed over, by kind, in one line; empty if nothing was."""
        parts = [_count(suffix, count) for suffix, count in self.passed_over.most_common(8)]
        if len(self.passed_over) > 8:
            parts.append(f"{len(self.passed_over) - 8} other kinds")
        parts += [f"{self._name(path)} (written by this suite)" for path in self.own[:3]]
        parts += [f"{len(self.own) - 3} more such"] if len(self.own) > 3 else []
        parts += [f"{self._name(path)} (no permission to list it)" for path in self.unreadable[:3]]
        parts = [f"passed over: {', '.join(parts)}"] if parts else []
        gifs = sum(path.suffix.lower() == ".gif" for path in self.images)
        parts += [f"of {gifs:,} .gif the first frame is read"] if gifs else []
        if not parts:
            return ""
        kinds = Counter(path.suffix.lower() for path in self.images).most_common(8)
        read = f" ({', '.join(f'{count:,} {suffix}' for suffix, count in kinds)})" if kinds else ""
        return f"{self.folder}: {len(self.images):,} images{read}; {'; '.join(parts)}"

    def _name(self, path: Path) -> Path:
        return path.relative_to(self.folder)


def _count(suffix: str, count: int) -> str:
    advice = f" ({ADVICE[suffix]})" if suffix in ADVICE else ""
    return f"{count:,} {suffix or 'without a suffix'}{advice}"


def survey(folder: str | Path) -> Survey:
    """Looks through a folder and those in it, links to folders followed, each folder once; or through a zip.

    Raises:
        UserError: there is no such folder or zip, or the zip is corrupt.
    """
    folder = Path(folder)
    if is_zip(folder):
        return _survey_zip(folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    found = Survey(folder)
    for above, names in _walk(found):
        stems = {_split(name)[0] for name in names}
        for name in sorted(names):
            stem, suffix = _split(name)
            if suffix not in READABLE:
                found.passed_over[suffix] += 1
            elif _is_own(name, names) or (stem.endswith("-hole") and stem.removesuffix("-hole") in stems):
                found.own.append(above / name)
            else:
                found.images.append(above / name)
    found.images.sort()
    return found


def find_images(folder: str | Path) -> list[Path]:
    """All images below a folder, sorted by path; see `survey`, which also tells what is passed over."""
    return survey(folder).images


def is_zip(path: Path) -> bool:
    """Whether this is called a zip, and is a file."""
    return path.suffix.lower() == ".zip" and path.is_file()


def open_zip(path: Path) -> zipfile.ZipFile:
    """The zip, for reading. Raises UserError if it is none, or is corrupt."""
    try:
        return zipfile.ZipFile(path)
    except Exception:  # a corrupt zip can raise anything
        raise UserError(
            f"{path} is no zip with images; a failed download is often a web page of that name, or cut short"
        ) from None


def member_bytes(opened: zipfile.ZipFile, member: str, name: str) -> bytes:
    """A file in an open zip. Raises UserError, calling it `name`, if it is missing, corrupt or absurdly large."""
    try:
        size = opened.getinfo(member).file_size
        if size > MEMBER_BYTES:
            raise UserError(f"{name} has {size:,} bytes; the limit is {MEMBER_BYTES:,} in a zip")
        return opened.read(member)
    except UserError:
        raise
    except Exception as problem:  # a corrupt zip can raise anything
        raise UserError(f"cannot read {name}: {first_line(problem)}") from None


def _survey_zip(path: Path) -> Survey:
    found = Survey(path)
    with open_zip(path) as opened:
        for name in sorted(opened.namelist()):
            parts = _parts_in_zip(name)
            if name.endswith("/") or not parts or any(map(is_litter, parts)):
                continue
            suffix = _split(parts[-1])[1]
            if suffix in READABLE:
                place = path.joinpath(*parts)  # a/b.png and a\\b.png may both be there
                found.members[place if place not in found.members else path / name.lstrip("/")] = name
            else:
                found.passed_over[suffix] += 1
    found.images.extend(sorted(found.members))
    return found


def _parts_in_zip(name: str) -> list[str]:
    """A name in a zip as a path below it: some programs pack `/a/b.png`, `../a/b.png` or `C:\\a\\b.png`."""
    return [part for part in PurePosixPath(name.replace("\\", "/")).parts if part.strip("/") and part != ".."]


def _split(name: str) -> tuple[str, str]:
    """Stem and lower-case suffix; quicker than a Path, for folders of 200,000 files."""
    stem, dot, suffix = name.rpartition(".")
    return (stem, dot + suffix.lower()) if stem else (name, "")


def _walk(found: Survey) -> Iterator[tuple[Path, set[str]]]:
    """Yields (folder, names of its files) of the folder and those below, but for litter and what the suite wrote.

    Links come after the folders themselves, so that an image is called by its own path where it has one.
    """

    def cannot_list(problem: OSError) -> None:
        found.unreadable.append(Path(problem.filename))

    seen, waiting = set(), deque([found.folder])
    while waiting:
        for above, folders, names in os.walk(waiting.popleft(), onerror=cannot_list):
            above, real = Path(above), Path(above).resolve()
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            folders[:] = sorted(name for name in folders if not is_litter(name))
            names = {name for name in names if not is_litter(name)}
            if above == found.folder and _is_run(folders, names):  # given by name: what else lies there is data
                folders[:] = [name for name in folders if name not in ("previews", "checkpoints")]
            elif above != found.folder and _is_written(above, folders, names):
                found.own.append(above)
                folders.clear()
                continue
            links = [above / name for name in folders if (above / name).is_symlink()]
            waiting += [link for link in links if not real.is_relative_to(link.resolve())]
            yield above, names


def _is_run(folders: list[str], names: set[str]) -> bool:
    if {"checkpoints", "previews"} <= {*folders}:  # whose options.json is lost
        return True
    return "options.json" in names and bool({"stats.jsonl", "checkpoints", "previews"} & {*folders, *names})


def _is_written(folder: Path, folders: list[str], names: set[str]) -> bool:
    """Whether a folder is a run, or holds the results of `infer`."""
    if _is_run(folders, names) or (folder / RECORD).is_file():  # of a run that was killed, without a summary
        return True
    return any(is_summary(folder / name) for name in names if re.fullmatch(r"summary(-\d+)?\.json", name))


def is_summary(path: Path) -> bool:
    """Whether a file is the summary that `infer` writes beside the results of a folder."""
    try:
        summary = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(summary, dict) and {"failed", "skipped", "weights"} <= summary.keys()


def _is_own(name: str, names: set[str]) -> bool:
    if name in ("images.png", "pictures.png"):  # the second by version 0.1
        return "scores.json" in names
    return name == "curves.png" and "stats.jsonl" in names


# What a file is that no format of ours fits, by its first bytes
SIGNS = (
    (b"%PDF", "a PDF"),
    (b"8BPS", "a Photoshop file: export it as PNG"),
    (b"%!PS", "a PostScript file: export it as PNG"),
    (b"<svg", "an SVG drawing: export it as PNG"),
    (b"<!doctype", "a web page, as a failed download often is"),
    (b"<html", "a web page, as a failed download often is"),
    (b"PK\x03\x04", "a zip"),
    (b"version https://git-lfs", "a Git LFS pointer: fetch the images with `git lfs pull`"),
)
BRANDS = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def why_no_image(data: bytes) -> str:
    """What the bytes of a file are that Pillow does not know here, and what to do: `not an image (…)`."""
    start = data[:512].lstrip().lower()
    found = next((text for sign, text in SIGNS if start.startswith(sign.lower())), "")
    if data[4:8] == b"ftyp":
        if data[8:12] in (b"avif", b"avis"):
            found = "AVIF, which Pillow 11.3 or newer reads; or convert it to PNG or JPEG"
        elif data[8:12] in BRANDS:
            found = "HEIC or HEIF" + ", corrupt" * HEIF + "; `pip install pillow-heif` and it is read" * (not HEIF)
            found += "; or convert it to PNG or JPEG"
        else:
            found = "a video"
    elif not data.strip(b"\0"):
        found = "an empty file" if not data else "nothing but zero bytes"
    return f"not an image ({found})" if found else "not an image"
