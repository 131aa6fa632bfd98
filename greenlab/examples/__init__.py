"""Celery's examples for eventlet workers, as greenlab would write them: tasks of Celery's own, on its app of greenlab.

    celery -A greenlab.examples worker -P eventlet -c 500

serves the tasks of all of them, and `-A greenlab.examples.crawler` those of one. `python -m greenlab.examples.crawler`
sends some, and prints what comes of them.

Must not import: its own modules, which each begin alone; workers find them by `include`.
"""

from __future__ import annotations

from greenlab.celery import app

__all__ = ["app"]

app.conf.include = ["greenlab.examples.url_opener", "greenlab.examples.bulk_producer", "greenlab.examples.crawler"]
