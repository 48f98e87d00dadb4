"""The events of a study that no trial writes."""

from typing import Any

import yaml
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import metadata

from attnlab.ablation import board, parse
from attnlab.ablation import plan as planning
from attnlab.ablation.plan import Plan
from attnlab.ablation.search.schema import Search
from tests.ablation.conftest import STANZAS

SEARCH = {
    "question": "Which value, which width?",
    "base": "fake",
    "space": {
        "lr": {"key": "model.lr", "low": 1e-4, "high": 1e-2, "log": True},
        "width": {"key": "model.width", "low": 2, "high": 6},
        "wide": {"key": "model.wide", "values": [True, False]},
        "kind": {"key": "model.kind", "values": ["a", "b"]},
    },
    "search": {"trials": 4},
    "seeds": [5],
    "metric": "val/top1",
    "extra_metrics": ["model/gflops", "test/top1"],
}


def search_of(tmp_path) -> tuple[Plan, Search]:
    (tmp_path / "base.yaml").write_text("model: {value: 0}\n")
    stanzas = {**STANZAS, "studies": {"look": SEARCH}}
    (tmp_path / "ablations.yaml").write_text(yaml.safe_dump(stanzas, sort_keys=False))
    ablations = parse.load(tmp_path / "ablations.yaml")
    search = ablations.searches["look"]
    return planning.make(search.study, ablations.profile("laptop"), tmp_path), search


def values(plan: Plan) -> dict[str, Any]:
    events = EventFileLoader(str(plan.directory / board.FILE)).Load()
    return {value.tag: value for event in events for value in event.summary.value}


def test_a_search_has_ranges_and_choices_as_columns(tmp_path):
    plan, search = search_of(tmp_path)
    board.write(plan, search.space)
    found = values(plan)
    content = found["_hparams_/experiment"].metadata.plugin_data.content
    experiment = metadata.parse_experiment_plugin_data(content)
    ranges = {
        info.name: (info.domain_interval.min_value, info.domain_interval.max_value)
        for info in experiment.hparam_infos
        if info.HasField("domain_interval")
    }
    assert ranges == {"lr": (1e-4, 1e-2), "width": (2, 6)}
    choices = {
        info.name: list(info.domain_discrete)
        for info in experiment.hparam_infos
        if info.HasField("domain_discrete")
    }
    assert choices == {"wide": [True, False], "kind": ["a", "b"], "seed": [5]}
    assert [info.name.tag for info in experiment.metric_infos] == [
        *("val/top1", "model/gflops", "test/top1", "model/parameters"),
        *("perf/images_per_s", "perf/peak_memory_mib"),
    ]
    (text,) = found["question"].tensor.string_val
    assert "| lr | 0.0001 to 0.01, log |" in text.decode()
    assert "baseline" not in text.decode()


def test_a_file_that_says_the_same_is_left_alone(tmp_path):
    plan, search = search_of(tmp_path)
    board.write(plan, search.space)
    path = plan.directory / board.FILE
    before, content = path.stat(), path.read_bytes()
    board.write(plan, search.space)
    assert path.stat().st_ino == before.st_ino
    path.write_bytes(content[:-7])
    board.write(plan, search.space)
    assert path.read_bytes() == content
