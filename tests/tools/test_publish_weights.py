"""Model cards say what the manifest says; the upload gets the whole folder; what is missing is told in one line."""

import hashlib
import json
import re
import shutil
import sys
import types

import pytest

import weights
from tools import publish_weights as publish

pytestmark = pytest.mark.medium
BUNDLED = weights.read_manifest()


@pytest.mark.parametrize("name", BUNDLED)
def test_a_card_says_what_the_manifest_says(name, tmp_path):
    """Terms, command, checksum; every score of every method in COLUMNS, at its place; a picture that is there."""
    publish.main([name, "--output", str(tmp_path)])
    folder, about = tmp_path / name, BUNDLED[name]
    text = (folder / "README.md").read_text()
    assert text.startswith(f"# {name}\n") and f"\n{about['terms']}." in text and f"`{about['command']}`" in text
    for heading in ("Intended use", "Terms of the data", "Training", "Scores", "Failures"):
        assert text.count(f"\n## {heading}\n") == 1
    assert hashlib.sha256((folder / about["file"]).read_bytes()).hexdigest() == about["sha256"]
    assert about["sha256"] in text and "--masks " not in text  # the flag's name in version 0.1
    (picture,) = re.findall(r"!\[failures\]\((\S+)\)", text)
    assert (folder / picture).read_bytes() == (publish.DOCS / picture).read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == sorted(["README.md", about["file"], picture])

    tables = text.split("\n## Scores\n")[1].split("\n## Failures\n")[0].split("```\n")[2::2]
    assert len(tables) == len(about["evaluation"])
    for part, scored in zip(tables, about["evaluation"], strict=True):
        assert f"```\n{scored['command']}\n```".replace("--masks ", "--mask ") in text
        kinds = list(scored.get("kinds", {"": scored}).values())
        rows = [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")]
        rows = [row for row in rows if row[0] != "---"]
        headers = [row for row in rows if row[0] == "labels" or row[0].endswith("masks")]
        assert len(headers) == len(kinds)
        for header, kind in zip(headers, kinds, strict=True):
            keys = [{title: key for key, title in publish.COLUMNS.items()}[title] for title in header[1:]]
            for method, values in kind["rows"].items():
                row = next(row for row in rows[rows.index(header) + 1 :] if row[0] == method)
                for key, cell in zip(keys, row[1:] + [""] * (len(keys) - len(row) + 1), strict=True):
                    expected = values.get(key, [])
                    expected = expected if isinstance(expected, list) else [expected]
                    expected = [number for number in expected if number is not None]  # of a whole set, without an error
                    assert [float(number) for number in cell.strip("| ").split(" ± ") if number] == expected, (
                        method,
                        key,
                    )


class Hub(types.ModuleType):
    """aistudio_sdk.hub as version 0.3.9 has it: keywords alone; it looks at the folder when it is called."""

    def __init__(self, problem=None):
        super().__init__("aistudio_sdk.hub")
        self.calls, self.problem = [], problem

    def upload_folder(self, *, repo_id, folder_path=None, path_in_repo="", commit_message=None, token=None):
        files = {path.name: path.read_bytes() for path in publish.Path(folder_path).iterdir()}
        self.calls.append((repo_id, path_in_repo, commit_message, files))
        if self.problem:
            raise self.problem


@pytest.fixture
def sdk(monkeypatch, tmp_path):
    """(hub) -> None puts aistudio_sdk with this hub, or none, in the place of an installed one; there is no token."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv(publish.TOKEN, raising=False)

    def put(hub):
        package = types.ModuleType("aistudio_sdk")
        package.hub = hub
        monkeypatch.setitem(sys.modules, "aistudio_sdk", package if hub else None)
        monkeypatch.setitem(sys.modules, "aistudio_sdk.hub", hub)

    return put


UPLOAD = ["glcic_faces", "--repo", "someone/glcic", "--output"]


@pytest.mark.parametrize("kept", [False, True])
def test_the_whole_folder_is_uploaded(kept, sdk, tmp_path, monkeypatch, capsys):
    sdk(hub := Hub())
    if kept:
        (tmp_path / "home" / publish.KEPT_TOKEN).parent.mkdir(parents=True)
        (tmp_path / "home" / publish.KEPT_TOKEN).write_text("token")
    else:
        monkeypatch.setenv(publish.TOKEN, "token")
    publish.main([*UPLOAD, str(tmp_path / "out")])
    ((repo, place, message, files),) = hub.calls
    assert (repo, place) == ("someone/glcic", "") and message.startswith("glcic_faces")
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "out/glcic_faces").iterdir()}
    assert files.keys() == {"README.md", "glcic_faces.safetensors", "glcic_worst_best.jpg"}
    assert capsys.readouterr().out.endswith("uploaded to someone/glcic\n")


def fails(arguments, capsys):
    """The one line of a command that ends with status 2."""
    with pytest.raises(SystemExit) as stop:
        publish.main(arguments)
    said = capsys.readouterr().err
    assert stop.value.code == 2 and said.count("\n") == 1
    return said


def test_what_is_missing_is_told_before_anything_is_written(sdk, tmp_path, monkeypatch, capsys):
    sdk(None)
    assert "--repo needs aistudio-sdk: pip install" in fails([*UPLOAD, str(tmp_path / "out")], capsys)
    sdk(hub := Hub())
    assert f"set {publish.TOKEN}, or `aistudio login`" in fails([*UPLOAD, str(tmp_path / "out")], capsys)
    monkeypatch.setenv(publish.TOKEN, "token")
    for repo, names in (("glcic", 1), ("a/b/c", 1), ("/b", 1), ("a/b", 2)):
        arguments = [*list(BUNDLED)[:names], "--repo", repo, "--output", str(tmp_path / "out")]
        assert f"--repo {repo}: it is USER/REPOSITORY" in fails(arguments, capsys)
    assert "no weights nothing" in fails(["nothing", "--output", str(tmp_path / "out")], capsys)
    assert not (tmp_path / "out").exists() and not hub.calls


def test_what_ai_studio_says_is_one_line(sdk, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv(publish.TOKEN, "token")
    sdk(Hub(problem=ValueError("the repository does not exist\nmore")))
    said = fails([*UPLOAD, str(tmp_path / "out")], capsys)
    assert "AI Studio did not take" in said and "someone/glcic: the repository does not exist" in said
    assert (tmp_path / "out/glcic_faces/README.md").is_file()


def test_weights_that_are_not_those_of_the_manifest_get_no_card(tmp_path, capsys):
    for name in ("glcic_faces.safetensors", weights.MANIFEST):
        shutil.copy(weights.FOLDER / name, tmp_path)
    manifest = json.loads((tmp_path / weights.MANIFEST).read_text())
    manifest["glcic_faces"]["sha256"] = "0" * 64
    (tmp_path / weights.MANIFEST).write_text(json.dumps(manifest))
    arguments = ["glcic_faces", "--output", str(tmp_path / "out"), "--weights", str(tmp_path)]
    assert "SHA-256" in fails(arguments, capsys) and not (tmp_path / "out").exists()
