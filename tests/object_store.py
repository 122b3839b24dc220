"""A real object store on this machine: moto's S3 server, reached through a small relay that can be killed while the store keeps what it has."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from dataclasses import dataclass

import pytest

RELAY = """
import asyncio, sys
mine, its = int(sys.argv[1]), int(sys.argv[2])
async def copy(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
async def serve(reader, writer):
    r, w = await asyncio.open_connection("127.0.0.1", its)
    await asyncio.gather(copy(reader, w), copy(r, writer), return_exceptions=True)
async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", mine) as server:
        await server.serve_forever()
asyncio.run(main())
"""


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for(port: int, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


@dataclass
class ObjectStore:
    """A bucket at ``port``; ``cut`` kills the way to it with SIGKILL, ``mend`` opens it again."""

    port: int
    inner: int
    relay: subprocess.Popen | None = None

    def address(self, name: str) -> str:
        return f"s3://key:secret@mubench/{name}?endpoint_override=127.0.0.1:{self.port}&scheme=http&region=us-east-1"

    def mend(self) -> None:
        self.relay = subprocess.Popen([sys.executable, "-c", RELAY, str(self.port), str(self.inner)])
        wait_for(self.port)

    def cut(self) -> None:
        self.relay.kill()
        self.relay.wait()


def start_object_store():
    """Yields the store, its bucket made."""
    pytest.importorskip("moto.server", reason="moto is not installed: pip install .[test] brings it")
    import boto3

    store = ObjectStore(free_port(), free_port())
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(store.inner)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(store.inner)
        client = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{store.inner}",
            aws_access_key_id="key",
            aws_secret_access_key="secret",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket="mubench")
        store.mend()
        yield store
    finally:
        if store.relay:
            store.cut()
        server.kill()
        server.wait()
