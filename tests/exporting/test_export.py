"""A notebook's tasks as a Celery project: what is found in it, what goes along, what is refused in one line."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from notebook_files import write_notebook

from greenlab.__main__ import main
from greenlab.errors import UsageError
from greenlab.exporting import export_celery

if TYPE_CHECKING:
    from collections.abc import Iterator

COURSE = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
IMPORT = "%load_ext greenlab\nimport greenlab"
TASK = "@greenlab.task\ndef fetch(x):\n    return x\n"


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    for path in tmp_path.rglob("*.py"):
        ast.parse(path.read_text("utf-8"))


def export(*cells: str) -> Any:
    """Export a notebook, and return its files by name."""
    return export_celery(str(write_notebook(Path("feeds.ipynb"), *cells)))[1].files


def tasks_of(*cells: str) -> str:
    return str(export(IMPORT, *cells)["feeds/tasks.py"])


def smoke_of(*cells: str) -> str:
    return str(export(IMPORT, *cells)["smoke_test.py"]).partition("check_workers()\n\n")[2]


def refusal(*cells: str) -> str:
    with pytest.raises(UsageError) as caught:
        export(*cells)
    assert "\n" not in str(caught.value)
    assert not Path("feeds-celery").exists()
    return str(caught.value)


# --- tasks ------------------------------------------------------------------------------------------------


def test_a_task_takes_along_what_it_needs_and_nothing_else() -> None:
    code = tasks_of(
        "import json, re\nimport zlib\nfrom math import sqrt as root",
        "# of a word\nWORD = re.compile('x')  # all\nUNUSED = 1\ndef words(text):\n    return WORD.findall(text)",
        "class Page:\n    size = 3\n\n@greenlab.task  # hm\ndef fetch(x: Page) -> list:\n    return words(x), root(4)",
    )
    assert "import json, re\nfrom math import sqrt as root\n" in code
    assert "# of a word\nWORD = re.compile('x')  # all\n" in code
    assert "class Page:" in code
    assert "@app.task\ndef fetch(x: Page) -> list:\n    return words(x), root(4)\n" in code
    for word in ("zlib", "UNUSED", "greenlab.", "hm"):
        assert word not in code.partition('"""\n\n')[2]


def test_greenlab_is_taken_out_of_an_import_of_several() -> None:
    files = export("import greenlab, os as system, json", "@greenlab.task\ndef fetch(x):\n    return system.sep",
                   "greenlab.run(fetch, [1])\nprint(json)")  # fmt: skip
    for name in ("feeds/tasks.py", "smoke_test.py"):
        assert "\nimport os as system, json\n" in files[name]
        assert "import greenlab" not in files[name]


def test_the_last_definition_counts_and_what_was_set_in_an_object_goes_along() -> None:
    code = tasks_of(
        "LIMITS = dict()\ndef size():\n    return 1",
        "LIMITS = dict(a=1)\nLIMITS['b'] = 2\ndef size():\n    return 2",
        "@greenlab.task\ndef fetch(x):\n    return size() + LIMITS['b']",
    )
    assert "LIMITS = dict()" not in code
    assert "LIMITS = dict(a=1)\n\nLIMITS['b'] = 2" in code
    assert "return 1" not in code


def test_names_of_comprehensions_and_annotations_are_nobodys() -> None:
    code = tasks_of(
        "x = 1",
        "SQUARES: list = [x * x for x in range(3)]\nif True:\n    LIMIT: int = 2",
        "@greenlab.task\ndef fetch(y):\n    return SQUARES[y], LIMIT, x",
    )
    assert "x = 1\n\nSQUARES: list = [x * x for x in range(3)]" in code
    assert "LIMIT: int = 2" in code


def test_the_queue_is_that_of_the_declared_pool_then_of_a_pattern_then_of_the_run() -> None:
    routes = export(
        "from greenlab import task\nimport greenlab as gl",
        "@task(pool='prefork')\ndef a(x): return x\n@gl.task(pool='threads')\ndef b(x): return x",
        "@task\ndef parse_c(x): return x\n@task\ndef d(x): return x\n@task\ndef e(x): return x",
        "gl.route({'parse_*': 'prefork'})",
        "%%preforkrun x in [1]\nd(x)",
        "%%greenrun x in [1]\nx + 1",
    )["feeds/celery.py"]
    expected = {"a": "cpu", "b": "blocking", "parse_c": "cpu", "d": "cpu", "e": "io", "cell_6": "io"}
    for name, queue in expected.items():
        assert f'"feeds.tasks.{name}": {{"queue": "{queue}"}},' in routes


