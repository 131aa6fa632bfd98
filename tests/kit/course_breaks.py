"""What breaks each relation that the lessons and the tour assert: a pool swapped, a delay removed, an option left out.

One entry a change: the notebook, the claim's cell, the cell that is changed, what is replaced there, and which of the
claim's relations are false then.
"""

from __future__ import annotations

from typing import NamedTuple


class Break(NamedTuple):
    """A change of a notebook after which relations of one of its claims are false.

    Attributes:
        notebook: what its file begins with: a lesson's number, or "tour".
        claim: the id of the cell that must fail.
        cell: the id of the cell that is changed.
        old, new: what is replaced in it, and by what.
        relations: which of the claim's assertions are false then, counted from 1.
    """

    notebook: str
    claim: str
    cell: str
    old: str
    new: str
    relations: tuple[int, ...] = (1,)

    def __str__(self) -> str:
        return "-".join([self.notebook, self.claim, *map(str, self.relations)])


NATIVELY = "with greenlab.native():\n    "
QUICK = [
    Break("00", "claim-tail", "run", "1.0 if i % 20 == 0 else 0.1", "0.1"),
    Break("01", "claim-same", "prefork", "len(feed", "1 + len(feed"),
    Break("02", "claim-spin", "spin", "    pass", "    time.sleep(0.01)"),
    Break("03", "claim-computing", "hold", "compute(0.3)", NATIVELY + "time.sleep(0.3)"),
    Break("04", "claim-sqlite", "sqlite", 'greenlab.offload(ask_sqlite, pool="threads")', "ask_sqlite()", (2,)),
    Break("05", "claim-isolation", "count", 'pool="prefork", workers=2', 'pool="green"', (2,)),
    Break("06", "claim-waits", "wait-threads", ', pool="threads"', ""),
    Break("07", "claim-mixed", "mixed", "greenlab.offload(parse, page)", "parse(page)"),
    Break("08", "claim-open", "open", "concurrency=300, rate=150", "concurrency=4"),
    Break("09", "claim-jitter", "crowds", "lambda: 0.2", "lambda: random.uniform(0, 0.4)"),
    Break("10", "claim-lost", "lost", "    time.sleep(0.001)", "    pass"),
    Break("11", "claim-broken", "broken", "    time.sleep(0.05)", "    pass", (1, 2)),
    Break("12", "claim-routed", "parsed", '@greenlab.task(pool="prefork")\n', "", (1, 2)),
    Break("tour", "claim-failing", "shops", "shop in closed:", "shop in closed and shop > 3:", (1, 2)),
]
"""One a notebook, with which the suite always breaks it."""

