"""The Celery application that workers run: `celery -A greenlab.celery worker`.

Guarantees: it can be made without a broker; a worker that has no secret, or no broker, ends at once and says why; no
setting is changed without its reason.

Must not import: hybrid, prefork, threads, live, magics, runs.
"""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING, Any, Final

from celery import Celery, current_app, signals
from kombu import Queue

from greenlab.errors import UsageError
from greenlab.pools.celery import launcher, messages, settings, workers

if TYPE_CHECKING:
    from greenlab.pools.celery.settings import Settings

RESULTS_EXPIRE_S: Final = 3600
_LEAST_PREFETCHED: Final = 4
_KINDS_OF_POOL: Final = {"prefork": "cpu", "processes": "cpu", "solo": "cpu"}


class GreenlabApp(Celery):  # type: ignore[misc]  # Celery ships no types
    """Celery's application, which looks for its broker when it first needs one.

    Workers, and the embedded broker with them, may be started after a module with tasks was imported.
    """

    def connection_for_read(self, url: str | None = None, **options: Any) -> Any:
        """Return a connection for consumers.

        Raises:
            UsageError: no broker is configured, and the embedded one does not run.
        """
        _find_broker(self, url)
        return super().connection_for_read(url, **options)

    def connection_for_write(self, url: str | None = None, **options: Any) -> Any:
        """Return a connection for producers.

        Raises:
            UsageError: no broker is configured, and the embedded one does not run.
        """
        _find_broker(self, url)
        return super().connection_for_write(url, **options)

    def _get_backend(self) -> Any:
        _find_broker(self)
        return super()._get_backend()


def make_app(found: Settings | None) -> Celery:
    """Make the application.

    Args:
        found: the settings of a broker; None where there is none yet: it is looked for when it is needed.
    """
    app = GreenlabApp("greenlab", set_as_current=False)
    _configure(app)
    if found is not None:
        _connect(app, found)
    # By name: workers alone import them.
    request, strategy = "greenlab.pools.celery.worker:BatchRequest", "greenlab.pools.celery.worker:take_messages"
    app.task(name=messages.TASK, bind=True, ignore_result=True, Request=request, Strategy=strategy)(_run_batch)
    return app


def worker_app() -> Celery:
    """Make the application that the command line finds, which also serves as a worker."""
    try:
        found = settings.find()
    except UsageError:
        found = None
    app = make_app(found)
    # Processes of a prefork worker that are no forks of it, as on macOS (billiard 4.3), import what they need to know.
    app.conf.include = ["greenlab.celery"]
    signals.celeryd_init.connect(lambda **told: _begin_worker(app, **told), weak=False)
    signals.worker_process_init.connect(lambda **told: _begin_process(app, **told), weak=False)
    return app


def _configure(app: Celery) -> None:
    app.conf.update(
        # Functions travel in signed envelopes of our own, inside JSON: nothing that Celery decodes may hold code.
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        # A worker that takes messages ahead keeps them from others; a message of short tasks holds many as it is.
        worker_prefetch_multiplier=1,
        # What tasks print goes to the cell that asked for it, and not to the worker's log.
        worker_redirect_stdouts=False,
        # Else each of a thousand green threads builds a backend, and its connection, of its own (Celery 5.6).
        result_backend_thread_safe=True,
        # Results of Celery tasks of your own: those of runs are streamed, and not kept.
        result_expires=RESULTS_EXPIRE_S,
        # A broker that starts a moment later than the worker is no reason to give up.
        broker_connection_retry_on_startup=True,
        # Tasks that still run when the broker is lost go on, and report when it is back: they were begun once.
        worker_cancel_long_running_tasks_on_connection_loss=False,
        task_default_queue=settings.queue_of("io"),
        # The names of queues end in the version of Python, so each worker makes those that it reads.
        task_create_missing_queues=True,
    )


def _find_broker(app: Celery, url: str | None = None) -> None:
    if not (url or app.conf.broker_url):
        _connect(app, settings.find())


def _connect(app: Celery, found: Settings) -> None:
    app.conf.broker_url = found.broker
    tls = settings.tls_of(found.broker)
    if tls is not None:
        app.conf.broker_use_ssl = tls
    app.conf.result_backend = found.backend


def _begin_worker(app: Celery, instance: Any = None, options: Any = None, **_: Any) -> None:
    """Make a worker of this process, before Celery sets it up."""
    if instance.app.main != app.main:
        return
    try:
        found = settings.find(start=True)
    except UsageError as error:
        raise SystemExit(f"greenlab: {error}") from None
    _connect(instance.app, found)
    options = options or {}
    pool = _name_of_pool(options.get("pool_cls") or options.get("pool") or "prefork")
    if not options.get("queues"):
        name = settings.queue_of(_KINDS_OF_POOL.get(pool, "io"))
        instance.app.conf.task_queues = [Queue(name, routing_key=name)]
    if pool == "eventlet":
        signals.worker_init.connect(_prefetch_some)
    elif pool in workers.PROCESSES and settings.is_redis(found.broker):
        # Else a worker whose processes are busy takes as many messages ahead, and keeps them from one that is idle.
        # For other brokers Celery (5.7) cannot do that.
        instance.app.conf.worker_disable_prefetch = True
    if os.environ.get(launcher.PLAIN_LOG):
        _log_plainly(instance.app)
    from greenlab.pools.celery import worker

    worker.begin(instance, pool, found.secret)


def _prefetch_some(sender: Any, **_: Any) -> None:
    """Let an eventlet worker with a small `-c` have a few messages that it has not acknowledged.

    Where it has as many as it may, kombu (5.7) asks Redis for no more, and Celery's loop for green pools (5.7) then
    sleeps for two seconds, though the message that has just come is acknowledged at once, as its task begins. It takes
    none ahead for that: a pool that is full holds up the loop.
    """
    if sender.prefetch_multiplier:
        sender.prefetch_multiplier = max(sender.prefetch_multiplier, -(-_LEAST_PREFETCHED // sender.concurrency))


def _begin_process(app: Celery, sender: str = "", **_: Any) -> None:
    """Make a process of a worker of this one, where it is no fork of it: a fork is one already."""
    if current_app.main != app.main:
        return
    from greenlab.pools.celery import worker

    worker.begin_process(app, sender, lambda: settings.find().secret)


def _log_plainly(app: Celery) -> None:
    app.conf.worker_log_format = "%(asctime)s %(message)s"
    # What Celery (5.7) and kombu warn of is meant for who configures them; what tasks warn of is for their cells.
    warnings.filterwarnings("ignore", module=r"(celery|kombu)\b")
    for name in (
        "celery.worker.strategy",
        "celery.app.trace",
        "celery.worker.consumer.connection",
        "celery.worker.pidbox",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)


def _name_of_pool(pool: Any) -> str:
    """Return the word that `-P` takes, from a word, a path or a class."""
    module = pool if isinstance(pool, str) else f"{pool.__module__}:{pool.__qualname__}"
    return module.partition(":")[0].rpartition(".")[2] or "prefork"


def _run_batch(task: Any, envelope: bytes) -> None:
    from greenlab.pools.celery import worker

    worker.here().run(task.request, envelope)