def test_what_runs_ask_becomes_options_of_the_task_where_celery_has_them() -> None:
    files = export(
        IMPORT,
        "@greenlab.task\ndef fetch(x): return x\n@greenlab.task(pool='prefork')\ndef parse(x): return x",
        "%%greenrun -c 300 --retries 2 --timeout 1.5 --rate 20 x in [1]\nfetch(x)",
        "greenlab.run(fetch, [1], retries=4, concurrency=400)\n"
        "greenlab.run(parse, [1], pool='prefork', timeout=2, max_tasks=50, max_memory=100, workers=3)",
    )
    code = files["feeds/tasks.py"]
    fetch, parse = code.split("def fetch")[0], code.split("def fetch")[1]
    assert "max_retries=4," in fetch
    assert "# --retries 2 in code cell 3 and --retries 4 in code cell 4." in fetch
    assert 'rate_limit="20.0/s",' in fetch
    assert "@within(1.5)  # --timeout 1.5 in code cell 3; Celery's own limits do not hold in its eventlet pool" in fetch
    assert "soft_time_limit=2,\n    time_limit=7," in parse
    assert "celery -A feeds worker -P eventlet -c 400 -Q io -n io@%h" in files["README.md"]
    assert "-P prefork -c 3 --max-tasks-per-child 50 --max-memory-per-child 102400 -Q cpu" in files["README.md"]


def test_a_call_of_a_task_that_computes_goes_to_its_worker_and_a_call_that_is_local_does_not() -> None:
    code = tasks_of(
        "def plain(x):\n    return x\ndef page(x):\n    return x",
        "@greenlab.task(pool='prefork')\ndef parse(x):\n    return parse(x)",
        "@greenlab.task\ndef fetch(x):\n    y = parse.local(x)\n    page(x)\n"
        "    return parse(x), greenlab.offload(page, x), greenlab.offload(plain, x, pool='threads')",
        "@greenlab.task\ndef both(x, parse=len):\n    return parse(x)",
    )
    assert "return parse(x)\n\n\n@app.task\ndef fetch" in code
    assert "y = parse(x)\n    page(x)\n    return on_worker(parse)(x), on_worker(page)(x), on_worker(plain)(x)" in code
    assert "def both(x, parse=len):\n    return parse(x)" in code


def test_the_body_of_a_run_is_a_task_and_its_texts_stay_as_they_are() -> None:
    code = tasks_of("%%greenrun i, x in enumerate([1])\ntext = '''a\nb'''\n(i, text)  # é")
    assert "def cell_2(item):\n    i, x = item\n    text = '''a\nb'''\n    return (i, text)  # é" in code


# --- the smoke test ---------------------------------------------------------------------------------------


def test_runs_are_sent_as_groups_and_single_calls_to_a_worker() -> None:
    text = smoke_of(
        TASK,
        "%%greenrun -o run x in [1, 2]\nfetch(x)",
        "%%greenrun -n 3\nfetch(i)",
        "again = greenlab.run(fetch, (x for x in [1]), concurrency=3)\ngreenlab.run(fetch, count=4)\nfetch(1);",
        "task = greenlab.spawn(fetch, 5)\ntask.wait()",
    )
    assert "run = _run = send(fetch.s(x) for x in [1, 2])" in text
    assert "_run = send(fetch.s(i) for i in range(3))" in text
    assert "again = send(fetch.s(item) for item in (x for x in [1]))\nsend(fetch.s(i) for i in range(4))\n" in text
    assert "\non_worker(fetch)(1)\n" in text
    assert "task = fetch.delay(5)\nshow(task.wait())" in text


def test_what_has_no_counterpart_is_left_out_in_comments_with_all_that_needs_it() -> None:
    text = smoke_of(
        TASK,
        "files = !ls\nprint(files)\n%matplotlib inline",
        "%%greenrace -o race x in [1]\nfetch(x)",
        "race.winner",
        "%%bash\necho hi",
        "run = greenlab.run(fetch, [1])\nprint(run.latency)\nrun.results",
        "await greenlab.spawn(fetch, 1)",
    )
    code = "\n".join(line for line in text.splitlines() if line and not line.startswith("#"))
    assert "run = send(fetch.s(item) for item in [1])\nshow(run.results)" == code
    for line in ("files = !ls", "%matplotlib inline", "%%greenrace -o race x in [1]", "race.winner", "echo hi"):
        assert f"#     {line}\n" in text
    assert "it uses `race`, which was left out above" in text


def test_a_run_whose_body_needs_the_notebook_is_left_out_and_said_where() -> None:
    files = export(IMPORT, TASK, "import random\nseen = set()\nfor x in [1]:\n    total = x",
                   "%%greenrun x in [1]\nx + total", "_run.results")  # fmt: skip
    assert "- code cell 4: the body (code cell 4) uses `total`, which code cell 3 makes" in files["README.md"]
    assert "- code cell 5: it uses `_run`, which was left out above" in files["README.md"]


def test_modules_beside_the_notebook_go_along_and_libraries_are_pinned() -> None:
    Path("helpers.py").write_text("import requests\ndef double(x): return 2 * x\n")
    files = export(IMPORT, "import helpers, not_installed_here\nfrom helpers import double",
                   "@greenlab.task\ndef fetch(x): return double(x), not_installed_here")  # fmt: skip
    assert "double" in Path("feeds-celery/helpers.py").read_text()
    lines = files["requirements.txt"].splitlines()
    assert {"celery", "eventlet", "redis", "requests"} == {line.partition("==")[0] for line in lines if line[0] != "#"}
    assert any(line.startswith("# not_installed_here:") for line in lines)


