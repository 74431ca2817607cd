"""Nothing goes on working for somebody who is gone."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tagged import alive, bounded, commands, tagged_environment, until

from lmclib.processes import ChildProcesses
from lmclib.root import ROOT

# a child with a child in a session of its own that does not want to end, and one whose parent is gone
STUBBORN = textwrap.dedent("""
    import os, subprocess, sys, time
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    subprocess.Popen([sys.executable, "-c", deaf + "  # kernel"], start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        subprocess.Popen([sys.executable, "-c", deaf + "  # orphan"], start_new_session=True)
        os._exit(0)
    os.wait()
    time.sleep(600)
""")
# a shell that starts tests in the background has them ignore SIGINT, which whatever they start inherits
HEARS = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
ASKER = (
    HEARS
    + "import sys; from lmclib.processes import ChildProcesses\nwith ChildProcesses() as p: p.run([sys.executable, '-c', sys.argv[1]])"
)


def all_there(environment):
    there = " ".join(commands(environment))
    return "time.sleep(600)  # kernel" in there and "time.sleep(600)  # orphan" in there


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_what_a_process_started_ends_with_it(number):
    environment = tagged_environment()
    command = [sys.executable, "-c", ASKER, STUBBORN]
    with bounded(subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)) as asker:
        until(lambda: all_there(environment), 30, "everything is there")
        asker.send_signal(number)
        until(lambda: not alive(environment), 5, "all are gone")
    assert asker.wait() == -number


def test_what_a_command_leaves_behind_ends_with_it():
    environment = tagged_environment()
    with ChildProcesses() as processes:
        process = processes.start([sys.executable, "-c", STUBBORN], env=environment)
        until(lambda: all_there(environment), 20, "everything is there")
        (child,) = (one for one in alive(environment) if one.ppid() == process.pid and "os.fork()" in one.cmdline()[-1])
        child.kill()
        until(lambda: not alive(environment), 5, "all are gone")
        assert process.wait() == 128 + signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are Linux's")
def test_a_command_ends_with_its_guard():
    environment = tagged_environment()
    with ChildProcesses() as processes:
        guard = processes.start(["sleep", "600"], env=environment)
        until(lambda: "sleep 600" in commands(environment), 10, "it is there")
        guard.kill()
        until(lambda: not alive(environment), 5, "it is gone")


def test_an_exception_ends_what_was_started_and_nothing_new_begins():
    environment, processes = tagged_environment(), ChildProcesses()

    def interrupted():
        with processes:
            processes.start(["sleep", "600"], env=environment)
            until(lambda: "sleep 600" in commands(environment), 10, "it is there")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not alive(environment)
    with pytest.raises(RuntimeError, match="ended"):
        processes.start(["true"])


def test_a_wait_that_is_over_ends_the_command():
    environment = tagged_environment()
    with ChildProcesses() as processes:
        with pytest.raises(subprocess.TimeoutExpired):
            processes.run([sys.executable, "-c", STUBBORN], timeout=1, env=environment)
        assert not alive(environment)


def test_a_watch_that_raises_ends_the_command():
    environment, looks = tagged_environment(), []

    def watch():
        looks.append(1)
        if len(looks) > 3:
            raise LookupError

    with ChildProcesses() as processes:
        with pytest.raises(LookupError):
            processes.run([sys.executable, "-c", STUBBORN], watch=watch, env=environment)
        assert not alive(environment)
        talks = [sys.executable, "-c", "print('x' * 1_000_000)"]  # more than a pipe holds
        done = processes.run(talks, watch=lambda: None, capture_output=True, text=True)
    assert (done.returncode, len(done.stdout)) == (0, 1_000_001)


def test_output_and_status_come_through():
    command = [sys.executable, "-c", "import sys; print(input()); print('oh', file=sys.stderr); sys.exit(7)"]
    with ChildProcesses() as processes:
        read, write = os.pipe()
        os.write(write, b"said\n")
        done = processes.run(command, capture_output=True, text=True, stdin=read)
        missing = processes.run(["no-such-program"], capture_output=True, text=True)
    os.close(read)
    os.close(write)
    assert (done.returncode, done.stdout, done.stderr) == (7, "said\n", "oh\n")
    assert (missing.returncode, missing.stderr) == (127, "no-such-program: No such file or directory\n")


def test_a_guard_that_comes_too_late_starts_nothing_that_lasts(tmp_path):
    """Its owner can be gone before it begins to look."""
    from lmclib import processes

    gone = subprocess.Popen(["true"])
    gone.wait()
    environment = tagged_environment()
    command = [sys.executable, "-P", processes.__file__, str(gone.pid), "sleep", "600"]
    assert subprocess.run(command, env=environment, check=False).returncode == 128 + signal.SIGTERM
    assert not alive(environment)


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this system does not share out time by sessions")
def test_a_low_priority_is_that_of_the_session_too():
    """Else a campaign at the lowest priority takes as much of the machine as whatever else it does."""
    code = "\n".join(
        [
            "import os",
            "from lmclib.processes import ChildProcesses",
            "os.nice(7)",
            "with ChildProcesses() as processes:",
            "    print(processes.run(['cat', '/proc/self/autogroup'], capture_output=True, text=True).stdout)",
        ]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1:] == ["nice", "7"]


def test_who_leaves_waits_for_threads_runs_exit_handlers_and_has_said_all():
    code = (
        "import atexit, threading, time\n"
        "from lmclib.processes import leave\n"
        "atexit.register(print, 'handled')\n"
        "threading.Thread(target=lambda: (time.sleep(0.3), print('waited for'))).start()\n"
        "leave(3)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "waited for\nhandled\n", "")


def test_who_leaves_while_nobody_reads_any_more_says_nothing():
    code = "import sys; from lmclib.processes import leave; sys.stdin.read(); print('said'); leave(0)"
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}  # what is said last is
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=kept, **pipes) as process:
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0
