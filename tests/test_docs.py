"""What the pages on the driver show is read by the driver itself."""

import argparse
import importlib
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from attnlab.ablation import cli, parse
from attnlab.ablation import plan as planning
from attnlab.ablation.search import plan as searches
from attnlab.ablation.search.schema import PRUNERS, SAMPLERS
from attnlab.ablation.slurm import settings
from attnlab.cli import main

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
STUDIES = ROOT / "docs/studies.md"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)


def commands() -> list[tuple[str, str]]:
    """Return every line of all pages that starts the driver, with the page's name."""
    lines = (
        (page.name, line)
        for page in PAGES
        for block in blocks(page, "bash")
        for line in block.replace("\\\n", " ").splitlines()
    )
    return [(page, line) for page, line in lines if "run_ablation.py " in line]


def test_pages_show_commands():
    shown = {page for page, _ in commands()}
    assert {"README.md", "cluster.md", "studies.md", "tensorboard.md"} <= shown


@pytest.mark.parametrize(("page", "line"), commands())
def test_every_command_of_the_driver_is_understood(page, line):
    words = shlex.split(line, comments=True)
    given = words[words.index("run_ablation.py") + 1 :]
    name = given.pop(0) if given[0] in cli.COMMANDS else "run"
    parser = argparse.ArgumentParser(allow_abbrev=False)
    importlib.import_module(f"attnlab.ablation.commands.{name}").add_arguments(parser)
    parser.parse_args(given)


def whole_files() -> list[dict[str, Any]]:
    """Return the YAML of the page on studies, what a block lacks taken from the first."""
    first, *others = (yaml.safe_load(block) for block in blocks(STUDIES, "yaml"))
    return [first, *({**first, **other} for other in others)]


def load(content: dict[str, Any], folder: Path) -> parse.Ablations:
    for profile in content["profiles"].values():
        profile["bases"] = {name: str(ROOT / base) for name, base in profile["bases"].items()}
    (folder / "ablations.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return parse.load(folder / "ablations.yaml")


@pytest.mark.parametrize("index", range(len(whole_files())))
def test_every_stanza_of_the_page_on_studies_builds(index, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["attnlab"])
    content = whole_files()[index]
    ablations = load(content, tmp_path)
    for profile in ablations.profiles.values():
        settings.parse(profile.name, dict(profile.slurm))
        assert all(base.is_file() for base in profile.bases.values())
    if index and "studies" not in yaml.safe_load(blocks(STUDIES, "yaml")[index]):
        return
    trials = []
    profile = ablations.profile("laptop")
    for study in ablations.studies.values():
        plan = planning.make(study, profile, tmp_path)
        trials.append(plan.arguments(plan.trials[-1]))
    for search in ablations.searches.values():
        found = searches.of(search, planning.make(search.study, profile, tmp_path))
        trials += [found.plan.arguments(trial) for trial in list(found.corners())[:2]]
    for arguments in trials:
        with pytest.raises(SystemExit) as stop:
            main([*arguments, "--check", "true"])
        assert stop.value.code == 0, arguments


def test_the_page_on_studies_names_every_key():
    text = STUDIES.read_text()
    shown = "\n".join(blocks(STUDIES, "yaml"))
    profile = {"about", "bases", "minutes_per_cell", *parse.PROFILE_OPTIONS}
    for key in profile:
        assert f"| `{key}` |" in text, key
        assert f" {key}: " in shown or f" {key}:\n" in shown, key
    grid = {"question", "base", "axes", "baseline", "seeds", "metric"}
    for key in grid | {"overrides", "direction", "extra_metrics", "space", "search"}:
        assert f"| `{key}` |" in text, key
        assert re.search(rf"^ +{key}:", shown, re.M), key
    (cluster,) = (block for block in blocks(STUDIES, "yaml") if "max_submitted" in block)
    assert set(yaml.safe_load(cluster)["profiles"]["cluster"]["slurm"]) == set(settings.KEYS)
    assert all(f"`{word}`" in text for word in (*SAMPLERS, *PRUNERS))


def test_every_cluster_file_shown_is_read():
    shown = blocks(ROOT / "docs/cluster.md", "yaml")
    assert len(shown) >= 2
    for block in shown:
        settings.parse("cluster.yaml", yaml.safe_load(block))


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]*)(#[^)]*)?\)", page.read_text()):
            path, anchor = target
            file = (page.parent / path) if path else page
            assert file.exists(), f"{page.name}: {path}"
            if anchor:
                titles = re.findall(r"^#+ (.*)$", file.read_text(), re.M)
                names = {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in titles}
                assert anchor[1:] in names, f"{page.name}: {path}{anchor}"
