"""The kernels that tests start: one that dies as it starts is no failure of the test."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import nbval.kernel
import pytest
from kernel import Kernel, start_twice

if TYPE_CHECKING:
    from pathlib import Path


def test_a_kernel_that_dies_as_it_starts_is_started_once_more(tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    first = f"echo x >> {begun}; [ $(wc -l < {begun}) -gt 1 ] || exit 1"
    command = ["sh", "-c", f"{first}; exec {sys.executable} -m ipykernel_launcher -f '{{connection_file}}'"]
    with Kernel(command=command) as kernel:
        assert "3" == kernel.run("1 + 2").value
    assert 2 == len(begun.read_text().split())


def test_a_kernel_that_never_lives_is_a_failure() -> None:
    with pytest.raises(RuntimeError, match="Kernel died"), Kernel(command=["false"]):
        pass


def test_notebooks_kernels_are_started_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def fail(**_: object) -> None:
        tries.append(1)
        raise RuntimeError("Kernel died before replying to kernel_info")

    monkeypatch.setattr(nbval.kernel.KernelManager, "start_kernel", lambda _self, **options: fail(**options))
    with pytest.raises(RuntimeError, match="Kernel died"):
        nbval.kernel.start_new_kernel()
    assert 2 == len(tries)


def test_another_error_is_told_at_once() -> None:
    tries = []

    def fail() -> None:
        tries.append(1)
        raise RuntimeError("no such kernel")

    with pytest.raises(RuntimeError, match="no such kernel"):
        start_twice(fail)
    assert [1] == tries
