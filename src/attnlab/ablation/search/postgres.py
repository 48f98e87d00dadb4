"""Several drivers, on one machine or on many, that share a search through PostgreSQL.

The server's advisory locks keep them apart. They end with the connection that holds them, however
its process ends, so that no clock is needed to tell a dead driver from a slow one.
"""

import contextlib
import secrets
import zlib
from collections.abc import Iterator
from typing import Self

import optuna
import sqlalchemy
from optuna.storages import RDBStorage
from sqlalchemy import URL, make_url, text

from attnlab.ablation import cells
from attnlab.ablation.errors import UserError, show
from attnlab.ablation.journal import name_metric
from attnlab.ablation.search.plan import SearchPlan

SCHEMES = ("postgresql", "postgresql+psycopg")
STANZA = "stanza"
"""Attribute of a study of Optuna: what all its trials share."""
_STUDIES, _DRIVERS = 0x61746E, 0x61746F
"""The first of the two numbers of a lock: what the second one counts."""
_PATIENCE = "-c lock_timeout=120s"
_ALIVE = "-c tcp_keepalives_idle=30 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=3"
"""So that the server misses a driver whose machine is gone within a minute."""


def url_of(option: str) -> URL:
    """Return the address of a database from what the option --storage says.

    Raises:
        UserError: It is none, or not one of PostgreSQL.
    """
    try:
        url = make_url(option)
    except sqlalchemy.exc.ArgumentError:
        raise UserError(
            f"--storage takes postgresql://USER@HOST/DATABASE, not {show(option)}"
        ) from None
    if url.drivername not in SCHEMES:
        raise UserError(
            f"--storage takes a database of PostgreSQL (postgresql://...), not {url.drivername!r}: "
            "others may run a trial twice"
        )
    return url.set(drivername="postgresql+psycopg")


class Shared:
    """This driver among those that work on a search; a context that holds its locks.

    Args:
        url: The database.
        search: Name of the search.

    Attributes:
        name: What the others know this driver by.
    """

    def __init__(self, url: URL, search: str) -> None:
        self._url = url
        self._search = zlib.crc32(search.encode()) - 2**31
        self._number = secrets.randbelow(2**31)
        self.name = str(self._number)
        self._storages: list[RDBStorage] = []

    def __enter__(self) -> Self:
        engine = sqlalchemy.create_engine(
            self._url,
            poolclass=sqlalchemy.NullPool,
            isolation_level="AUTOCOMMIT",
            connect_args={"options": f"{_PATIENCE} {_ALIVE}", "connect_timeout": 10},
        )
        try:
            self._connection = engine.connect()
        except sqlalchemy.exc.OperationalError as error:
            reason = str(error.orig).strip().splitlines()[0]
            shown = self._url.set(drivername="postgresql").render_as_string()
            raise UserError(f"--storage {shown}: {reason}") from None
        self._lock("pg_advisory_lock", _DRIVERS, self._number)
        return self

    def __exit__(self, *exception: object) -> None:
        for storage in self._storages:
            storage.remove_session()
            storage.engine.dispose()
        self._connection.close()

    def storage(self) -> RDBStorage:
        """Return the database as Optuna's storage, for as long as this context lasts."""
        address = self._url.render_as_string(hide_password=False)
        storage = RDBStorage(address, engine_kwargs={"pool_pre_ping": True})
        self._storages.append(storage)
        return storage

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """Return a context that one driver of the search at a time is in."""
        self._lock("pg_advisory_lock", _STUDIES, self._search)
        try:
            yield
        finally:
            self._lock("pg_advisory_unlock", _STUDIES, self._search)

    def gone(self, name: str) -> bool:
        """Return whether the driver of that name has ended, however it did."""
        if not name.isdecimal() or name == self.name:
            return name != self.name
        free = self._lock("pg_try_advisory_lock", _DRIVERS, int(name))
        if free:
            self._lock("pg_advisory_unlock", _DRIVERS, int(name))
        return free

    def _lock(self, function: str, first: int, second: int) -> bool:
        statement = text(f"SELECT {function}(:first, :second)")
        found = self._connection.execute(statement, {"first": first, "second": second})
        return found.scalar() is True


def open_study(found: SearchPlan, drivers: Shared) -> optuna.Study:
    """Return the search as the database has it, where it is made if it is not there.

    Raises:
        UserError: The database has a search of this name with another stanza.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    stanza = cells.canonical(dict(found.plan.stanza))
    with drivers.exclusive():  # also while the tables are made
        study = optuna.create_study(
            storage=drivers.storage(),
            study_name=found.name,
            direction=found.search.study.direction,
            load_if_exists=True,
        )
        held = study.user_attrs.get(STANZA)
        if held is None:
            study.set_user_attr(STANZA, stanza)
            name_metric(study, found.search.study)
    if held not in (None, stanza):
        raise UserError(
            f"--storage: search {found.name} is there with another stanza; use another database, "
            "or give the study another name"
        )
    return study
