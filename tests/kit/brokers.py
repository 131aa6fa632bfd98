"""Brokers from the system's packages, for tests: Redis and RabbitMQ, each on a free port of loopback."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from servers import free_port, running
from system import needs_system

if TYPE_CHECKING:
    from collections.abc import Iterator

RABBITMQ_TAKES_BYTES = 16 << 20
"""The largest message that RabbitMQ takes: what version 4 takes by itself, where older ones take more."""


@contextlib.contextmanager
def redis() -> Iterator[str]:
    """Run Redis; give its URL."""
    program, port = needs_system("redis-server"), free_port()
    with running(port, [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]):
        yield f"redis://127.0.0.1:{port}/0"


@contextlib.contextmanager
def rabbitmq() -> Iterator[str]:
    """Run RabbitMQ, with a port mapper and a home of its own; give its URL."""
    installed = needs_system("rabbitmq-server")
    # Debian's command is run as another user; what is behind it is not.
    program = shutil.which("rabbitmq-server", path="/usr/lib/rabbitmq/bin") or installed
    port, mapper, nodes = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory(prefix="gl-", ignore_cleanup_errors=True) as home:
        folder = Path(home)
        (folder / "enabled_plugins").write_text("[].")
        (folder / "rabbitmq.conf").write_text(f"max_message_size = {RABBITMQ_TAKES_BYTES}\n")
        environ = os.environ | {
            "HOME": home,
            "ERL_EPMD_PORT": str(mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"greenlab{port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(nodes),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        }
        try:
            with running(port, [program], starts_in_s=60, cwd=home, env=environ):
                yield f"amqp://guest:guest@127.0.0.1:{port}//"
        finally:  # what the node has started beside itself
            end = [needs_system("epmd"), "-port", str(mapper), "-kill"]
            subprocess.run(end, env=environ, capture_output=True, check=False)
