"""A side in a process of its own, asked by lines of JSON; bench/peers/serve.py answers them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent  # where `bench` and `toumei` are imported from
LIMIT = 900  # seconds for an answer


class SideError(Exception):
    """A side could not do what it was asked for; the message says why, in one line."""


class Process:
    """A side that is waiting for requests.

    Args:
        python: of its environment.
        module: what it runs.
        arguments: of the module.
        threads: that it may use.
        variables: of the environment, besides those that set the threads.
        limit: seconds for an answer.
    """

    def __init__(
        self,
        python: str | Path,
        module: str,
        arguments: Sequence[str],
        threads: int,
        variables: dict[str, str] | None = None,
        limit: float = LIMIT,
    ) -> None:
        self.limit = limit
        command = [str(python), "-m", module, str(threads), *arguments]
        self.errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115 (closed at exit)
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            cwd=ROOT,
            env={**os.environ, **thread_variables(threads), **(variables or {})},
        )

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """Return the answer to a request.

        Raises:
            SideError: the side says so, or it has died.
        """
        assert self.process.stdin is not None and self.process.stdout is not None
        line = ""
        watch = threading.Timer(self.limit, self.process.kill)
        watch.start()
        with contextlib.suppress(BrokenPipeError):
            print(json.dumps({"do": do, **request}), file=self.process.stdin, flush=True)
            line = self.process.stdout.readline()
        watch.cancel()
        if not line and watch.finished.is_set() and self.process.wait() == -9:
            raise SideError(f"it has not answered for {self.limit:.0f} s")
        if not line:
            raise SideError(f"it ended by itself: {self.last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise SideError(answer["error"].splitlines()[0])
        return answer

    def last_words(self) -> str:
        """Return the last line of its error output."""
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors if line.strip()]
        return lines[-1] if lines else f"status {self.process.poll()}"

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError):
            if self.process.stdin:
                self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        self.errors.close()


def thread_variables(threads: int) -> dict[str, str]:
    """Return the variables by which libraries are told how many threads they may use."""
    libraries = ("OMP", "OPENBLAS", "MKL", "NUMEXPR", "VECLIB_MAXIMUM")
    return {
        **{f"{name}_NUM_THREADS": str(threads) for name in libraries},
        "PYTHONPATH": str(ROOT),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "",
    }
