"""Stream a dataset of a Hub that is served on the loopback, and print the ids of its rows.

The address of a Hub is read when `huggingface_hub` is imported: in a process of its own.
"""

from __future__ import annotations

import http.server
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlparse

NAME, COMMIT = "owner/rows", "a" * 40
API, FILES = f"/api/datasets/{NAME}", f"/datasets/{NAME}/resolve/"


def handler(folder: Path) -> Any:
    """Return what answers for a Hub with one dataset, the files of a folder."""

    def told(path: Path) -> dict[str, Any]:
        kind = "file" if path.is_file() else "directory"
        return {"type": kind, "path": str(path.relative_to(folder)), "size": path.stat().st_size, "oid": "b" * 40}

    class Hub(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, content: bytes, code: int = 200, **headers: str) -> None:
            self.send_response(code)
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            for name, value in {"Content-Length": str(len(content)), **named}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def do_POST(self) -> None:
            asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode()).get("paths", [])
            self.answer(json.dumps([told(folder / path) for path in asked if (folder / path).exists()]).encode())

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            url = urlparse(self.path)
            path = unquote(url.path)
            if path.startswith(f"{API}/tree/"):
                within = folder / path.removeprefix(f"{API}/tree/").partition("/")[2]
                deep = parse_qs(url.query).get("recursive", [""])[0].lower() == "true"
                found = sorted(within.rglob("*") if deep else within.iterdir()) if within.is_dir() else []
                self.answer(json.dumps([told(each) for each in found]).encode())
            elif path.startswith(API):
                held = [{"rfilename": told(each)["path"]} for each in folder.rglob("*") if each.is_file()]
                about = {"id": NAME, "sha": COMMIT, "siblings": held, "tags": [], "private": False}
                self.answer(json.dumps(about).encode())
            elif (file := folder / path.removeprefix(FILES).partition("/")[2]).is_file() and path.startswith(FILES):
                self.file(file.read_bytes())
            else:
                self.answer(b"{}", 404, X_Error_Code="EntryNotFound")

        def file(self, content: bytes) -> None:
            known = {"ETag": f'"{"c" * 40}"', "X_Repo_Commit": COMMIT, "Accept_Ranges": "bytes"}
            wanted = self.headers.get("Range")
            if wanted is None:
                self.answer(content, **known)
                return
            begin, _, end = wanted.removeprefix("bytes=").partition("-")
            part = content[int(begin) : int(end or len(content)) + 1]
            reach = f"bytes {begin}-{int(begin) + len(part) - 1}/{len(content)}"
            self.answer(part, 206, **known, Content_Range=reach)

        def log_message(self, *args: Any) -> None:
            pass

    return Hub


def main(folder: Path) -> None:
    from tests.experiments.test_streaming import streamed_ids
    from tests.shards import table_task

    for dataset in (NAME, f"hf://datasets/{NAME}/large/*.parquet"):
        config = {"dataset_config": "large"} if dataset == NAME else {}
        print("ids", json.dumps(sorted(streamed_ids(table_task(dataset, **config), folder.parent / "out", 14))))


if __name__ == "__main__":
    served = Path(sys.argv[1])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler(served)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
        main(served)
        server.shutdown()
