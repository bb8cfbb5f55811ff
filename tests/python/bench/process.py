"""A program from its start to its end: how long, how much memory, how much of the processor."""

import os
import pathlib
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass

from federation import need

#: How often memory is looked at. The kernel keeps the highest: only what it rose by in the last moment is missed.
LOOK_S = 0.02
TICKS = os.sysconf("SC_CLK_TCK")
#: Places of user and system time in proc_pid_stat(5), after the name in its brackets.
TIMES = slice(11, 13)


@dataclass(frozen=True)
class Ran:
    seconds: float
    cpu_s: float
    rss_mb: float
    out: str


def run(command, environment=None, folder=None):
    """Runs to its end, which has to be a good one."""
    words = [str(word) for word in command]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.perf_counter()
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, cwd=folder)
        highest, over = [0.0], threading.Event()
        looking = threading.Thread(target=look, args=(process.pid, highest, over), daemon=True)
        looking.start()
        try:
            # What the rusage says of memory is the bench's own, from before the exec, where that was more.
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        finally:
            seconds = time.perf_counter() - began
            over.set()
            looking.join()
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        need(process.returncode == 0, f"`{' '.join(words)}` ended with {process.returncode}:\n{err.read()[-3000:]}")
        return Ran(seconds, usage.ru_utime + usage.ru_stime, highest[0], out.read())


def look(pid, highest, over):
    while not over.wait(LOOK_S):
        highest[0] = max(highest[0], memory_mb(pid, "VmHWM"))


def memory_mb(pid, which):
    """In MB of 10^6 bytes; 0 where it has ended."""
    try:
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    kib = next((int(line.split()[1]) for line in lines if line.startswith(f"{which}:")), 0)
    return kib * 1024 / 1e6


def cpu_s(pid):
    """User and system time so far."""
    after_name = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(ticks) for ticks in after_name[TIMES]) / TICKS


def load():
    """What else the machine does: the load of the last minute."""
    return pathlib.Path("/proc/loadavg").read_text().split()[0]
