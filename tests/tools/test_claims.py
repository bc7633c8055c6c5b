"""The ledger of the papers' claims: its verdicts by arithmetic, its commands by the papers' own readers of flags."""

import importlib
import json
import math

import pytest

from tools import claims
from tools.claims import CLAIMS, ROOT, commands, difference, page, verdict


def arm(*values, error=0.0, score="hole_psnr_db"):
    return {str(seed): {"scores": {score: [value, error]}} for seed, value in enumerate(values)}


CLAIM = claims.Claim("p", "says", "", {"a": "", "b": ""}, "", (("hole_psnr_db", "a", "b"),), ("hole_psnr_db",), "x")


def test_the_difference_and_its_error_by_hand():
    """Gains of 1, 2 and 3: their mean 2, spread 1 over root 3; images add (0.3^2 + 0.4^2) / 3."""
    gain, error = difference(arm(11, 12, 13, error=0.3), arm(10, 10, 10, error=0.4), "hole_psnr_db")
    assert gain == 2 and math.isclose(error, math.sqrt(1 / 3 + 0.25 / 3))
    lower = [arm(*values, score="kid_lite0_x1000") for values in ((5, 7), (8, 10))]
    assert difference(*lower, "kid_lite0_x1000") == (3, 0)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (((12, 12.1), (10, 10)), "holds here"),
        (((8, 8.1), (10, 10)), "does not hold here"),
        (((10.5, 9.8), (10, 10)), "undecided at this scale"),
        (((12,), (10,)), "undecided: fewer than two seeds"),
        (((12, 13), ()), "undecided: fewer than two seeds"),
    ],
)
def test_the_verdict(values, says):
    assert verdict(CLAIM, {"a": arm(*values[0]), "b": arm(*values[1])})[0] == says


def test_nothing_measured_is_no_verdict():
    assert verdict(CLAIM, {}) == ("not tested yet", [])


@pytest.mark.parametrize(("name", "each"), [(name, each) for name, claim in CLAIMS.items() for each in claim.arms])
def test_the_commands_are_read_by_the_paper(name, each, tmp_path):
    """Every arm differs from every other in what it trains, and its comparisons name arms and scores that there are."""
    claim = CLAIMS[name]
    for score, *arms in claim.better:
        assert score in claim.shown and set(arms) <= claim.arms.keys()
    (tmp_path / "weights.safetensors").touch()
    for data in ("celeba", "cityscapes"):
        (tmp_path / data).mkdir()
    train, score = (
        [word.replace("DATA", str(tmp_path)) for word in words[3:]] for words in commands(claim, each, 0, tmp_path)
    )
    read_train = importlib.import_module(f"{claim.paper}.config").read_train
    cfg = read_train(train, "")
    importlib.import_module(f"{claim.paper}.train").check(cfg)
    importlib.import_module(f"{claim.paper}.options").read_evaluate(score, "")
    others = [commands(claim, other, 0, tmp_path)[0][3:] for other in claim.arms if other != each]
    assert train not in [[word.replace("DATA", str(tmp_path)) for word in other] for other in others]


def test_the_page_is_that_of_its_figures():
    figures = ROOT / "docs/claims.json"
    assert (ROOT / "docs/claims.md").read_text() == page(json.loads(figures.read_text()))


def test_a_claim_is_trained_scored_and_written_once(tmp_path, monkeypatch, capsys):
    """Its commands run in order, what is measured stays, and a failing command is told."""
    ran = []

    def run(words, **_):
        ran.append(words[2])
        if "evaluate" in words[2]:
            folder = words[words.index("--output") + 1]
            scores = {score: [1.0, 0.1] for score in CLAIMS["glcic-discriminators"].shown}
            (ROOT / folder).mkdir(parents=True, exist_ok=True)
            (ROOT / folder / "scores.json").write_text(json.dumps({"steps": 5, "rows": {"ours": scores}}))
        return type("Done", (), {"returncode": 0})

    monkeypatch.setattr(claims.subprocess, "run", run)
    words = ["glcic-discriminators", "--data-dir", str(tmp_path), "--seeds", "0", "--run-dir", str(tmp_path / "runs")]
    claims.main([*words, "--ledger", str(tmp_path / "claims.json")])
    assert ran == ["glcic.train", "glcic.evaluate"] * 4
    claims.main([*words, "--ledger", str(tmp_path / "claims.json")])
    assert len(ran) == 8 and "fewer than two seeds" in (tmp_path / "claims.md").read_text()
    monkeypatch.setattr(claims.subprocess, "run", lambda *_, **__: type("Done", (), {"returncode": 1}))
    with pytest.raises(SystemExit):
        claims.main([*words, "--ledger", str(tmp_path / "other.json")])
    assert "failed, see above" in capsys.readouterr().err and not (tmp_path / "other.md").exists()


def test_mistakes(capsys):
    for words, told in ((["nothing"], "no claim 'nothing'"), (["glcic-discriminators"], "--data-dir")):
        with pytest.raises(SystemExit) as end:
            claims.main(words)
        assert end.value.code == 2 and told in capsys.readouterr().err
