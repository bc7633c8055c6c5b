"""Which file of a folder of masks belongs to which photo."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePath

from common.errors import first_few
from common.imaging.folders import same_name

# What masks are called beside their photo's name: NAME_mask, NAME_mask001, NAME-mask, NAME.mask, mask_NAME
BARE = re.compile(r"masks?[ _.-](?P<behind>.+)|(?P<before>.+?)[ _.-]masks?[ _.-]?\d*", re.IGNORECASE)


def match_masks(photos: Iterable[PurePath], masks: Iterable[PurePath]) -> dict[PurePath, PurePath | str]:
    """The mask of each photo, or why it has none.

    A mask is looked for under the photo's own path, suffix aside; then in its sub-folder as NAME_mask and the like;
    then by its name alone anywhere in the folder; then as NAME_mask anywhere. Names are compared composed (NFC) and
    without regard to case, unless case is what tells two apart. One mask never serves two photos.

    Args:
        photos, masks: paths relative to the folder of photos and to that of masks.
    """
    photos, masks = list(photos), list(masks)
    tables = [_table(masks, keys) for keys in LEVELS]
    taken = defaultdict(list)
    matched: dict[PurePath, PurePath | str] = {}
    for photo in photos:
        level, found = next(  # the surest level at which there is any
            ((n, found) for n, table in enumerate(tables) if (found := _look_up(table, photo, n))), (len(tables), [])
        )
        if len(found) == 1:
            taken[found[0]].append((level + 0.5 * (not _holds(found[0], photo)), photo))
        matched[photo] = found[0] if len(found) == 1 else _listed(photo, found)
    for mask, claims in taken.items():
        best = min(level for level, _ in claims)
        winners = [photo for level, photo in claims if level == best]
        for _, photo in claims:
            if len(claims) > 1 and winners != [photo]:
                others = ", ".join(str(other) for _, other in claims if other != photo)
                matched[photo] = f"the mask {mask} may be that of {photo} or of {others}; give each its own by its path"
    return matched


def _listed(photo: PurePath, found: list[PurePath]) -> str:
    if not found:
        return ""
    names = first_few([str(path) for path in sorted(found)], 5)
    return f"{len(found)} masks may be that of {photo}: {names}; leave one, or name it by the photo's path"


def _folder(path: PurePath) -> str:
    return _folded(path.parent.as_posix())


def _folded(text: str) -> str:
    return same_name(text).casefold()


def bare_names(stem: str) -> list[str]:
    """The photo's name that a mask's name may be made from: `a` of `a_mask001` and of `mask_a`."""
    match = BARE.fullmatch(stem)
    return [match["behind"] or match["before"]] if match else []


# From a mask's path to the keys under which it is found, the surest first
LEVELS = (
    lambda mask: [(_folder(mask), _folded(mask.name))],
    lambda mask: [(_folder(mask), _folded(mask.stem))],
    lambda mask: [(_folder(mask), _folded(name)) for name in bare_names(mask.stem)],
    lambda mask: [("", _folded(mask.stem))],
    lambda mask: [("", _folded(name)) for name in bare_names(mask.stem)],
)


def _table(masks: list[PurePath], keys) -> dict[tuple[str, str], list[PurePath]]:
    table = defaultdict(list)
    for mask in masks:
        for key in keys(mask):
            table[key].append(mask)
    return table


def _look_up(table: dict, photo: PurePath, level: int) -> list[PurePath]:
    """The masks of a photo at a level of LEVELS: those of its whole name (a.jpg.png), else of its stem."""
    folder = _folder(photo) if level < 3 else ""
    names = [photo.name] if level == 0 else [photo.name, photo.stem]
    found = next((table[folder, _folded(name)] for name in names if (folder, _folded(name)) in table), [])
    if len(found) > 1:  # A.png and a.png
        exact = [mask for mask in found if _holds(mask, photo)]
        if len(exact) == 1:
            found = exact
    return found


def _holds(mask: PurePath, photo: PurePath) -> bool:
    """Whether the photo's name stands in the mask's, case and all."""
    names = {same_name(name) for name in (mask.name, mask.stem, *bare_names(mask.stem))}
    return same_name(photo.name) in names or same_name(photo.stem) in names
