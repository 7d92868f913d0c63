"""What tests of conversations share: a program at a terminal."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Sequence


class Terminal:
    """A program that runs at a terminal, as a person would see it; it is ended with the block."""

    # The terminal must be the program's own for Ctrl-C to reach it.
    OWN = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv[1:])"

    def __init__(self, words: Sequence[str], environment: dict[str, str]) -> None:
        self.unread = b""
        self.leader, end = pty.openpty()
        words = [sys.executable, "-c", self.OWN, *words]
        self.process = subprocess.Popen(
            words, stdin=end, stdout=end, stderr=end, env=environment, start_new_session=True
        )
        os.close(end)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.leader)

    def until(self, expected: str) -> str:
        """What is shown from the end of the last call's text to the end of this one's."""
        limit = time.monotonic() + 100
        while not self.shows(expected, 1) and time.monotonic() < limit and self.process.poll() is None:
            pass
        shown, found, self.unread = self.unread.partition(expected.encode())
        assert found, shown
        return shown.decode() + expected

    def shows(self, expected: str, seconds: float) -> bool:
        """Whether something is shown, now or before as much time has passed without a sign of life."""
        while expected.encode() not in self.unread:
            if not select.select([self.leader], [], [], seconds)[0]:
                return False
            try:
                self.unread += os.read(self.leader, 4096)
            except OSError:  # the program has left
                return False
        return True

    def type(self, text: str) -> None:
        """Let a person press these keys."""
        os.write(self.leader, text.encode())
