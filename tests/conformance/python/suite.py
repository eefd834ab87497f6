"""Runs scenarios: writes `pass NAME` or `fail NAME: why` for each. The same names mean the same in every language (docs/testing.md)."""

import asyncio
import concurrent.futures
import itertools
import os
import sys
import threading
import time
import traceback

LIMIT = 90  # seconds, far above what any scenario takes
AT_ONCE = 4  # scenarios mostly wait for timers of groups

_scenarios = {}
_numbers = itertools.count()


def scenario(name):
    def keep(function):
        _scenarios[name] = function
        return function

    return keep


def fresh(what):
    """A name that no other scenario uses."""
    return f"py-{what}-{os.getpid()}-{time.time_ns():x}-{next(_numbers)}"


def same(wanted, was, what):
    assert wanted == was, f"{what}: {was!r}, not {wanted!r}"


def until(what, look, limit=60):
    """Looks until there is something to see."""
    end = time.monotonic() + limit
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"waited {limit} s in vain: {what}"
        time.sleep(0.02)


async def until_async(what, look, limit=60):
    end = time.monotonic() + limit
    while True:
        found = await look()
        if found:
            return found
        assert time.monotonic() < end, f"waited {limit} s in vain: {what}"
        await asyncio.sleep(0.02)


def fails(wanted, work):
    """Runs what must raise an exception that `wanted` accepts."""
    try:
        work()
    except Exception as error:  # noqa: BLE001
        assert wanted(error), f"it failed with {error!r}"
        return
    raise AssertionError("it went well instead of failing")


def _run(function, bootstrap):
    if asyncio.iscoroutinefunction(function):
        asyncio.run(asyncio.wait_for(function(bootstrap), LIMIT))
    else:
        function(bootstrap)


def main():
    bootstrap, wanted = sys.argv[1], sys.argv[2:]
    turn = threading.Lock()
    left = threading.Semaphore(0)
    names = [name for name in _scenarios if not wanted or name in wanted]

    def one(name):
        # A thread of its own that may hang: it must not keep the process.
        outcome = concurrent.futures.Future()

        def work():
            try:
                _run(_scenarios[name], bootstrap)
                outcome.set_result(None)
            except BaseException as error:  # noqa: BLE001
                outcome.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        try:
            outcome.result(LIMIT)
            verdict = f"pass {name}"
        except concurrent.futures.TimeoutError:
            verdict = f"fail {name}: took more than {LIMIT} s"
        except BaseException as error:  # noqa: BLE001
            places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(os.path.dirname(__file__))]
            said = f"{type(error).__name__} {error}".replace("\n", " ")
            verdict = f"fail {name}: {said} at line {places[-1].lineno if places else '?'}"
        with turn:
            print(verdict, flush=True)
        left.release()

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as lanes:
        for name in names:
            lanes.submit(one, name)
        for _ in names:
            left.acquire()
    sys.stdout.flush()
    os._exit(0)
