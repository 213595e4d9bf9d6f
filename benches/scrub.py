"""Does a scrub read as fast as cat? Both sides at once, nothing in memory, in turn.

usage: scrub.py OSYNC DIR [FILES [BYTES_OF_A_FILE]]
"""

import os
import statistics
import subprocess
import sys
import time

TURNS = int(os.environ.get("TURNS", "7"))
SIDES = ("initiator", "target")
NOWHERE = subprocess.DEVNULL


def names(work):
    for side in SIDES:
        for at, _, files in os.walk(os.path.join(work, side)):
            if ".osync_workdir" not in at:
                yield from (os.path.join(at, name) for name in files)


def forget(work):
    """Takes what both sides hold out of the memory of the system."""
    for name in names(work):
        file = os.open(name, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def prepare(osync, work, files, size):
    for side in SIDES:
        os.makedirs(os.path.join(work, side))
    for number in range(files):
        directory = os.path.join(work, "initiator", f"dir{number % 20}")
        os.makedirs(directory, exist_ok=True)
        with open(os.path.join(directory, f"file{number}"), "wb") as file:
            file.write(os.urandom(size))
    conf = os.path.join(work, "task.conf")
    with open(conf, "w", encoding="utf-8") as file:
        file.write(
            f'INSTANCE_ID="bench"\nINITIATOR_SYNC_DIR="{work}/initiator"\n'
            f'TARGET_SYNC_DIR="{work}/target"\nLOGFILE="{work}/log"\n'
        )
    subprocess.run([osync, conf, "--silent"], check=True)
    time.sleep(3)  # what was touched a moment ago is not believed yet
    subprocess.run([osync, "scrub", conf], check=True, stdout=NOWHERE)
    os.sync()
    return conf


def timed(work, start):
    forget(work)
    began = time.monotonic()
    for child in start():
        assert child.wait() == 0
    return time.monotonic() - began


def cat(work):
    """One cat for each side, as a shell would start them."""
    sides = {side: [] for side in SIDES}
    for name in sorted(names(work)):
        sides[os.path.relpath(name, work).split(os.sep)[0]].append(name)
    return [subprocess.Popen(["cat", *files], stdout=NOWHERE) for files in sides.values()]


def main():
    osync, work = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
    files = int(sys.argv[3]) if len(sys.argv) > 3 else 2000
    size = int(sys.argv[4]) if len(sys.argv) > 4 else 1 << 20
    conf = prepare(osync, work, files, size)
    times = {"cat": [], "scrub": []}
    for _ in range(TURNS):
        times["cat"].append(timed(work, lambda: cat(work)))
        command = [osync, "scrub", conf]
        scrub = lambda: [subprocess.Popen(command, stdout=NOWHERE)]
        times["scrub"].append(timed(work, scrub))
    medians = {what: statistics.median(took) for what, took in times.items()}
    for what, took in times.items():
        print(f"{what}: {medians[what]:.3f} s ({min(took):.3f} to {max(took):.3f})")
    print(f"scrub / cat: {medians['scrub'] / medians['cat']:.3f}")


main()
