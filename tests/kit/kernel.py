"""A real kernel, as a front end sees it: cells go in, messages come out."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self, TypeVar

import jupyter_core.utils as _core
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

# The connection is over TCP on loopback, and recent kernels say so on every start.
ARGUMENTS = ["--IPKernelApp.log_level=40", "--HistoryManager.enabled=False"]


@dataclass
class Cell:
    """What came back from one cell.

    Attributes:
        number: what front ends show beside it, as in [3].
        error: the rendered traceback, or None; `ename` its exception's class.
        late: messages of other cells that arrived meanwhile, as (message id of the cell, text).
    """

    msg_id: str = ""
    stdout: str = ""
    stderr: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    displays: list[dict[str, Any]] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None
    ename: str | None = None
    late: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    number: int = 0

    @property
    def value(self) -> str:
        """The plain text of the cell's last expression."""
        text: str = self.result.get("text/plain", "")
        return text


def start_twice(start: Callable[[], T]) -> T:
    """Start a kernel, and once more if it dies as it starts.

    jupyter_client 8 looks for free ports, lets them go, and has the kernel take them: meanwhile another process may
    have, and then the kernel dies.
    """
    try:
        return start()
    except RuntimeError as error:
        if "Kernel died before replying" not in str(error):
            raise
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()  # the first one's sockets and files
    return start()


class Kernel:
    """A kernel of this interpreter; use it in a `with` block.

    Args:
        arguments: what stands on its command line, beside the connection file.
        command: what starts it instead of ipykernel's own module; `{connection_file}` stands for that file.
    """

    def __init__(self, *arguments: str, command: Sequence[str] | None = None) -> None:
        self._arguments = [*ARGUMENTS, *arguments]
        self._command = command

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        start_twice(self._start)
        return self

    def _start(self) -> None:
        _core._loop.set(self._loop)
        self.manager = KernelManager(kernel_name="python3")
        if self._command is not None:
            self.manager._kernel_spec = KernelSpec(argv=list(self._command))
        self.manager.start_kernel(extra_arguments=self._arguments)
        self._client = self.manager.client()
        try:
            self._client.start_channels()
            self._client.wait_for_ready(timeout=60)
        except BaseException:
            self._stop()
            raise

    def __exit__(self, *_exc: object) -> None:
        self._stop()
        self._loop.close()

    def _stop(self) -> None:
        _core._loop.set(self._loop)  # as for the client, below: the last test of a module may not have used it
        self._client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()

    @property
    def client(self) -> Any:
        """The blocking client."""
        # jupyter_core 5.9 keeps the loop of its blocking calls in a context variable, and each test has a context
        # of its own: without this every test would leave a loop behind.
        _core._loop.set(self._loop)
        return self._client

    def run(self, code: str, *, interrupt_after: float | None = None, timeout: float = 60) -> Cell:
        """Run a cell to its end.

        Args:
            code: the cell.
            interrupt_after: seconds after which the front end interrupts, or None.
            timeout: seconds without any message after which the test fails.
        """
        cell = Cell(msg_id=self.client.execute(code))
        begin = time.monotonic()
        timer = threading.Timer(interrupt_after, self.interrupt) if interrupt_after else None
        if timer:
            timer.start()
        while self._take(cell, self.client.get_iopub_msg(timeout=timeout)):
            pass
        cell.seconds = time.monotonic() - begin
        if timer:
            timer.join()
        return cell

    def complete(self, code: str) -> list[str]:
        """Return what Tab offers at the end of this code."""
        matches: list[str] = self.client.complete(code, reply=True, timeout=60)["content"]["matches"]
        return matches

    def interrupt(self) -> None:
        """Interrupt, as a kernel manager does it: the whole process group is signalled."""
        os.killpg(os.getpgid(self.manager.provisioner.pid), signal.SIGINT)

    def _take(self, cell: Cell, message: dict[str, Any]) -> bool:
        kind, content = message["msg_type"], message["content"]
        parent = message["parent_header"].get("msg_id")
        if parent != cell.msg_id:
            if kind == "stream":
                cell.late.append((parent, content["text"]))
            return True
        if kind == "stream":
            setattr(cell, content["name"], getattr(cell, content["name"]) + content["text"])
        elif kind == "execute_input":
            cell.number = content["execution_count"]
        elif kind == "execute_result":
            cell.result = content["data"]
        elif kind == "display_data":
            cell.displays.append(content["data"])
        elif kind == "update_display_data":
            cell.updates.append(content["data"])
        elif kind == "error":
            cell.error, cell.ename = "\n".join(content["traceback"]), content["ename"]
        return not (kind == "status" and content["execution_state"] == "idle")
