"""Every command, found by itself: a leading ~ in a flag is the home folder, whatever the flag."""

import dataclasses
import functools
import importlib
import inspect
import os
import typing
from pathlib import Path

import pytest
import tyro

from common.deploy import export as exported
from common.runtime.commands import one_line_errors

import paddle

ROOT = Path(__file__).parents[2]
FILES = sorted(path for glob in ("*.py", "*/*.py", "*/*/__main__.py") for path in ROOT.glob(glob))
COMMANDS = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in FILES
    if "def main(argv" in path.read_text("utf-8")
]


class ParsedError(Exception):
    """Carries what a command understood, before it does anything."""


def stop_after(parse):
    @functools.wraps(parse)
    def parse_and_stop(kind, *args, **kwargs):
        try:
            result = parse(only_arguments(kind), *args, **kwargs)
        except SystemExit:  # some arguments are missing, or not understood
            result = None
        raise ParsedError(result, kind)

    return parse_and_stop


def only_arguments(kind):
    """Functions that tyro would call become functions that return their arguments."""
    if isinstance(kind, dict):
        return {name: only_arguments(each) for name, each in kind.items()}
    if not inspect.isfunction(kind):
        return kind

    @functools.wraps(kind)
    def arguments(*args, **kwargs):
        return [*args, *kwargs.values()]

    return arguments


@pytest.fixture
def understood(monkeypatch, tmp_path):
    """(module, arguments) -> what its `main` understands of them, and what it asked tyro for."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for place, name in [
        (tyro, "cli"),
        *((tyro.extras, f) for f in ("overridable_config_cli", "subcommand_cli_from_dict")),
    ]:
        monkeypatch.setattr(place, name, stop_after(getattr(place, name)))

    def read(module, argv):
        with pytest.raises(ParsedError) as parsed:
            importlib.import_module(module).main(argv)
        return parsed.value.args

    return read


def parts(hint):
    """A type hint, and the types inside it."""
    yield hint
    for each in typing.get_args(hint):
        yield from parts(each)


def arguments_of(kind, value):
    """Arguments that give `value` to each flag of a dataclass or function that can take a path, and their number."""
    hints = typing.get_type_hints(kind, include_extras=True)
    fields = inspect.signature(kind).parameters
    positional, flags, count = [], [], 0
    for name, field in fields.items():
        inside = list(parts(hints[name]))
        flag = "--" + name.replace("_", "-")
        takes_path = Path in inside or str in inside
        if name == "preset":  # given as a word
            continue
        if "Positional" in str(hints[name]):
            positional.append(value if takes_path else "1")
        elif takes_path:
            flags.append(f"{flag}={value}")
        elif field.default is inspect.Parameter.empty:
            choices = [each for each in inside if typing.get_origin(each) is typing.Literal]
            flags.append(f"{flag}={typing.get_args(choices[0])[0] if choices else 1}")
        count += takes_path
    return positional + flags, count


def texts(value):
    """All texts and paths in what was understood."""
    if isinstance(value, str | Path):
        yield str(value)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from texts(getattr(value, field.name))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from texts(each)


def test_commands_are_found():
    assert len(COMMANDS) > 30 and {"glcic.infer", "common.doctor.__main__", "data.prepare", "tools.pack_weights"} < set(
        COMMANDS
    )


def kinds(module, understood):
    """(leading words, dataclass or function) of each thing that a command's arguments become."""
    if hasattr(module, "COMMANDS"):
        return [([name], kind) for name, kind in module.COMMANDS.items()]
    if hasattr(module, "Options"):
        return [([], module.Options)]
    if hasattr(module, "read_train"):
        return [(["quick"], module.Config)]
    if hasattr(module, "read_infer"):
        return [([], typing.get_type_hints(module.read_infer)["return"])]
    return [([], understood(module.__name__, [])[1])]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_tilde_is_the_home_in_every_flag_that_can_hold_a_path(name, understood, tmp_path):
    for words, kind in kinds(importlib.import_module(name), understood):
        arguments, count = arguments_of(kind, "~/a b")
        found = list(texts(understood(name, words + arguments)[0]))
        assert count and sum(text == f"{tmp_path}/a b" for text in found) == count, (words, arguments, found)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name.endswith(".train")])
def test_a_flag_that_is_no_finite_number_is_refused(name, capsys):
    """It would be written to options.json, which is JSON."""
    for value in ("nan", "inf", "-inf"):
        with pytest.raises(SystemExit, match="2"):
            importlib.import_module(name).main(["quick", f"--save-minutes={value}"])
        assert f"--save-minutes {value}: it must be a finite number" in capsys.readouterr().err


def test_a_folder_whose_name_is_no_text_is_exported_to(tmp_path, capsys):
    """Paddle writes to no such folder by itself."""
    folder = tmp_path / os.fsdecode(b"\xff caf\xe9")
    network = paddle.nn.Conv2D(3, 3, 3, padding=1)
    network.eval()
    sides = [(8, 8), (12, 8)]

    @one_line_errors
    def command(argv):
        exported.export(network, folder, "net", lambda n, h, w: [paddle.ones([n, 3, h, w])], sides)

    command([])
    assert sorted(path.suffix for path in folder.iterdir()) in ([".json", ".pdiparams"], [".pdiparams", ".pdmodel"])
    assert "largest difference" in capsys.readouterr().out
