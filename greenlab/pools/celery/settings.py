"""Which broker, which result backend, which secret: from the environment, or those of the embedded broker.

`GREENLAB_BROKER` is a URL as Celery takes it (`redis://`, `rediss://`, `amqp://`, `amqps://` …),
`GREENLAB_BACKEND` the URL of the result backend of Celery tasks of your own, `GREENLAB_SECRET` the key that messages
are signed with. Unset, all three are those of the embedded broker: see `greenlab.pools.celery.embedded`.

Must not import: celery, kombu.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from greenlab.errors import UsageError
from greenlab.pools.celery import embedded
from greenlab.version import __version__

BROKER: Final = "GREENLAB_BROKER"
BACKEND: Final = "GREENLAB_BACKEND"
SECRET: Final = "GREENLAB_SECRET"  # noqa: S105 - the name of a variable
_LEAST_SECRET: Final = 16

KINDS: Final = ("io", "cpu")
"""What queues are for: tasks that wait, for eventlet workers and threads; tasks that compute, for prefork workers."""


def queue_of(kind: str) -> str:
    """Return the name of a queue.

    It has the minor version of Python, for a function that is sent by value is bytecode, and that of greenlab, for what
    travels is its own: workers of another Python, or another greenlab, never see the message.
    """
    return f"greenlab.{kind}.py{sys.version_info.major}{sys.version_info.minor}-{__version__}"


@dataclass(frozen=True)
class Settings:
    """How to reach workers.

    Attributes:
        broker: the broker's URL.
        backend: the result backend's URL.
        secret: the key that messages are signed with.
        embedded: whether that is the embedded broker.
    """

    broker: str
    backend: str
    secret: bytes = field(repr=False)
    embedded: bool = False


def find(*, start: bool = False) -> Settings:
    """Return the settings of this process.

    Args:
        start: whether to start the embedded broker if it is what is to be used and does not run; for workers.

    Raises:
        UsageError: there is no secret, or it is too short, or the embedded broker does not run.
    """
    broker = os.environ.get(BROKER, "").strip()
    if not broker:
        for name in (BACKEND, SECRET):
            if os.environ.get(name):
                raise UsageError(f"{name} is set and {BROKER} is not: set both, or neither for the embedded broker")
        return of_embedded(embedded.join() if start else embedded.find())
    secret = os.environ.get(SECRET, "")
    if not secret:
        raise UsageError(
            f"{BROKER} is set and {SECRET} is not: messages hold functions, so workers take signed ones only; "
            f"set {SECRET} to the same long random text for the workers and the kernel"
        )
    if len(secret) < _LEAST_SECRET:
        raise UsageError(f"{SECRET} is too short: {_LEAST_SECRET} characters or more, the same everywhere")
    broker = _sure_of_server(broker)
    backend = _sure_of_server(os.environ.get(BACKEND) or _backend_of(broker))
    return Settings(broker, backend, secret.encode())


def of_embedded(found: embedded.Embedded) -> Settings:
    """Return the settings of the embedded broker."""
    return Settings(found.url, found.backend, found.secret, embedded=True)


def is_redis(url: str) -> bool:
    """Return whether a URL is that of a Redis or a Valkey server."""
    return url.partition("://")[0].startswith(("redis", "sentinel", "valkey"))


def tls_of(broker: str) -> dict[str, str] | None:
    """Return what kombu is to be told of TLS beside the broker's URL.

    py-amqp (5.4) checks whose certificate that of an `amqps://` server is only where it is given the name of the host.
    """
    parts = urlsplit(broker)
    return {"server_hostname": parts.hostname} if parts.scheme == "amqps" and parts.hostname else None


def _sure_of_server(url: str) -> str:
    """Have the certificate of a server be checked: kombu (5.7) takes any if a `rediss://` URL does not ask for it."""
    scheme, _, rest = url.partition("://")
    if scheme != "rediss" or "ssl_cert_reqs=" in rest:
        return url
    return f"{url}{'&' if '?' in rest else '?'}ssl_cert_reqs=required"


def _backend_of(broker: str) -> str:
    if is_redis(broker):
        return broker
    scheme = broker.partition("://")[0]
    return "cache+memory://" if scheme in ("filesystem", "memory") else "rpc://"
