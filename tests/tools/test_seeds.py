"""What the tool writes into pages, and what it refuses. Bands themselves: tests/contract/test_reference_curves.py."""

import pytest

from common.errors import UserError
from common.training import reference
from tools import seeds

MADE = {
    "paper": "paper",
    "preset": "quick",
    "seeds": [0, 1, 2],
    "steps": [10, 20],
    "curves": {"loss": {"10": [2.0, 1.0], "20": [1.0, 0.0]}, "score": {"20": [3.0, 0.0]}},
}
BEGIN = seeds.BEGIN.replace("PAPER", MADE["paper"]).replace("PRESET", MADE["preset"])


def ends(*mean_and_spread):
    return " … ".join(f"{end:.3g}" for end in reference.band(*mean_and_spread))


def test_a_row_for_each_loss_a_column_for_each_step():
    rows = seeds.table(MADE, "docs/{paper}.md").splitlines()[2:]
    assert rows[0] == "| step | 10 | 20 |"
    assert rows[2:] == [f"| `loss` | {ends(2, 1)} | {ends(1, 0)} |", f"| `score` |  | {ends(3, 0)} |"]


def test_pages_change_between_their_marks_alone(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "paper").mkdir()
    pages = [tmp_path / page.format(paper="paper") for page in seeds.WORDS]
    for page in pages:
        page.write_text(f"before\n{BEGIN}\nold\n{seeds.END}\nafter\n", encoding="utf-8")
    for _ in range(2):  # the second time changes nothing
        seeds.write_pages(MADE, tmp_path)
        for page, name in zip(pages, seeds.WORDS, strict=True):
            wanted = f"before\n{BEGIN}\n\n{seeds.table(MADE, name)}\n\n{seeds.END}\nafter\n"
            assert page.read_text(encoding="utf-8") == wanted
    pages[0].write_text("no marks")
    with pytest.raises(UserError, match="has no <!-- band"):
        seeds.write_pages(MADE, tmp_path)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["no_paper", "quick"], "there is no paper no_paper"),
        (["glcic", "quick", "--seeds", "1"], "--seeds 1: it must be 2 or more"),
        (["glcic", "quick", "--steps", "15"], "multiples of 10"),
        (["glcic", "quick", "--steps", "2000"], "up to 1000"),
        (["glcic", "cpu"], "trains on real images"),
    ],
)
def test_mistakes(words, told, capsys):
    with pytest.raises(SystemExit, match="2"):
        seeds.main(words)
    assert told in capsys.readouterr().err
