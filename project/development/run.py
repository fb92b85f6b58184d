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
from project.development.system import ANY_ADDRESS, CHECKOUT, Config, System, UsageError, listen

QUIET_SECONDS = 3.0
"""So long it says nothing of parts that don't answer yet."""
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


async def announce(system: System) -> None:
    """Wait until the page can be used, and print its address; say what is missing as long as it is."""
    started = time.monotonic()
    announced, missing = False, ""
    while True:
        answer = await system.readiness()
        ready = answer is not None and answer["ready"] is True
        if answer is not None and not announced and (ready or time.monotonic() - started > BANNER_AFTER_SECONDS):
            await system.part("page", "manage.py", "sign_in_link").run()
            announced = True
        if ready:
            say("system", f"ready: all parts answer, {time.monotonic() - started:.1f} s after the last one was started")
            return
        now_missing = "the web server" if answer is None else describe(answer)
        if now_missing != missing and time.monotonic() - started > QUIET_SECONDS:
            say("system", f"waiting for {now_missing}")
            missing = now_missing
        await asyncio.sleep(0.1)


def describe(answer: dict[str, object]) -> str:
    """The parts that `/readyz` calls not ready, with its reasons."""
    return ", ".join(
        f"the {name} ({state})" for name, state in answer.items() if isinstance(state, str) and state != "ok"
    )


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
                    await system.start()
                    await announce(system)
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
