"""The processes that work in a folder."""

import subprocess


def running(folder):
    """List the processes that work in a folder."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    pids = [line.split(None, 1) for line in listed.splitlines()[1:]]
    inside = subprocess.run(
        ["sh", "-c", "ls -l /proc/[0-9]*/cwd 2>/dev/null"], capture_output=True, text=True, check=False
    ).stdout
    here = {line.split("/proc/")[1].split("/")[0] for line in inside.splitlines() if line.endswith(f"-> {folder}")}
    return {pid: args for pid, args in pids if pid in here}
