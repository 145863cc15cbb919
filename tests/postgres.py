"""A PostgreSQL server of Debian's, for the time of a test; it does not run as root."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

PASSWORD = "s3cret"


def start() -> Iterator[str]:
    """Yield the address of a server, with the password in it; skip where none can be started."""
    bins = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not bins:
        pytest.skip("needs PostgreSQL: apt-get install postgresql")
    if os.getuid() == 0 and shutil.which("setpriv") is None:
        pytest.skip("PostgreSQL does not run as root, and there is no setpriv to become another user")
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.getuid() == 0 else []
    folder = Path(tempfile.mkdtemp(prefix="postgres"))
    try:
        (folder / "password").write_text(PASSWORD)
        if other:
            for each in (folder, folder / "password"):
                os.chown(each, 65534, 65534)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        data = folder / "data"
        initdb = [bins[-1], "-D", data, "-U", "me", "--auth=scram-sha-256", f"--pwfile={folder / 'password'}", "-N"]
        subprocess.run([*other, *map(str, initdb)], check=True, capture_output=True, cwd="/")
        options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
        control = [*other, str(bins[-1].with_name("pg_ctl")), "-D", str(data)]
        subprocess.run([*control, "-w", "-o", options, "-l", str(folder / "log"), "start"], check=True, cwd="/")
        try:
            yield f"postgresql://me:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], check=True, cwd="/")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
