"""`report --all`: every study of the file on one page."""

import re
from pathlib import Path

import pytest
import yaml

from attnlab.ablation import attempts
from attnlab.ablation.attempts import Failure, Kind
from attnlab.ablation.cli import main
from attnlab.ablation.report import compose
from tests.ablation.simulated import simulate, write_run


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A file of three studies, of which `simulated` has results but for one run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compose, "FIGURES", {})  # they have their own tests, and take the time
    plan = simulate(tmp_path, (3,), 2, keep=lambda t: (t.cell.labels["depth"], t.seed) != (2, 1))
    stanzas = yaml.safe_load(Path("ablations.yaml").read_text())
    first = stanzas["studies"]["simulated"]
    stanzas["studies"]["untouched"] = {**first, "question": "Never run?"}
    stanzas["studies"]["elsewhere"] = {**first, "base": "other"}
    Path("ablations.yaml").write_text(yaml.safe_dump(stanzas, sort_keys=False))
    return plan


def test_page_shows_each_study_and_says_why_others_are_absent(lab, capsys):
    (gone,) = (t for t in lab.trials if not (t.run_dir / "result.json").exists())
    gone.run_dir.mkdir(parents=True)
    failure = Failure(Kind.TIME, "time limit of 3 min", -15, 1, "2026-01-02T03:04:05+00:00")
    attempts.write_failure(gone.run_dir, failure)

    assert main(["report", "--all"]) == 0

    out = capsys.readouterr().out
    assert re.search(r"simulated +5 of 6 +depth=3 ", out)
    assert "untouched: no trial has finished yet" in out
    assert "elsewhere: study elsewhere, profile laptop: unknown base 'other'" in out
    page = Path("runs/ablations/report/laptop.html").read_text(encoding="utf-8")
    for text in (
        "1 study, profile laptop",
        '<article id="simulated">',
        '<a href="#simulated">simulated</a>',
        "depth=2 seed 1: time limit of 3 min (time limit, attempt 1)",
        "untouched: no trial has finished yet",
        "independent operator built from the published abstracts",
    ):
        assert text in page, text
    listed = Path("runs/ablations/report/laptop.md").read_text(encoding="utf-8")
    (link,) = re.findall(r"^- \[simulated\]\((.*)\)$", listed, re.MULTILINE)
    assert Path("runs/ablations/report", link).resolve().is_file()


def test_report_of_one_study_is_the_same_with_and_without_the_command(lab, capsys):
    assert main(["report", "--study", "simulated"]) == 0
    by_command = capsys.readouterr().out
    assert main(["--study", "simulated", "--report"]) == 0

    assert capsys.readouterr().out == by_command
    assert "1 of 6 runs is missing: depth=2 seed 1." in by_command


def test_a_study_whose_metric_nobody_logged_does_not_hide_the_others(lab, capsys):
    stanzas = yaml.safe_load(Path("ablations.yaml").read_text())
    stanzas["studies"]["untouched"]["metric"] = "test/top9"
    Path("ablations.yaml").write_text(yaml.safe_dump(stanzas, sort_keys=False))
    folder = Path("runs/ablations/untouched/laptop")
    for trial in lab.trials[:1]:
        write_run(type(trial)(trial.cell, 0, folder / trial.run_dir.parent.name / "seed0"))
    record = Path("runs/ablations/simulated/laptop/study.json").read_text()
    (folder / "study.json").write_text(record.replace("test/top1", "test/top9"))

    assert main(["report", "--all"]) == 0

    assert (
        "untouched: metric='test/top9' was logged by none of the 1 runs" in capsys.readouterr().out
    )


def test_nothing_finished_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    simulate(tmp_path, (2,), 1, keep=lambda trial: False)

    assert main(["report", "--all"]) == 2

    assert capsys.readouterr().err == (
        "run_ablation: error: profile laptop: no study has results "
        "(simulated: no trial has finished yet)\n"
    )


@pytest.mark.parametrize("options", [[], ["--all", "--study", "simulated"]])
def test_exactly_one_of_all_and_study_is_asked_for(options, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["report", *options])

    assert caught.value.code == 2
