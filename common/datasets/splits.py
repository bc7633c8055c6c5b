"""Which items of a set are for training, validation and test: by the names of folders, or by number."""

import re
from dataclasses import dataclass
from pathlib import Path

SPLITS = ("train", "val", "test")
LEAST = 20  # items that can be divided: every twentieth is held out
PLACES = {"val": 18, "test": 19}  # of each twenty
UNSPLIT = "unsplit"  # the name of a split whose items are trained on too

NAMES = {
    **dict.fromkeys(("train", "training", "trainset", "traina", "trainb"), "train"),
    **dict.fromkeys(
        ("val", "valid", "validation", "validate", "valset", "vala", "valb", "dev", "eval", "evaluation"), "val"
    ),
    **dict.fromkeys(("test", "testing", "testset", "testa", "testb", "heldout", "holdout"), "test"),
}


@dataclass(frozen=True)
class Division:
    """The items of each split.

    Args:
        items: of train, val and test, as far as there are any.
        shared: splits that have the items of train, too few to hold some out.
        note: which items are what, in one line.
    """

    items: dict[str, list]
    shared: tuple[str, ...]
    note: str

    def name(self, split: str) -> str:
        """What a score on this split may be called: UNSPLIT where its items are trained on."""
        return UNSPLIT if split in self.shared else split


def split_named(folder: str) -> str | None:
    """The split that a folder is called by: `Training`, `valid`, `test2017`, `DIV2K_train_HR`; None for other names."""
    words = {*re.findall("[a-z]+", folder.lower()), *map(str.lower, re.findall("[A-Z]?[a-z]+", folder))}  # trainImages
    found = {NAMES[word] for word in words if word in NAMES}
    return found.pop() if len(found) == 1 else None


def divide(paths: list[Path], root: Path) -> Division:
    """Divides images by the folders that they lie in, and by number what these leave open.

    Folders named like a split, in any usual spelling and at any depth, are that split as soon as one of them is held
    out (val or test); a folder `train` alone may as well hold photos of trains. Images outside the folders are for
    training if no folder is called so, else they are left out.
    """
    parts = [path.relative_to(root).parts[:-1] for path in paths]
    depth = _common(parts)
    if not any(split_named(name) for above in parts for name in above[depth:]):
        all_in = next((name for name in parts[0][:depth] if split_named(name) in ("val", "test")), "") if parts else ""
        if all_in:  # nothing is there to train on, and nothing is taken from what was held out
            return complete({split_named(all_in): paths}, {split_named(all_in): f"{all_in}/"})
    found, folders = {}, {}
    for path, above in zip(paths, parts, strict=True):
        split, folder = next(((split, name) for name in above[depth:] if (split := split_named(name))), (None, ""))
        found.setdefault(split, []).append(path)
        folders.setdefault(split, set()).add(f"{folder}/")
    if not found.keys() & {"val", "test"}:
        return complete({"train": paths}, {"train": ""})
    others = found.pop(None, [])
    titles = {split: ", ".join(sorted(folders[split])[:3]) for split in found}
    if "train" in found:
        left = f"; {len(others):,} outside these folders are left out" if others else ""
        return complete(found, titles, left)
    return complete({**found, "train": others}, {**titles, "train": "what is outside"})


def complete(
    splits: dict[str, list], titles: dict[str, str] | None = None, more: str = "", wanted: tuple[str, ...] = SPLITS
) -> Division:
    """Takes the splits that are wanted and missing from train: every twentieth item, the same ones each time.

    Args:
        splits: the items of each split that is there, in a fixed order.
        titles: where each is from, for the note.
        more: ends the note.
    """
    titles = titles or {}
    given = {split: items for split, items in splits.items() if items}
    train = given.get("train", [])
    missing = [split for split in wanted if split not in given and split != "train"]
    if not train:
        return Division(given, (), _say(given, titles) + more)
    if missing and len(train) < LEAST:
        names = " and ".join(missing)
        note = (
            f"only {len(train)} to train on, too few to hold some out ({LEAST} are needed): {names} "
            f"{'are' if missing[1:] else 'is'} the same, so a score there is of what was trained on"
        )
        return Division({**given, **dict.fromkeys(missing, train)}, tuple(missing), note + more)
    places = {PLACES[split]: split for split in missing}
    items = given | {split: [] for split in (*missing, "train")}
    for number, item in enumerate(train):
        items[places.get(number % LEAST, "train")].append(item)
    source = titles.get("train") or "all"
    taken = dict.fromkeys(missing, f"every {LEAST}th of {source}")
    return Division(items, (), _say(items, titles | taken) + more)


def _say(items: dict[str, list], titles: dict[str, str]) -> str:
    said = [
        f"{split} {len(items[split]):,}" + (f" ({titles[split]})" if titles.get(split) else "")
        for split in SPLITS
        if split in items
    ]
    return ", ".join(said)


def _common(parts: list[tuple[str, ...]]) -> int:
    """How many folders all paths have in common at their start."""
    shortest = min(map(len, parts), default=0)
    return next((depth for depth in range(shortest) if len({part[depth] for part in parts}) > 1), shortest)