OTHERS = [
    Break("00", "claim-together", "run", "-c 50 -n 500", "-c 5 -n 50"),
    Break("00", "claim-lock", "mended-run", "time.sleep(0.02)", "with counter:\n    time.sleep(0.02)"),
    Break("01", "claim-faster", "green", "-c 100", "-c 4"),
    Break("01", "claim-littles-law", "prefork", "-w 4 -o prefork url in urls", "-w 1 -o prefork url in urls[:20]"),
    Break("01", "claim-blocked", "heavy-green", "compute(0.150)", "compute(0.001)"),
    Break("01", "claim-parallel", "heavy-prefork", "%%preforkrun -w 4", "%%greenrun -c 4"),
    Break("02", "claim-one-thread", "thousand", "%%greenrun -c 1000", "%%greenrun -p threads -c 200"),
    Break("02", "claim-one-thread", "thousand", "-c 1000", "-c 40", (2,)),
    Break("02", "claim-spin", "spin", "    time.sleep(0.01)", "    pass", (2,)),
    Break("02", "claim-idle", "walk", "time.sleep(0.05)", "sum(range(2_000_000))"),
    Break("02", "claim-ticks", "ticker", "time.sleep(0.02)", "time.sleep(1)"),
    Break("03", "claim-ticks", "hold", "compute(0.3)", "time.sleep(0.3)", (1, 2)),
    Break("03", "claim-waiting", "native", "time.sleep(0.3)", "compute(0.3)"),
    Break("03", "claim-waiting", "native", "time.sleep(0.3)", "time.sleep(0.15)", (2,)),
    Break("03", "claim-away", "offloaded-native", "greenlab.off", NATIVELY + "time.sleep(0.3)\nif 0: greenlab.off"),
    Break("03", "claim-offloaded", "offloaded-compute", "greenlab.offload(compute, 0.3)", "compute(0.3)"),
    Break("03", "claim-pieces", "broken", "compute(0.012)", "time.sleep(0.012)"),
    Break("04", "claim-stdlib", "stdlib", 'os.system("sleep 0.1")', 'subprocess.run(["sleep", "0.1"])', (2,)),
    Break("04", "claim-stdlib", "stdlib", "time.sleep(0.1)", "os.system('sleep 0.1')"),
    Break("04", "claim-sqlite", "sqlite", "overlap(ask_sqlite)", "overlap(lambda: time.sleep(0.1))"),
    Break("04", "claim-redis", "claim-redis", "client.blpop(", "os.system('sleep 0.2') and client.blpop("),
    Break("04", "claim-postgres", "postgres", "connections.pop().c", "os.system('sleep 0.1') and connections.pop().c"),
    Break("04", "claim-broken", "broken", "max_connections=1", "max_connections=10"),
    Break("05", "claim-pids", "pids", "%%preforkrun -w 2", "%%greenrun"),
    Break("05", "claim-cost", "cost", "psutil.Process().memory_info().rss", "2**14"),
    Break("05", "claim-results", "claim-results", "len(line.split())", "words.extend(line.split()) or 0"),
    Break("05", "claim-isolation", "count", "count, lines, live", "count, lines[1:], live"),
    Break("05", "claim-pickling", "claim-pickling", 'pool="prefork", ', ""),
    Break("05", "claim-limit", "limit", " --timeout 0.3", "", (1, 2)),
    Break("05", "claim-recycled", "recycled", " --max-tasks 5", ""),
    Break("05", "claim-parallel", "prefork-computes", 'pool="prefork"', 'pool="green"'),
    Break("06", "claim-gil", "gil", 'pool="threads"', 'pool="prefork", workers=4', (2,)),
    Break("06", "claim-gil", "gil", "compute(0.2)", "compute(0.01)"),
    Break("06", "claim-releases", "gaps", "zlib.compress(data, 6)", "numbers.count(-1)"),
    Break("06", "claim-releases", "gaps", "numbers.count(-1)", "zlib.compress(data, 6)", (2,)),
    Break("06", "claim-processes", "mended", 'pool="prefork"', 'pool="threads"', (2,)),
    Break("06", "claim-processes", "broken", "compute(0.1)", "compute(0.01)"),
    Break("07", "claim-waits", "load", "FeedHub(seed=7)", "FeedHub(seed=7, latency_s=0)"),
    Break("07", "claim-hybrid", "hybrid", "-p hybrid -w 2", "-p green", (2,)),
    Break("07", "claim-hybrid", "hybrid", "-c 60", "-c 1"),
    Break("07", "claim-race", "race", "-w 2", "-w 1"),
    Break("07", "claim-broken", "broken", "lambda url: parse(fetch(url)), url", "parse, fetch(url)"),
    Break("07", "claim-broken", "broken", "urls[:20]", "urls[:19]", (2,)),
    Break("08", "claim-saturated", "backend", "range(8)", "range(4)"),
    Break("08", "claim-saturated", "backend", "range(8)", "range(64)", (2,)),
    Break("08", "claim-latency", "backend", "range(8)", "range(64)"),
    Break("08", "claim-knee", "backend", "range(8)", "range(4)"),
    Break("08", "claim-knee", "sweep", "-c 1,2,4,8,16,32", "-c 40,50,64,80", (2,)),
    Break("08", "claim-overload", "overload", "range(900), concurrency=900, rate=600", "range(200), rate=200"),
    Break("09", "claim-errors", "hub", "fail_every=5", "fail_every=4", (1, 2, 3)),
    Break("09", "claim-resume", "resume", "run.resume()", "run.rerun()"),
    Break("09", "claim-resume", "resume", "port=port", "port=port, fail_every=5", (2,)),
    Break("09", "claim-timeout", "timeout", "60 if", "0.1 if", (2,)),
    Break("09", "claim-timeout", "timeout", "--timeout 0.3", "--timeout 11"),
    Break("09", "claim-jitter", "crowds", "random.uniform(0, 0.4)", "0.2", (2,)),
    # One succeeds, or the run itself would end with "every task failed".
    Break(
        "09", "claim-bounded", "claim-bounded",
        "gentle.ask(), range(40), concurrency=10", "i and gentle.ask(), range(40)",
    ),
    Break("09", "claim-rate", "claim-rate", " rate=100,", ""),
    Break("09", "claim-cancel", "claim-cancel", "squares.cancel()", "squares.wait()"),
    Break("09", "claim-cancel", "detached", "i * i", "i", (2,)),
    Break("09", "claim-killed", "killed", "i == 5", "i in (5, 6)"),
    Break("09", "claim-killed", "killed", "os.kill(os.getpid(), signal.SIGKILL)", "raise ValueError", (2,)),
    Break("09", "claim-bank", "bank-run", " --retries 3", "", (1, 2)),
    Break("09", "claim-once", "claim-once", "retries=3", "retries=0"),
    Break("09", "claim-once", "claim-once", "accounts.setdefault(number, 1)", "accounts[number, len(lost)] = 1", (2,)),
    Break("10", "claim-step", "lost", "    time.sleep(0.001)", "    pass"),
    Break(
        "10", "claim-no-switch", "claim-no-switch",
        "        counter.value =", "        look_up()\n        counter.value =",
    ),
    Break("10", "claim-lock", "claim-lock", "with lock:", "if lock:"),
    Break(
        "10", "claim-short", "claim-short",
        "        look_up()\n        with lock:\n", "        with lock:\n            look_up()\n", (2,),
    ),
    Break(
        "10", "claim-short", "claim-short",
        "        look_up()\n        with lock:\n            counter.value += 1",
        "        before = counter.value\n        look_up()\n        counter.value = before + 1",
    ),
    Break("10", "claim-queue", "claim-queue", "before + order", "before"),
    Break("10", "claim-deadlock", "broken", "(transfer, b, a)", "(transfer, a, b)"),
    Break("10", "claim-ordered", "claim-ordered", "(transfer, c, d))", "(transfer, d, c))"),
    Break("11", "claim-alike", "asyncio", "limit=200", "limit=2", (2,)),
    Break("11", "claim-alike", "asyncio", "len(await", "1 + len(await"),
    Break("11", "claim-marked", "claim-marked", "await asyncio.sleep(0.001)", "pass"),
    Break("11", "claim-bridge", "bridge", "return n * n", "return n"),
    Break("11", "claim-bridge", "bridge", "    time.sleep(0.05)", f"    {NATIVELY}    time.sleep(0.06)", (2,)),
    Break(
        "11", "claim-threads", "race", "--repeat 3 -o race url in urls\n",
        "-o race url in urls\nimport threading\n"
        "time.sleep(6 * (threading.current_thread() is not threading.main_thread()))\n",
    ),
    Break("11", "claim-broken", "mended", "range(20), live", "range(20), concurrency=1, live", (3,)),
    Break("12", "claim-elsewhere", "celery", "-p celery -c 100", "-c 100", (2,)),
    Break("12", "claim-elsewhere", "celery", "%%greenrun -p celery -c 100", "%%preforkrun -w 2"),
    Break("12", "claim-together", "celery", "-c 100", "-c 4"),
    Break("12", "claim-blocked", "broken", "compute(0.150)", "time.sleep(0.150)", (1, 2)),
    Break(
        "12", "claim-as-they-come", "opener",
        "open_urls(delays, timeout_s=30)", "((url, open_url.delay(url).get()) for url in delays)",
    ),
    Break("12", "claim-bulk", "producer", "send(20, 200)", "send(1, 200)"),
    Break("12", "claim-bulk", "producer", "send(add, i, 1)", "send(add, i, 2)", (2,)),
    Break(
        "12", "claim-once", "crawl",
        "Crawl(limit_s=1.0).begin(site.home).wait(30)",
        "[Crawl(limit_s=1.0).begin(site.home) for _ in range(2)][1].wait(30)", (2,),
    ),
    Break("12", "claim-once", "crawl", "begin(site.home)", "begin(min(site.slow()))"),
    Break("12", "claim-limit", "site", "slow_s=30", "slow_s=0"),
    Break(
        "12", "claim-limit", "crawl",
        "limit_s=1.0).begin(site.home).wait(30)", "limit_s=31).begin(site.home).wait(60)", (2,),
    ),
    Break("tour", "claim-results", "named", "-c 10", "-c 1", (3,)),
    Break("tour", "claim-mistakes", "claim-mistakes", "prefrok", "eventlet"),
    Break("tour", "claim-resume", "claim-resume", "closed.clear()", "closed.pop()"),
    Break("tour", "claim-limits", "limits", "i == 7", "i in (6, 7)"),
    Break("tour", "claim-cancel", "claim-cancel", "str(error)", "type(error).__name__", (3,)),
    Break("tour", "claim-kill", "spawn", "while True", "if True", (2,)),
    Break("tour", "claim-pools", "prefork", "%%preforkrun -w 2", "%%greenrun", (4,)),
    Break("tour", "claim-blocked", "blocked", "time.sleep(0.01)\n", ""),
    Break("tour", "claim-compared", "sweep", "time.sleep(0.01)", "compute(0.01)", (2,)),
    Break("tour", "claim-end", "claim-end", "%unload_ext greenlab\n", ""),
]  # fmt: skip
"""The rest, which `GREENLAB_ALL_BREAKS=1` breaks as well."""
