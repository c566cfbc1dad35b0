# Copyright: the oscarv.virt authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the ledger is kept: a SQLite file or a PostgreSQL database, each behind the same two doors.

`reader()` gives a consistent snapshot and changes nothing; `writer()` gives an exclusive transaction. SQLite is read
with the standard library alone: importing SQLAlchemy costs half a second, which the inventory plugin would pay on
every run.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import functools
import os
import pathlib
import sqlite3
import threading
import typing as t
import urllib.parse

if t.TYPE_CHECKING:
    import sqlalchemy as sa

#: Seconds that a writer waits for the others before it gives up.
PATIENCE = 60
#: Runs one SELECT with named parameters (`:name`) and returns the rows.
Fetch = t.Callable[[str, t.Mapping[str, t.Any]], t.Sequence[t.Sequence[t.Any]]]

#: Settings of a writer's transaction on PostgreSQL's server. Without keepalives of its own the server would wait for
#: the system's (two hours) before it gives up a controller that lost power or network, and its locks with it. They are
#: set in the transaction, not on the command line of the session, which poolers refuse; a Unix socket ignores them.
_KEEPALIVES = {
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
#: SQLSTATE of a lock that was not had in time; the message is in the server's language.
_LOCK_NOT_AVAILABLE = "55P03"
#: Who holds the cluster's lock, or the database's in a mode that keeps this writer out; the longest first.
_HOLDERS = """
    SELECT DISTINCT held.pid, run.application_name, host(run.client_addr), run.client_port, run.xact_start
    FROM pg_locks AS held JOIN pg_stat_activity AS run ON run.pid = held.pid
    WHERE held.locktype = 'advisory' AND held.granted AND held.objsubid = 1 AND held.pid <> pg_backend_pid()
      AND held.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (
        (CAST(held.classid AS bigint) << 32 | CAST(held.objid AS bigint)) = hashtextextended(:name, 1)
        OR (CAST(held.classid AS bigint) << 32 | CAST(held.objid AS bigint)) = hashtextextended('oscarv.virt', 0)
        AND (held.mode = 'ExclusiveLock' OR :whole)
      )
    ORDER BY run.xact_start
"""

_INSTALL = "install it into Ansible's Python: python3 -m pip install "


class LedgerError(Exception):
    """The ledger cannot do what was asked; the message names the URL (never a password), why, and what to do."""


class Store(t.Protocol):
    url: str  #: without a password

    def exists(self) -> bool: ...

    def reader(self) -> t.ContextManager[Fetch]: ...

    def writer(self, cluster: str, *, whole: bool = False) -> t.ContextManager[sa.Connection]: ...

    def fetch(self, connection: sa.Connection) -> Fetch: ...

    def version(self, fetch: Fetch) -> int | None: ...


def open_store(url: str, folder: str, environment: t.Mapping[str, str]) -> Store:
    """The store behind `url`; a relative SQLite path is relative to `folder`. Opens nothing yet."""
    scheme, _mark, rest = url.partition("://")
    kind = scheme.partition("+")[0]
    if kind == "sqlite":
        path = urllib.parse.unquote(rest.removeprefix("/"))
        if rest[:1] != "/" or not path or "?" in rest:
            raise LedgerError(f"ledger {rest and without_password(url)}: expected sqlite:///PATH without options")
        awx = next((name for name in ("AWX_HOST", "JOB_ID") if environment.get(name)), None)
        if awx:
            raise LedgerError(
                f"ledger {url}: SQLite is refused under AWX ({awx} is set): every job would have a ledger of its own"
                " and forget it. Use PostgreSQL: set OSCARV_LEDGER=postgresql://USER@HOST/DATABASE in a credential"
            )
        return SqliteStore(os.path.normpath(pathlib.Path(folder, path)))
    if kind in ("postgresql", "postgres"):
        return PostgresStore("postgresql+psycopg://" + rest)
    raise LedgerError(f"ledger {without_password(url)}: {scheme!r} is not supported; allowed: sqlite, postgresql")


def without_password(url: str) -> str:
    """The URL as it may be shown: no password, neither before the host nor among the options."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return "(not a URL)"
    rest, _mark, query = rest.partition("?")
    login, at, host = rest.rpartition("@")
    options = [pair for pair in query.split("&") if pair and "pass" not in pair.partition("=")[0].lower()]
    return f"{scheme}://{login.partition(':')[0]}{at}{host}" + ("?" + "&".join(options) if options else "")


@functools.lru_cache(maxsize=256)
def _text(sql: str) -> sa.TextClause:
    import sqlalchemy

    return sqlalchemy.text(sql)


def _raw(connection: sa.Connection) -> sqlite3.Connection:
    return t.cast(sqlite3.Connection, connection.connection.driver_connection)


@contextlib.contextmanager
def _turn(path: pathlib.Path) -> t.Iterator[None]:
    """Wait in the kernel's queue for one's turn to write, at most PATIENCE seconds.

    SQLite itself only asks again and again, with pauses up to 0.1 s: with many writers the lock is mostly free while
    all of them sleep. This is for speed alone. What keeps writers apart is SQLite's own lock, which also ends the
    patience; so where this one cannot be had (a file system without flock) nothing is lost.
    """
    try:
        handle = os.open(f"{path}.lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError:
        yield
        return
    try:
        mine = threading.Event()

        def wait() -> None:
            with contextlib.suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX)
            mine.set()

        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            threading.Thread(target=wait, daemon=True).start()
            mine.wait(PATIENCE)
        yield
    finally:
        os.close(handle)  # gives the turn to the next, also after kill -9


class SqliteStore:
    """A file. Rollback journal, not WAL: WAL does not work on network file systems, where people keep definitions.

    `synchronous=FULL` and a truncated journal survive kill -9 and a power cut.
    """

    def __init__(self, path: str) -> None:
        self.path = pathlib.Path(path)
        self.url = f"sqlite:///{path}"

    def exists(self) -> bool:
        return self.path.exists()

    def _connect(self, mode: str) -> sqlite3.Connection:
        uri = f"file:{urllib.parse.quote(str(self.path))}?mode={mode}"
        connection = sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    @contextlib.contextmanager
    def reader(self) -> t.Iterator[Fetch]:
        # mode=rw, not ro: after a kill -9 the first reader has to roll the journal back. It never creates the file,
        # and SQLite itself falls back to reading where the file is write-protected.
        with self._errors(), contextlib.closing(self._connect("rw")) as connection:
            connection.execute("BEGIN")
            yield lambda sql, values: connection.execute(sql, dict(values)).fetchall()

    @contextlib.contextmanager
    def writer(self, cluster: str, *, whole: bool = False) -> t.Iterator[sa.Connection]:
        _sqlalchemy(self.url)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(f"ledger {self.url}: cannot make its folder: {error}") from error
        with self._errors(), contextlib.ExitStack() as stack:
            stack.enter_context(_turn(self.path))
            connection = stack.enter_context(self._engine.connect())
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    @functools.cached_property
    def _engine(self) -> sa.Engine:
        sqlalchemy = _sqlalchemy(self.url)

        def connect() -> sqlite3.Connection:
            raw = self._connect("rwc")
            raw.execute("PRAGMA journal_mode = TRUNCATE")
            return raw

        return t.cast(
            "sa.Engine",
            sqlalchemy.create_engine("sqlite://", creator=connect, poolclass=sqlalchemy.NullPool, hide_parameters=True),
        )

    def fetch(self, connection: sa.Connection) -> Fetch:
        raw = _raw(connection)  # five times as fast as through SQLAlchemy
        return lambda sql, values: raw.execute(sql, dict(values)).fetchall()

    def version(self, fetch: Fetch) -> int | None:
        found = fetch("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'oscarv_schema'", {})
        return _version(fetch) if found else None

    @contextlib.contextmanager
    def _errors(self) -> t.Iterator[None]:
        try:
            yield
        except Exception as error:
            cause = getattr(error, "orig", None) or error
            if not isinstance(cause, sqlite3.Error):
                raise
            raise LedgerError(f"ledger {self.url}: {cause}{self._advice(str(cause))}") from error

    def _advice(self, text: str) -> str:
        if "locked" in text:
            return f": another run has held it for {PATIENCE} s; wait for that run to end and start again"
        if "not a database" in text or "malformed" in text:
            return ": restore it from a backup, or move it away and use `operation: rebuild`"
        if "readonly" in text or "unable to open" in text or "ermission" in text:
            return f": the user who runs Ansible must be able to write {self.path} and its folder"
        return ""


class PostgresStore:
    """A database that several clusters may share; each cluster has one writer at a time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.url = without_password(url.replace("+psycopg", "", 1))

    def exists(self) -> bool:
        return True

    @contextlib.contextmanager
    def _connect(self, isolation: str) -> t.Iterator[sa.Connection]:
        sqlalchemy = _sqlalchemy(self.url)
        try:
            engine = sqlalchemy.create_engine(
                self._url,
                poolclass=sqlalchemy.NullPool,
                isolation_level=isolation,
                hide_parameters=True,
                connect_args={"connect_timeout": 15, "application_name": "oscarv.virt"},
            )
            with engine.connect() as connection:
                yield connection
        except ModuleNotFoundError as error:
            raise LedgerError(f"ledger {self.url}: psycopg is missing: {_INSTALL}'psycopg[binary]>=3.1'") from error
        except (sqlalchemy.exc.DBAPIError, sqlalchemy.exc.ArgumentError) as error:
            raise LedgerError(f"ledger {self.url}: {self._explain(error)}") from error

    def _explain(self, error: Exception) -> str:
        text = " ".join(str(getattr(error, "orig", None) or error).split())
        if _lock_timeout(error):
            return _held("")
        if "connection" in text:
            return f"{text}: is the server up, and may this user log in (password in PGPASSWORD or ~/.pgpass)?"
        return text

    @contextlib.contextmanager
    def reader(self) -> t.Iterator[Fetch]:
        with self._connect("REPEATABLE READ") as connection:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            yield self.fetch(connection)

    @contextlib.contextmanager
    def writer(self, cluster: str, *, whole: bool = False) -> t.Iterator[sa.Connection]:
        """Locks the cluster, or with `whole` the database. READ COMMITTED: a statement after the lock sees what
        the writer before committed, where a snapshot would still be the one from before the wait."""
        with self._connect("READ COMMITTED") as connection:
            fetch = self.fetch(connection)
            settings = {"lock_timeout": f"{PATIENCE}s", **_KEEPALIVES}
            fetch("SELECT " + ", ".join(f"set_config('{name}', :{name}, true)" for name in settings), settings)
            whole = whole or self.version(fetch) is None
            try:
                self._lock(fetch, cluster, whole)
            except _sqlalchemy(self.url).exc.DBAPIError as error:
                if not _lock_timeout(error):
                    raise
                connection.rollback()  # else the server answers nothing more
                holders = self._holders(fetch, cluster, whole)
                raise LedgerError(f"ledger {self.url}: {_held(holders)}") from error
            yield connection
            connection.commit()

    def _lock(self, fetch: Fetch, cluster: str, whole: bool) -> None:
        mode = "" if whole else "_shared"
        fetch(f"SELECT pg_advisory_xact_lock{mode}(hashtextextended('oscarv.virt', 0))", {})
        fetch("SELECT pg_advisory_xact_lock(hashtextextended(:name, 1))", {"name": cluster})

    def _holders(self, fetch: Fetch, cluster: str, whole: bool) -> str:
        """Words for the runs that hold the lock; none where they have ended or the server does not tell."""
        try:
            found = fetch(_HOLDERS, {"name": cluster, "whole": whole})
        except _sqlalchemy(self.url).exc.DBAPIError:
            return ""
        return ", ".join(_holder(*row) for row in found)

    def fetch(self, connection: sa.Connection) -> Fetch:
        return lambda sql, values: connection.execute(_text(sql), dict(values)).all()

    def version(self, fetch: Fetch) -> int | None:
        return _version(fetch) if fetch("SELECT to_regclass('oscarv_schema')", {})[0][0] else None


def _lock_timeout(error: Exception) -> bool:
    return getattr(getattr(error, "orig", None), "sqlstate", None) == _LOCK_NOT_AVAILABLE


def _held(holders: str) -> str:
    by = f" ({holders})" if holders else ""
    return f"another run has held it for {PATIENCE} s{by}; wait for that run to end and start again"


def _holder(
    pid: int, application: str | None, address: str | None, port: int | None, since: datetime.datetime | None
) -> str:
    """One run as PostgreSQL shows it; what it hides from other users (None) is left out."""
    words = [f"pid {pid} of the server"]
    if application:
        words.append(application)
    if address or port == -1:  # PostgreSQL's own sign for a Unix socket
        words.append(f"from {address or 'the same machine'}")
    if since:
        words.append(f"since {since.astimezone(datetime.timezone.utc).isoformat(timespec='seconds')}")
    return " ".join(words)


def _version(fetch: Fetch) -> int | None:
    found = fetch("SELECT version FROM oscarv_schema", {})
    return int(found[0][0]) if found else None


def _sqlalchemy(url: str) -> t.Any:
    try:
        import sqlalchemy
    except ImportError as error:
        raise LedgerError(f"ledger {url}: SQLAlchemy is missing: {_INSTALL}'SQLAlchemy>=2.0,<3'") from error
    return sqlalchemy
