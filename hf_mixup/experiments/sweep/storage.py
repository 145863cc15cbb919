"""Where the trials are kept: a journal, or a database that workers on several machines share."""

from __future__ import annotations

import os
import platform
import re
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from hf_mixup.utils.hold import hold, holder
from hf_mixup.utils.suggest import require, shortened

_BEAT, _SILENT = 30, 120  # seconds between signs of life in a database, and without one until a worker is dead
_SQLITE_WAITS, _SERVER_WAITS = 20, 10  # seconds for a lock, and for an answer
_TRIES = 5
_WORKER = ".worker"  # a file beside a journal
_LONGEST = 200  # characters of a reason


def without_password(text: str) -> str:
    """Return a text in which no password of an address is left.

    >>> without_password("--storage postgresql://me:s3:cr@t@db/studies --trials 9")
    '--storage postgresql://me:***@db/studies --trials 9'
    """
    return re.sub(r"(://[^:/@\s]*):\S*@", r"\1:***@", re.sub(r"(password=)[^&\s'\"]*", r"\1***", text))


@contextmanager
def opened(storage: str) -> Iterator[tuple[Any, Path | None]]:
    """Open a storage of Optuna: the address of a database, or the path of a journal.

    Yields:
        The storage; and for a journal, which knows no signs of life, a file that this process holds as long as it is
        at work (None for databases, which do).

    Raises:
        ValueError: if it cannot be opened, or is lost later, never with the password.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with ExitStack() as stack:
        stack.enter_context(_told(storage))
        if "://" in storage:
            yield _database(storage), None
            return
        path = Path(storage)
        if not path.parent.is_dir():
            raise ValueError(f"storage={storage}: there is no folder {path.parent}")
        worker = _worker_file(path)
        stack.enter_context(hold(worker, "a worker of a sweep"))
        yield _journal(path), worker


def _worker_file(journal: Path) -> Path:
    for left in journal.parent.glob(f"{journal.name}.*{_WORKER}"):
        if holder(left) is None:  # its process was killed
            left.unlink(missing_ok=True)
    return journal.with_name(f"{journal.name}.{platform.node()}-{os.getpid()}-{uuid.uuid4().hex[:6]}{_WORKER}")


def _database(url: str) -> Any:
    import optuna
    import sqlalchemy

    if url.startswith(("postgresql://", "postgres://")):
        require("a study in PostgreSQL needs", "psycopg", "sweep")
        url = f"postgresql+psycopg://{url.partition('://')[2]}"
    try:
        sqlalchemy.make_url(url)
    except (ValueError, sqlalchemy.exc.ArgumentError):
        raise ValueError(f"storage={without_password(url)}: no address of a database") from None
    waits = {"timeout": _SQLITE_WAITS} if url.startswith("sqlite") else {"connect_timeout": _SERVER_WAITS}
    for last in (False,) * _TRIES + (True,):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                return optuna.storages.RDBStorage(
                    url,
                    engine_kwargs={"connect_args": waits, "pool_pre_ping": True},
                    heartbeat_interval=_BEAT,
                    grace_period=_SILENT,
                    heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
                )
        except sqlalchemy.exc.SQLAlchemyError as error:
            twice = isinstance(error, sqlalchemy.exc.IntegrityError) or "already exists" in str(error)
            if last or not twice:
                raise
            time.sleep(0.5)  # several workers make the tables of a new database at once, and one of them did


def _journal(path: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock

    lock = JournalFileSymlinkLock(str(path))
    if path.exists():
        lock.acquire()  # nobody writes
        try:
            _mend(path)
        finally:
            lock.release()
    try:
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise ValueError(f"{path} is corrupt ({error}): delete it; finished runs are kept") from error


def _mend(path: Path) -> None:
    """Cut off a last line that a killed process left half written; Optuna would append to it."""
    content = path.read_bytes()
    if not content.endswith(b"\n") and content:
        path.write_bytes(content[: content.rfind(b"\n") + 1])


@contextmanager
def _told(storage: str) -> Iterator[None]:
    """Say in one line, and without the password, what is wrong with a storage."""
    import sqlalchemy.exc
    from optuna.exceptions import StorageInternalError

    shown = without_password(storage)
    try:
        yield
    except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
        cause: BaseException = error.__cause__ if isinstance(error, StorageInternalError) and error.__cause__ else error
        origin = getattr(cause, "orig", None) or cause
        reason = shortened(without_password(" ".join(str(origin).split())), _LONGEST)
        raise ValueError(f"storage={shown}: {reason}; finished runs are kept") from None
    except ModuleNotFoundError as error:
        raise ValueError(f"storage={shown} needs the package {error.name}: pip install {error.name}") from None
