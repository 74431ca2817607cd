"""A kernel that is a fork of a process which is there already, as whoever asked for it sees it.

Jupyter loads this in each process that runs a notebook, so it imports nothing that takes time.
"""

import json
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress

DOOR = "LMC_KERNELS"  # the environment variable with the address at which kernels are asked for
MESSAGE = 1 << 20  # bytes: more than a command and its environment


class ForkedKernel:
    """A kernel that was asked for at a door; used like a `subprocess.Popen`, and ended if this process ends.

    Args:
        door: the address.
        command: of the kernel, `python -m ipykernel_launcher …`.
        environment: of the kernel.
        folder: in which it works.

    Raises:
        OSError: nobody is there any more.
    """

    stdin = stdout = stderr = None

    def __init__(self, door: str, command: Sequence[str], environment: Mapping[str, str], folder: str):
        self.returncode: int | None = None
        self.line = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        asked = json.dumps({"command": [*command], "environment": dict(environment), "folder": folder})
        try:
            self.line.connect(door)
            socket.send_fds(self.line, [asked.encode()], [1, 2])
            self.pid = int(self.line.recv(MESSAGE) or 0)
            if not self.pid:
                raise ConnectionResetError(f"{door}: nobody is there any more")
        except OSError:
            self.line.close()
            raise

    def poll(self) -> int | None:
        """The exit status, or None while it runs."""
        with suppress(BlockingIOError):
            return self._heard(socket.MSG_DONTWAIT)
        return None

    def wait(self) -> int:
        """The exit status, once it ended."""
        return self._heard(0)

    def _heard(self, how: int) -> int:
        """The exit status, as it is told; that of one which was killed where nobody is left to tell it."""
        if self.returncode is None:
            self.returncode = int(self.line.recv(MESSAGE, how) or -signal.SIGKILL)
            self.line.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)
