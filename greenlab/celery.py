"""The Celery application: `celery -A greenlab.celery worker -P eventlet -c 1000`, or `-P prefork -c 2`, `-P threads`.

It is configured by `GREENLAB_BROKER`, `GREENLAB_BACKEND` and `GREENLAB_SECRET`; unset, by the embedded broker. Each
worker takes from the queue of its kind: tasks that wait go to eventlet workers and threads, tasks that compute to
prefork workers. `-p celery` in a notebook, and `greenlab.run(..., pool="celery")`, send them there.
"""

from __future__ import annotations

from greenlab.pools.celery.app import worker_app

__all__ = ["app"]

app = worker_app()
