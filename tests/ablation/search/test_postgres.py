"""Drivers on many nodes share a search through a real PostgreSQL server."""

import itertools
import os
import signal
import threading
from pathlib import Path
from typing import Any

import optuna
import pytest

from attnlab.ablation.errors import UserError
from tests.ablation.conftest import Lab, wait_until
from tests.ablation.search.searching import finish, make_search

NAMES = itertools.count()
SPACE = {"value": {"key": "model.value", "low": 0, "high": 9}}


@pytest.fixture
def search(lab: Lab) -> Lab:
    """A lab whose study is a search of twelve trials."""
    lab.stanzas["studies"]["value"] = {
        "question": "Which value?",
        "base": "fake",
        "space": SPACE,
        "search": {"trials": 12, "sampler": "tpe"},
        "metric": "val/top1",
    }
    lab.behave("val")
    return lab


@pytest.fixture
def database(postgres: str) -> str:
    """An empty database."""
    import psycopg

    name = f"of_test_{next(NAMES)}"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres.rpartition("/")[0] + f"/{name}"


def trials(database: str, name: str = "value/laptop") -> list[optuna.trial.FrozenTrial]:
    url = database.replace("postgresql://", "postgresql+psycopg://")
    storage = optuna.storages.RDBStorage(url)
    found = optuna.load_study(study_name=name, storage=storage).trials
    storage.remove_session()
    storage.engine.dispose()
    return found


def trained(lab: Lab) -> list[str]:
    return sorted(line.split()[0] for line in lab.trainings())


def test_two_drivers_share_one_search_and_run_each_trial_once(search: Lab, database: str) -> None:
    drivers = [search.start("--storage", database) for _ in range(2)]
    ends = [search.finish(driver) for driver in drivers]
    assert [(code, err) for code, _, err in ends] == [(0, "")] * 2
    found = trials(database)
    assert [trial.number for trial in found] == list(range(12))
    assert {trial.state.name for trial in found} == {"COMPLETE"}
    assert trained(search) == sorted(str(trial.params["value"]) for trial in found)
    assert len({trial.user_attrs["run_dir"] for trial in found}) == 12
    assert len({trial.user_attrs["driver"] for trial in found}) == 2
    code, out, _ = search.call("--report")
    assert code == 0
    assert "12 of 12 trials: 12 complete" in out
    code, _, err = search.call()
    assert code == 2
    assert "holds a search that was begun with --storage" in err


def test_what_a_killed_driver_ran_is_taken_up_by_another(search: Lab, database: str) -> None:
    search.behave(" ".join(["val", *(f"wait{value}" for value in range(10))]))
    killed = search.start("--storage", database)
    wait_until(lambda: len(search.trainings()) == 2)
    begun = {trial.number: trial.params for trial in trials(database)}
    other = search.start("--storage", database)
    wait_until(lambda: len(search.trainings()) == 4)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    (search.root / "gate").touch()
    code, _, err = search.finish(other)
    assert (code, err) == (0, "")
    found = trials(database)
    assert [trial.number for trial in found] == list(range(12))
    assert {trial.state.name for trial in found} == {"COMPLETE"}
    assert {number: found[number].params for number in begun} == begun
    assert len(search.trainings()) == 12 + 2
    assert len(list(search.directory.glob("trial*"))) == 12


def test_many_drivers_never_ask_for_one_trial_too_many(tmp_path: Path, database: str) -> None:
    from attnlab.ablation.search import postgres
    from attnlab.ablation.search.ledger import Ledger

    found = make_search(tmp_path, trials=12)
    url = postgres.url_of(database)
    numbers: list[int] = []
    errors: list[BaseException] = []

    def drive() -> None:
        try:
            with postgres.Shared(url, found.name) as shared:
                ledger = Ledger(found, postgres.open_study(found, shared), shared)
                while (asked := ledger.ask()) is not None:
                    numbers.append(asked.number)
                    finish(asked.trial)
                    ledger.tell(asked, None)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=drive) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors
    assert sorted(numbers) == list(range(12))
    assert len(trials(database, found.name)) == 12


def test_a_search_of_another_stanza_in_the_database_is_refused(
    tmp_path: Path, database: str
) -> None:
    from attnlab.ablation.search import postgres

    url = postgres.url_of(database)
    for name, changes in (("a", {}), ("b", {"trainer.max_steps": 3})):
        (tmp_path / name).mkdir()
        found = make_search(tmp_path / name)
        stanza: dict[str, Any] = {**found.plan.stanza, **changes}
        object.__setattr__(found.plan, "stanza", stanza)
        with postgres.Shared(url, found.name) as shared:
            if not changes:
                postgres.open_study(found, shared)
                continue
            with pytest.raises(UserError, match="search s/laptop is there with another stanza"):
                postgres.open_study(found, shared)
