"""`make run`: the whole system, supervised, until Ctrl-C, SIGTERM or SIGHUP."""

import asyncio
import contextlib
import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from project.development.supervisor import PartError, Supervisor, say
from project.development.system import ANY_ADDRESS, CHECKOUT, READY_POLL_SECONDS, Config, System, UsageError, listen

PYTHON = os.path.relpath(sys.executable, CHECKOUT)
QUIET_SECONDS = 3.0
"""So long it says nothing of parts that don't answer yet."""
SLOW_POLL_SECONDS = 2.0
"""After these: so often it asks again."""
BANNER_AFTER_SECONDS = 15.0
"""A page that answers is shown by then, even if a part that it needs is still missing: it says which one."""


def unwritable(error: OSError, var: Path) -> UsageError:
    return UsageError(
        f"can't write to {error.filename or var} ({error.strerror}): make it writable for this user, "
        "or choose another directory by VAR_DIR="
    )


def take_lock(var: Path) -> TextIO:
    """The lock of this `var/`: two systems on one database and one Valkey directory would destroy each other's data.

    Raises:
        UsageError: another one runs there, or it can't be written.
    """
    try:
        var.mkdir(parents=True, exist_ok=True)
        lock = (var / "run.lock").open("a+")
    except OSError as error:
        raise unwritable(error, var) from None
    try:
        fcntl.flock(
            lock, fcntl.LOCK_EX | fcntl.LOCK_NB
        )  # the kernel gives it back when this process ends, however it ends
    except OSError:
        lock.seek(0)
        with lock:
            raise UsageError(
                f"already running at {lock.read().strip() or 'an address that it is about to say'}"
            ) from None
    lock.truncate(0)
    return lock


@contextlib.contextmanager
def shared_environment(var: Path, lines: str) -> Iterator[None]:
    """`var/environment` while the system runs: a command in another terminal reads from it where the system is."""
    file = var / "environment"
    try:
        file.unlink(missing_ok=True)  # left by one that was killed
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)  # DATABASE_URL may hold a password
    except OSError as error:
        raise unwritable(error, var) from None
    with os.fdopen(descriptor, "w") as opened:
        opened.write(lines)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


async def announce(system: System, started: float) -> None:
    """Wait until the page can be used, and print its address; say what is missing as long as it is.

    `started`: when the system was, by `time.monotonic()`.
    """
    announced, missing = False, ""
    while True:
        answer = await system.readiness()
        ready = answer is not None and answer["ready"] is True
        seconds = time.monotonic() - started
        if ready:
            say("system", f"ready after {seconds:.1f} s: page, worker, store and database answer")
        elif seconds > QUIET_SECONDS and (now_missing := describe(answer)) != missing:
            say("system", f"waiting for {now_missing}")
            missing = now_missing
        if not announced and answer is not None and (ready or seconds > BANNER_AFTER_SECONDS):
            say("system", "open this link; it signs you in, once:")
            await system.sign_in_link()
            say("system", f"then {system.origin}/jobs/ is the control room: everything that waits, runs and failed")
            say("system", f"for a fresh link type `{PYTHON} manage.py sign_in_link`; to stop everything press Ctrl-C")
            announced = True
        if ready:
            return
        await asyncio.sleep(READY_POLL_SECONDS if seconds < QUIET_SECONDS else SLOW_POLL_SECONDS)


def describe(answer: dict[str, object] | None) -> str:
    """The parts that `/readyz` calls not ready, with its reasons."""
    if answer is None:
        return "the web server"
    states = {name: state for name, state in answer.items() if isinstance(state, str) and state != "ok"}
    return ", ".join(f"the {name} ({state})" for name, state in states.items())


async def serve(config: Config, lock: TextIO) -> None:
    """Run the system until a signal says to stop.

    Raises:
        UsageError, PartError: it can't be started; what was started is stopped again.
    """
    with listen(config.host, config.port) as listener:
        async with Supervisor() as supervisor:
            system = System(config, supervisor, listener)
            lock.write(f"{system.origin}/ (process {os.getpid()})")
            lock.flush()
            with shared_environment(config.var, system.environment_file()):
                stop_on_signals(supervisor)
                if config.port not in {0, system.port}:
                    say("system", f"port {config.port} is taken: using {system.port}")
                if config.host in ANY_ADDRESS:
                    say("system", f"HOST={config.host}: other machines can reach this site, and its DEBUG pages")
                with contextlib.suppress(asyncio.CancelledError):
                    started = time.monotonic()
                    await system.start()
                    await announce(system, started)
                    await asyncio.Event().wait()
                listener.close()  # no new requests while the parts end
    say("system", "stopped; what was not finished goes on at the next start")


def stop_on_signals(supervisor: Supervisor) -> None:
    """The first signal ends the current task's wait, and so the system; each further one hurries the part that ends."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def stop(number: signal.Signals) -> None:
        if task.cancelling():
            supervisor.hurry()
        else:
            say("system", f"{number.name}: stopping, the worker finishes what it is at (once more: at once)")
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A shell's `nohup` lets SIGHUP be ignored, and means it.
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stop, number)


def main() -> int:
    os.chdir(CHECKOUT)
    try:
        config = Config.from_environment(os.environ)
        with take_lock(config.var) as lock:
            asyncio.run(serve(config, lock))
    except (UsageError, PartError) as error:
        say("system", str(error))
        return 1
    except KeyboardInterrupt:  # before anything was started
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
