"""The files of the Celery project that is written: templates filled in with what was found.

Must not import: IPython, celery.
"""

from __future__ import annotations

import re
import shutil
import string
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from greenlab.exporting.requirements import Requirements, imported, requirements
from greenlab.exporting.source import names_of
from greenlab.exporting.tasks import IO
from greenlab.exporting.translate import import_text, task_text

if TYPE_CHECKING:
    from pathlib import Path

    from greenlab.exporting.carrying import Carried
    from greenlab.exporting.edits import Greenlab
    from greenlab.exporting.smoke import Smoke
    from greenlab.exporting.source import Source
    from greenlab.exporting.tasks import Asked, Task, Tasks

MANY: Final = 1000
"""Tasks at a time of an eventlet worker, where no run says how many."""
_GRACE_S: Final = 5
_WIDTH: Final = 120
_WHY: Final = {
    "io": "waits: a green thread each, on an eventlet worker",
    "cpu": "computes: a process each, on a prefork worker",
    "blocking": "blocks natively: an OS thread each, on a threads worker",
}


class Project:
    """A Celery project, as texts.

    Args:
        package: the name of its package.
        source: the notebook or module.
        greenlab: what greenlab is called there.
        tasks: its tasks.
        carried: what goes along with them.
        smoke: the smoke test.
    """

    def __init__(
        self, package: str, source: Source, greenlab: Greenlab, tasks: Tasks, carried: Carried, smoke: Smoke
    ) -> None:
        self.package = package
        self._source = source
        self._greenlab = greenlab
        self._tasks = list(tasks.by_name.values())
        self._all = tasks
        self._carried = carried
        self._smoke = smoke
        self._title = re.sub(r'["\\\n]', "_", source.title)  # it stands in docstrings
        code, test = self._tasks_module(), self._smoke_test()
        found = requirements([code, test], source.folder, package)
        self.modules = found.local
        self.files = {
            f"{package}/__init__.py": f'"""The tasks of {self._title} on Celery."""\n',
            f"{package}/celery.py": self._fill("celery.py", routes=self._routes()),
            f"{package}/running.py": self._fill("running.py"),
            f"{package}/tasks.py": code,
            "smoke_test.py": test,
            "requirements.txt": found.text,
            "README.md": self._fill(
                "README.md", needs=_needs(code, test, found), workers=self._workers(), tasks=self._table(),
                left_out=self._left_out(),
            ),
        }  # fmt: skip

    @property
    def tasks(self) -> list[Task]:
        """Its tasks."""
        return list(self._tasks)

    @property
    def left_out(self) -> list[tuple[str, str]]:
        """What the smoke test leaves out: place and reason, each once."""
        return list(dict.fromkeys(self._smoke.left_out))

    def write(self, folder: Path) -> None:
        """Write all files, and copy modules that stand beside the notebook."""
        for name, text in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        for module in self.modules:
            if module.is_dir():
                shutil.copytree(module, folder / module.name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(module, folder / module.name)

    def _fill(self, name: str, **more: str) -> str:
        template = files("greenlab.exporting").joinpath("celery_project", f"{name}.template").read_text("utf-8")
        return string.Template(template).substitute(package=self.package, title=self._title, **more)

    # --- tasks ---------------------------------------------------------------------------------------------

    def _tasks_module(self) -> str:
        by_statement = {id(task.statement): task for task in self._tasks}
        imports, rest = [], []
        for statement in self._carried.statements:
            task = by_statement.get(id(statement))
            if statement.is_import:
                imports.append(import_text(statement, self._greenlab.own))
                continue
            text = task_text(task, statement, self._all, self._greenlab)
            if task is not None:
                text = f"{self._decoration(task)}\n{text}"
            rest.append(text + ("\n" if "\n" in text else ""))
        body = "\n\n".join(rest)
        used = names_of(body).used
        helpers = [name for name in ("on_worker", "within") if self._all.helpers[name] in used]
        future = [text for text in imports if text.startswith("from __future__")]
        ours = [f"from {self.package}.celery import {self._all.imported('app')}"]
        if helpers:
            ours.append(f"from {self.package}.running import {self._all.imported(*helpers)}")
        title = f'"""The tasks of {self._title}.\n\nWritten by `greenlab export celery`; yours to change.\n"""'
        ours[:0] = [f"import greenlab.lab\nimport greenlab as {name}" if name != "greenlab" else "import greenlab.lab"
                    for name in sorted(self._greenlab.modules & used)]  # fmt: skip
        others = [text for text in dict.fromkeys(imports) if text and text not in future]
        parts = [title, *future[:1], "\n".join(others), "\n".join(ours)]
        return "\n\n".join(part for part in parts if part) + "\n\n\n" + body.strip() + "\n"

    def _decoration(self, task: Task) -> str:
        lines, below = [], []
        retries, limits, rates = (task.all_asked(name) for name in ("retries", "timeout", "rate"))
        if retries:
            most = max(one.options["retries"] for one in retries)
            lines += [
                f"    # {_says('--retries', retries, 'retries')}. Celery's pauses are whole seconds, from 1 s on.",
                "    autoretry_for=(Exception,),", f"    max_retries={most},", "    retry_backoff=True,",
            ]  # fmt: skip
        if limits:
            most_s = max(one.options["timeout"] for one in limits)
            said = _says("--timeout", limits, "timeout")
            if task.kind == "cpu":
                lines += [
                    f"    # {said}. First raised in the task, and if that goes on its process is ended.",
                    f"    soft_time_limit={most_s},", f"    time_limit={most_s + _GRACE_S},",
                ]  # fmt: skip
            elif task.kind == IO:
                why = f"{said}; Celery's own limits do not hold in its eventlet pool"
                below = [f"@{self._all.helpers['within']}({most_s})  # {why}"]
            else:
                lines.append(f"    # {said}: Celery's threads pool keeps no time limit. Give the call itself one.")
        if rates:
            least = min(one.options["rate"] for one in rates)
            lines += [f"    # {_says('--rate', rates, 'rate')}. Of each worker, not of all together.",
                      f'    rate_limit="{least}/s",']  # fmt: skip
        app = self._all.helpers["app"]
        head = [f"@{app}.task"] if not lines else [f"@{app}.task(", *lines, ")"]
        return "\n".join([*head, *below])

    def _routes(self) -> str:
        return "\n".join(
            f'        "{self.package}.tasks.{task.name}": {{"queue": "{task.kind}"}},' for task in self._tasks
        )

    # --- smoke test ----------------------------------------------------------------------------------------

    def _smoke_test(self) -> str:
        used = self._smoke.used
        helpers = [
            "check_workers",
            *(name for name in ("on_worker", "send", "show") if self._all.helpers[name] in used),
        ]
        names = sorted(used & self._carried.names)
        future = [one.source for one in self._carried.statements if one.is_future]
        imports = [*future, f"from {self.package}.running import {self._all.imported(*helpers)}"]
        if names:
            one = f"from {self.package}.tasks import {', '.join(names)}"
            many = f"from {self.package}.tasks import (\n" + "".join(f"    {name},\n" for name in names) + ")"
            imports.append(one if len(one) <= _WIDTH else many)
        return self._fill(
            "smoke_test.py", imports="\n".join(imports), body=self._smoke.body, check=self._all.helpers["check_workers"]
        )

    # --- README --------------------------------------------------------------------------------------------

    def _workers(self) -> str:
        asked: list[Asked] = [one for task in self._tasks for one in task.asked]

        def most(option: str, kind: str) -> Any:
            tasks = [task for task in self._tasks if task.kind == kind]
            return max((one.options[option] for task in tasks for one in task.all_asked(option)), default=None)

        command = f"celery -A {self.package} worker"
        tasks, memory = (max((one.options[name] for one in asked if one.options.get(name)), default=None)
                         for name in ("max_tasks", "max_memory"))  # fmt: skip
        prefork = "".join([
            f" -c {most('workers', 'cpu')}" if most("workers", "cpu") else "",
            f" --max-tasks-per-child {tasks}" if tasks else "",
            f" --max-memory-per-child {int(memory * 1024)}" if memory else "",
        ])  # fmt: skip
        lines = [
            f"{command} -P eventlet -c {most('concurrency', IO) or MANY} -Q io -n io@%h",
            f"{command} -P prefork{prefork} -Q cpu -n cpu@%h",
        ]
        if any(task.kind == "blocking" for task in self._tasks):
            lines.append(f"{command} -P threads -c {most('concurrency', 'blocking') or 100} -Q blocking -n blocking@%h")
        return "\n".join(f"    {line}" for line in lines)

    def _table(self) -> str:
        return "\n".join(f"| `{task.name}` | `{task.kind}` | {_WHY[task.kind]} |" for task in self._tasks)

    def _left_out(self) -> str:
        lost = sorted({flag for task in self._tasks for name, flag in (("fail_fast", "-x"), ("discard", "--discard"))
                       if task.all_asked(name)})  # fmt: skip
        out = [f"\nWithout a counterpart in Celery, and left out: {', '.join(lost)}."] if lost else []
        if self.left_out:
            out.append("\nThe smoke test leaves out, in comments:\n")
            out += [f"- {where}: {reason}" for where, reason in self.left_out]
        return "\n".join(out)


def _needs(code: str, test: str, found: Requirements) -> str:
    who = "Workers and smoke test need" if found.uses_greenlab or "greenlab" in imported(code) else (
        "The smoke test needs" if "greenlab" in imported(test) else ""
    )  # fmt: skip
    return f"{who} greenlab itself, `jupyter-greenlab`, for what they import of it." if who else (
        "Nothing here needs greenlab."
    )  # fmt: skip


def _says(flag: str, asked: list[Asked], option: str) -> str:
    values = {f"{flag} {one.options[option]}": one.where for one in asked}
    return " and ".join(f"{value} in {where}" for value, where in values.items())
