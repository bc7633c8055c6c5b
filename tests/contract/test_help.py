"""The help of every verb of every paper: whole sentences, in groups; and one name for one thing in all papers."""

import dataclasses
import importlib
import re
import typing
from collections import defaultdict
from pathlib import Path

import pytest

from common import config
from common.inpainting import photos

ROOT = Path(__file__).parents[2]
PAPERS = sorted(path.parent.name for path in ROOT.glob("*/infer.py"))
VERBS = ("train", "infer", "evaluate", "convert", "export")
COMMANDS = [(paper, verb) for paper in PAPERS for verb in VERBS]
# What a text that has lost its noun begins with.
FRAGMENTS = {"of", "for", "to", "by", "in", "on", "with", "from", "at", "as", "if", "none", "needs", "is", "has", "and"}


def options(paper: str, verb: str) -> type:
    module = importlib.import_module(f"{paper}.{'config' if verb == 'train' else 'options'}")
    return typing.get_type_hints(getattr(module, f"read_{verb}"))["return"]


def flags(kind: type) -> dict[str, tuple[str, str]]:
    """(group, help) by the name of each flag, of the settings within a field too."""
    found = {}
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            found |= {flag: (name, text) for flag, (_, text) in flags(hint).items()}
        else:
            found[name] = config.field_notes(kind)[name]
    return found


def subject(text: str) -> str:
    """What a help text says first, before its details: the thing that the flag sets."""
    return re.split(r"[;:,.(\[]", text)[0].strip()


@pytest.fixture
def shown(monkeypatch, capsys):
    """(paper, verb, width of the terminal) -> what --help prints."""

    def show(paper, verb, width):
        monkeypatch.setenv("COLUMNS", str(width))
        words = ["quick", "--help"] if verb == "train" else ["--help"]
        with pytest.raises(SystemExit) as stop:
            importlib.import_module(f"{paper}.{verb}").main(words)
        assert stop.value.code == 0
        return capsys.readouterr().out

    return show


@pytest.mark.parametrize("paper, verb", COMMANDS)
def test_every_help_text_is_one_whole_sentence(paper, verb):
    for name, (_, text) in flags(options(paper, verb)).items():
        assert re.match(r"[A-Z`\d]|otenim", text), (name, text)
        assert text.split()[0].lower() not in FRAGMENTS, (name, text)
        assert len(text.split()) >= 2 and text.endswith(("]", ".")) and "  " not in text, (name, text)
        assert "hole of" not in text and "picture" not in text, (name, text)


@pytest.mark.parametrize("paper", PAPERS)
def test_every_setting_of_a_training_says_where_its_value_comes_from(paper):
    for name, (_, text) in flags(options(paper, "train")).items():
        assert re.search(r" \[[^\[\]]+\]$", text), (name, text)


@pytest.mark.parametrize("paper, verb", COMMANDS)
def test_help_shows_every_text_unbroken_in_its_group(paper, verb, shown):
    wide = shown(paper, verb, 1000)  # room for every text in one line
    narrow = re.split(r"^\W*(\w+ (?:options|arguments))\W*$", shown(paper, verb, 80), flags=re.M)
    panels = {
        title: " ".join(re.findall(r"[^\s│]+", text)) for title, text in zip(narrow[1::2], narrow[2::2], strict=True)
    }
    for name, (group, text) in flags(options(paper, verb)).items():
        assert group in (*config.GROUPS, "search"), (name, group)
        if name == "preset" and verb == "train":  # given as a word
            continue
        positional = verb == "convert" and name in ("published", "output")
        assert text in wide, name
        assert text in panels["positional arguments" if positional else f"{group} options"], (name, group)


@pytest.mark.parametrize("verb", VERBS)
def test_one_name_for_one_thing(verb):
    """A flag that several papers have sets the same thing, and what several papers set has the same flag."""
    subjects, names = defaultdict(set), defaultdict(set)
    for paper in PAPERS:
        for name, (_, text) in flags(options(paper, verb)).items():
            subjects[name].add(subject(text))
            names[subject(text)].add(name)
    assert {name: found for name, found in subjects.items() if len(found) > 1} == {}
    assert {text: found for text, found in names.items() if len(found) > 1} == {}


def test_a_flag_is_of_one_kind_in_all_verbs():
    """A path is a path everywhere: --output is never a setting of a network, --mask never a size."""
    kinds = defaultdict(set)
    for paper, verb in COMMANDS:
        for name, hint in typing.get_type_hints(options(paper, verb)).items():
            kinds[name].add(Path in (hint, *typing.get_args(hint)))
    assert {name for name, found in kinds.items() if len(found) > 1} == set()


def test_what_results_do_not_depend_on_are_flags():
    every = {name for paper in PAPERS for name in flags(options(paper, "infer"))}
    assert every >= photos.NO_SETTINGS


def test_texts_and_groups_are_inherited():
    @dataclasses.dataclass(frozen=True)
    class Base:
        # ---- data
        a: int = 1
        """Number of a's,
        in a long text."""
        # ---- model
        b: int = 2
        """Number of b's."""

    @dataclasses.dataclass(frozen=True)
    class Child(Base):
        a: int = 3
        # ---- run
        b: int = 4
        """Number of other b's."""

    assert config.field_notes(Base) == {
        "a": ("data", "Number of a's, in a long text."),
        "b": ("model", "Number of b's."),
    }
    wanted = {"a": ("data", "Number of a's, in a long text."), "b": ("run", "Number of other b's.")}
    assert config.field_notes(Child) == wanted
    assert config.parse(Child, ["--b", "7"], "prog", "") == Child(a=3, b=7)
