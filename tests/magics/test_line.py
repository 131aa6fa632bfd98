"""The line of a magic: what is made of it, which mistakes are told, what Tab offers and what the help says."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from greenlab import UsageError, pools
from greenlab.magics import _EXAMPLES, Magics, options

if TYPE_CHECKING:
    from kernel import Kernel


PARSER = options.make_parser("greenrun")


@pytest.mark.parametrize(
    ("line", "target", "iterable"),
    [
        ("url in urls", "url", "urls"),
        ("-c 500 url in urls", "url", "urls"),
        ("i, url in enumerate(urls)", "i, url", "enumerate(urls)"),
        ("(i, (a, b)) in zip(x, y)", "(i, (a, b))", "zip(x, y)"),
        ("x in [y for y in range(3) if '-n' in str(y)]", "x", "[y for y in range(3) if '-n' in str(y)]"),
        ("x in {'a': 1, 'b in c': 2}", "x", "{'a': 1, 'b in c': 2}"),
        ("-- x in -xs", "x", "-xs"),
        ("x in a -b", "x", "a -b"),
        ("x in f('a --trace', b=' -c 5')", "x", "f('a --trace', b=' -c 5')"),
    ],
)
def test_target_and_iterable_are_split_as_python_splits_them(line: Any, target: Any, iterable: Any) -> None:
    parsed = options.parse(PARSER, line)
    assert (target, iterable) == (parsed.target, parsed.iterable)


def test_options_have_the_values_that_were_given() -> None:
    parsed = options.parse(
        PARSER, "-c 7 -p prefork -w 3 --timeout 1.5 --retries 2 --rate 9 -x --detach --no-live -o r x in y"
    ).options
    assert (7, "prefork", 3, 1.5, 2, 9.0, True, True, True, "r") == (
        parsed.concurrency, parsed.pool, parsed.workers, parsed.timeout, parsed.retries, parsed.rate,
        parsed.fail_fast, parsed.detach, parsed.no_live, parsed.out,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "say what to run over"),
        ("-z x in y", "no option -z"),
        ("--conc 5 x in y", "no option --conc"),
        ("--concurency 200 x in y", "no option --concurency; did you mean --concurrency?"),
        ("--time-out=5 x in y", "no option --time-out; did you mean --timeout?"),
        ("-c 0 x in y", "1 or more"),
        ("-c five x in y", "whole number"),
        ("-c", "expected one argument"),
        ("--timeout -1 x in y", "greater than 0"),
        ("-p grn x in y", "no pool 'grn': use green, threads"),
        ("-p prefrk x in y", "did you mean prefork?"),
        ("-o 3x x in y", "name of a variable"),
        ("-n 5 x in y", "two ways"),
        ("x in urls -c 5", "options come first: %%greenrun -c 5 x in urls"),
        ("x in f(a, b) -c 5 --timeout=3 -x", "options come first: %%greenrun -c 5 --timeout=3 -x x in f(a, b)"),
        ("-x x in urls -p green -c5", "options come first: %%greenrun -x -p green -c5 x in urls"),
        ("x in urls --trace", "options come first: %%greenrun --trace x in urls"),
        ("x in u -c 5 --tmeout 3", "there is no option --tmeout; did you mean %%greenrun -c 5 --timeout 3 x in u?"),
        ("x in urls --concurency=5", "no option --concurency; did you mean %%greenrun --concurrency=5 x in urls?"),
        ("x in urls -C 5", "there is no option -C; did you mean %%greenrun -c 5 x in urls?"),
        ("x in urls -concurrency 5", "no option -concurrency; did you mean %%greenrun --concurrency 5 x in urls?"),
        ("x in urls --zzz 5", "options come first, and there is no option --zzz; %%greenrun? lists the options"),
        ("-C 5 x in urls", "no option -C; did you mean -c?"),
        ("-concurrency 5 x in urls", "no option -concurrency; did you mean --concurrency?"),
        ("-pool green x in urls", "no option -pool; did you mean --pool?"),
        ("urls", "not of the form"),
        ("x on urls", "not of the form"),
        ("x in urls: break", "not of the form"),
        ("x.y in urls", "a name or a tuple of names"),
        ("x[0] in urls", "a name or a tuple of names"),
    ],
)
def test_a_mistake_in_the_line_is_one_line_that_says_what_to_write(line: Any, says: Any) -> None:
    with pytest.raises(UsageError, match=re.escape(says)) as caught:
        options.parse(PARSER, line)
    assert "\n" not in str(caught.value)


# -- completion and help, in a real kernel -----------------------------------------------------------------


def test_tab_offers_exactly_the_options(kernel: Kernel) -> None:
    assert ["--detach"] == kernel.complete("%%greenrun --de")
    assert ["--rate", "--retries"] == kernel.complete("%%greenrun -c 5 --r")
    offered = kernel.complete("%%greenrun -")
    assert {"-c", "-n", "--concurrency", "--no-live"} <= set(offered)
    assert all(name.startswith("-") for name in offered)


def test_tab_after_p_offers_the_pools(kernel: Kernel) -> None:
    assert sorted(pools.NAMES) == kernel.complete("%%greenrun -p ")
    assert ["prefork"] == kernel.complete("%%preforkrun -c 2 -p pre")


def test_tab_in_the_iterable_completes_python(kernel: Kernel) -> None:
    kernel.run("feeds_of_mine = []")
    assert "feeds_of_mine" in kernel.complete("%%greenrun -c 5 url in feeds_of")


def test_help_lists_the_options(kernel: Kernel) -> None:
    kernel.client.execute("%%greenrun?", silent=False)
    while True:
        message = kernel.client.get_shell_msg(timeout=60)
        if message["msg_type"] == "execute_reply" and message["content"].get("payload"):
            break
    text = message["content"]["payload"][0]["data"]["text/plain"]
    assert "--concurrency N" in text
    assert "tasks in flight" in text
    example = textwrap.dedent("\n".join(re.findall("^    .*$", text.partition("For example:")[2], re.MULTILINE)))
    kernel.run("urls = ['data:,abc'] * 20")
    assert kernel.run(example).error is None
    assert str([3] * 20) == kernel.run("_run.results").value


def test_every_example_in_the_help_is_a_line_that_its_magic_takes(kernel: Kernel) -> None:
    magics: Any = Magics(None)
    assert set() == set(magics.parsers) - set(_EXAMPLES)
    for name, example in _EXAMPLES.items():
        assert textwrap.indent(example, "    ") in magics.help_of(name)
        line = example.partition("\n")[0]
        if line.startswith("%%"):
            assert line.startswith(f"%%{name} ")
            options.parse(magics.parsers[name], line.partition(" ")[2])
    kernel.run("import greenlab, time")
    for name in ("greenspawn", "greenstep"):
        assert "For example:" in kernel.run(f"get_ipython().find_line_magic({name!r}).__doc__").value
        assert kernel.run(_EXAMPLES[name].replace("10", "0.01")).error is None, name