@pytest.mark.parametrize("lesson", COURSE, ids=lambda path: path.stem)
def test_the_lessons_are_exported_or_refused_in_one_line(lesson: Path) -> None:
    try:
        _, project = export_celery(str(lesson), Path("out"))
    except UsageError:
        return
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821,E9", "out"],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert 0 == done.returncode, done.stdout
    assert project.tasks


def test_a_name_of_the_notebooks_own_is_not_taken_for_one_of_the_projects() -> None:
    files = export(IMPORT, "app = 3\ndef send(x): return x", "@greenlab.task\ndef fetch(x): return app",
                   "greenlab.run(fetch, [1])\nsend(1)")  # fmt: skip
    assert "import app as celery_app\n\n\napp = 3\n\n@celery_app.task\ndef fetch" in files["feeds/tasks.py"]
    assert "import check_workers, send as celery_send, show\n" in files["smoke_test.py"]
    assert "celery_send(fetch.s(item) for item in [1])\nshow(send(1))" in files["smoke_test.py"]


# --- modules ----------------------------------------------------------------------------------------------

MODULE = '''"""Tasks."""
from __future__ import annotations
import greenlab

@greenlab.task
def fetch(x: int) -> int:
    return x

if __name__ == "__main__":
    text = """a
    b"""
    run = greenlab.run(fetch, [1])
    assert run.results == [1]
'''


@pytest.mark.parametrize("name", ["shop_tasks.py", "shop_tasks"])
def test_a_module_is_exported_with_its_main_block_as_the_smoke_test(name: str) -> None:
    Path("shop_tasks.py").write_text(MODULE)
    where, project = export_celery(name)
    assert Path("shop_tasks-celery") == where
    package = project.package
    assert '"""a\n    b"""\nrun = send(fetch.s(item) for item in [1])\nassert' in project.files["smoke_test.py"]
    assert "from __future__ import annotations" in project.files[f"{package}/tasks.py"]


def test_the_package_hides_no_other_module() -> None:
    path = write_notebook(Path("json.ipynb"), IMPORT, TASK)
    assert "json_project" == export_celery(str(path))[1].package


# --- mistakes ---------------------------------------------------------------------------------------------


def test_a_notebook_without_tasks_is_refused() -> None:
    assert "there are no tasks in feeds.ipynb: write @greenlab.task" in refusal("x = 1")


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("for total in [1]: pass\n@greenlab.task\ndef f(x): return x + total", "uses `total`, which code cell 2 makes"),
        ("import urllib.request as r\nhtml = r.urlopen('x').read()\n@greenlab.task\ndef f(x): return html", "`html`"),
        ("def g(): return total\ndef h(): return g()\n@greenlab.task\ndef f(x): return h()",
         "by way of `h` and `g`, uses `total`, which nothing here defines"),
        ("@greenlab.task\ndef f(x):\n    global n\n    n = x", "sets the global `n`"),
        ("def make():\n    @greenlab.task\n    def f(x): return x\n    return f", "is defined within something else"),
        ("class A:\n    @greenlab.task\n    def f(self): return x", "is defined within something else"),
        ("@greenlab.task\ndef f(x):\n    !ls\n", "uses a magic or a shell command"),
        ("@greenlab.task\ndef f(x):\n    with greenlab.native(): return x", "uses greenlab.native"),
        ("p = 'prefork'\n@greenlab.task(pool=p)\ndef f(x): return x", "the pool of f (code cell 2) is computed"),
        ("from . import x\n@greenlab.task\ndef f(x): return x", "imports relative"),
        ("def f(x): return x\nf = greenlab.task(f)", "write @greenlab.task above the function"),
        ("@greenlab.task\nasync def f(x): return x", "is async"),
        ("x = 1\nx = (", "code cell 2, line 2: '(' was never closed"),
        ("%%greenrun x in [1]\nx +", "code cell 2, line 2: invalid syntax"),
        ("%%greenrun --nonsense x in [1]\nx", "code cell 2: greenrun: no option --nonsense"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_task_of_a_worker_is_refused_with_its_cell(cell: str, said: str) -> None:
    found = refusal(IMPORT, cell)
    assert said in found
    assert "code cell 2" in found


def test_a_folder_that_is_there_is_not_touched(capsys: pytest.CaptureFixture[str]) -> None:
    write_notebook(Path("feeds.ipynb"), IMPORT, TASK)
    Path("out").mkdir()
    Path("out/mine").write_text("mine")
    assert 2 == main(["export", "celery", "feeds.ipynb", "-o", "out"])
    assert "greenlab: out is there already: name a new folder with -o, or remove it\n" == capsys.readouterr().err
    assert ["mine"] == [path.name for path in Path("out").iterdir()]
    assert 0 == main(["export", "celery", "feeds.ipynb"])
    assert "feeds-celery: 1 task: fetch (io)\n" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["none.ipynb", "none.py", "no_such_module", "json.nothing", "bad.ipynb", "a b"])
def test_what_is_not_there_is_said(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bad.ipynb").write_text("{}")
    assert 2 == main(["export", "celery", what])
    said = capsys.readouterr().err
    assert 1 == said.count("\n")
    assert "Traceback" not in said
