"""greenlab: feel and measure concurrency in Jupyter.

In a notebook, `%load_ext greenlab`, then `%%greenrun -c 500 url in urls` above ordinary blocking code. In Python,
`greenlab.run(func, items)`. The names below are loaded when they are first used, so that importing greenlab costs
next to nothing, in worker processes too.
"""

import typing as _typing
from importlib import import_module as _import_module

from greenlab import patched as _patched
from greenlab import version as _version
from greenlab.errors import (
    CancelledError,
    GreenlabError,
    NotSendableError,
    PendingError,
    RunError,
    RunInterrupted,
    SeriesInterrupted,
    SourceError,
    TaskTimeoutError,
    UsageError,
    WorkerLostError,
)

if _typing.TYPE_CHECKING:
    from greenlab import lab
    from greenlab.advising.advice import Advice
    from greenlab.api.advise import advise, route, task
    from greenlab.api.compare import race, sweep
    from greenlab.api.explain import check, stepper, trace
    from greenlab.api.run import run
    from greenlab.api.session import kill, native, offload, ps, spawn, start, stop, wait_async
    from greenlab.comparing.race import Race
    from greenlab.comparing.sweep import Sweep
    from greenlab.hub import Task
    from greenlab.runs import Run
    from greenlab.tracing.stepper import Stepper
    from greenlab.tracing.timeline import Timeline

__version__ = _version.__version__

__all__ = [
    "Advice", "CancelledError", "GreenlabError", "NotSendableError", "PendingError", "Race", "Run", "RunError",
    "RunInterrupted", "SeriesInterrupted", "SourceError", "Stepper", "Sweep", "Task", "TaskTimeoutError",
    "Timeline", "UsageError", "WorkerLostError", "advise", "check", "kill", "lab", "load_ipython_extension",
    "native", "offload", "ps", "race", "route", "run", "spawn", "start", "stepper", "stop", "sweep", "task", "trace",
    "unload_ipython_extension", "wait_async",
]  # fmt: skip

_WHERE = {
    "Advice": "greenlab.advising.advice",
    "Race": "greenlab.comparing.race",
    "Run": "greenlab.runs",
    "Stepper": "greenlab.tracing.stepper",
    "Sweep": "greenlab.comparing.sweep",
    "Task": "greenlab.hub",
    "Timeline": "greenlab.tracing.timeline",
    "advise": "greenlab.api.advise",
    "check": "greenlab.api.explain",
    "kill": "greenlab.api.session",
    "native": "greenlab.api.session",
    "offload": "greenlab.api.session",
    "ps": "greenlab.api.session",
    "race": "greenlab.api.compare",
    "route": "greenlab.api.advise",
    "run": "greenlab.api.run",
    "spawn": "greenlab.api.session",
    "start": "greenlab.api.session",
    "stepper": "greenlab.api.explain",
    "stop": "greenlab.api.session",
    "sweep": "greenlab.api.compare",
    "task": "greenlab.api.advise",
    "trace": "greenlab.api.explain",
    "wait_async": "greenlab.api.session",
}


def __getattr__(name: str) -> _typing.Any:
    if name == "lab":
        return _import_module("greenlab.lab")
    if name in _WHERE:
        _patched.refuse()
        value = globals()[name] = getattr(_import_module(_WHERE[name]), name)
        return value
    raise AttributeError(f"module 'greenlab' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__doc__", "__file__", "__name__", "__path__", "__version__"])


def load_ipython_extension(ip: _typing.Any) -> None:
    """Start the hub in the kernel, green its main thread and add the magics: `%load_ext greenlab`."""
    _patched.refuse()
    drawing_client = None
    if getattr(ip, "kernel", None) is not None:
        from greenlab.live.drawing.client import DrawingClient

        # Its process imports matplotlib while this one imports eventlet.
        drawing_client = DrawingClient()
        drawing_client.start()
    from greenlab import magics

    magics.load(ip, drawing_client)


def unload_ipython_extension(ip: _typing.Any) -> None:
    """Put every patched object back, stop workers, remove the magics: `%unload_ext greenlab`."""
    from greenlab import magics

    magics.unload(ip)
