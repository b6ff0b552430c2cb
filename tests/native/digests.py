"""What a program prints, run in a process of its own: on one core, or with other settings."""

import os
import subprocess
import sys


def printed(program, cores=None, **environment):
    """The lines that `program` prints; with `cores=1` on a single core, by a program of Linux."""
    limit = ["taskset", "-c", str(min(os.sched_getaffinity(0)))] if cores == 1 else []
    command = [*limit, sys.executable, "-c", program]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
