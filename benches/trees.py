#!/usr/bin/env python3
"""Makes trees like home directories, and changes them; the same ones every time.

    trees.py make DIR FILES       a new tree of FILES files in about FILES / 20 directories
    trees.py change A B TURN      in two equal trees, change 1 % of the files on each side
    trees.py times DIR TURN       give all regular files other times

Names, sizes, depths, modes and times come from a fixed seed. Sizes are those of home
directories with the long tail cut off (half the files below 1.5 KB, none above 256 KiB):
what is measured is the work per file, not the speed of the disk.
"""

import os
import random
import sys

FILES_A_DIRECTORY = 20
LINKS_A_FILE = 1 / 200
SHARE_CHANGED = 0.01
LONGEST = 256 * 1024

WORDS = (
    "notes report draft final letter invoice budget travel family house garden recipe music "
    "photo album summer winter project module parser client server index config backup test "
    "data table chart model lecture thesis chapter image icon cache session history profile "
    "release build script helper common utils README main setup Ünterlagen año 写真 old copy"
).split()

# kind of file: share, median bytes, spread, endings
KINDS = (
    (40, 900, 1.1, (".rs", ".py", ".c", ".h", ".js", ".css", ".html", ".txt", ".md")),
    (25, 600, 1.2, (".json", ".xml", ".conf", ".desktop", ".log", "")),
    (20, 2500, 1.3, (".o", ".pyc", ".svg", ".cache", ".sqlite")),
    (15, 12000, 1.2, (".jpg", ".png", ".pdf", ".odt", ".mp3", ".zip")),
)

NOISE = random.Random(7).randbytes(LONGEST * 2)


def name(rng):
    """A file name without its ending: words, dates, digests, as people and programs do."""
    form = rng.random()
    if form < 0.15:
        return "%032x" % rng.getrandbits(128)
    if form < 0.30:
        return "IMG_20%02d%02d%02d_%04d" % (
            rng.randrange(5, 25), rng.randrange(1, 13), rng.randrange(1, 29), rng.randrange(10000))
    joint = rng.choice((" ", "_", "-", "-", ""))
    return joint.join(rng.choices(WORDS, k=rng.randrange(1, 4)))


def directories(rng, count):
    """Paths of `count` directories; a new one goes below an old one, rarely very deep."""
    paths, depths, taken = [""], [0], set()
    while len(paths) <= count:
        # Older directories are the likelier to get one more.
        at = int(len(paths) * rng.random() ** 1.5)
        if depths[at] >= 11:
            continue
        hidden = "." if rng.random() < 0.08 else ""
        path = os.path.join(paths[at], hidden + name(rng)[:24].strip())
        if path in taken or path.endswith("/"):
            path += "-%d" % len(paths)
        taken.add(path)
        paths.append(path)
        depths.append(depths[at] + 1)
    return paths


def write(path, rng, size, number):
    """A file of `size` bytes that no other file equals."""
    at = rng.randrange(LONGEST)
    head = b"%d\n" % number
    with open(path, "wb") as out:
        out.write((head + NOISE[at:at + size])[:max(size, len(head))])


def set_time(path, rng):
    when = rng.randrange(1_300_000_000, 1_700_000_000) * 1_000_000_000 + rng.randrange(10 ** 9)
    os.utime(path, ns=(when, when), follow_symlinks=False)


def make(top, files):
    rng = random.Random(files)
    dirs = directories(rng, max(1, files // FILES_A_DIRECTORY))
    for path in dirs:
        os.makedirs(os.path.join(top, path), exist_ok=True)
    # A few directories hold very many files, most hold a handful.
    weights = [min(400, rng.paretovariate(1.3)) for _ in dirs]
    places = rng.choices(dirs, weights=weights, k=files)
    shares = [kind[0] for kind in KINDS]
    taken = set(dirs)
    for number, place in enumerate(places):
        _, median, spread, endings = rng.choices(KINDS, weights=shares)[0]
        path = os.path.join(place, name(rng) + rng.choice(endings))
        while path in taken:
            path = os.path.join(place, "%s %d" % (name(rng), number)) + rng.choice(endings)
        taken.add(path)
        full = os.path.join(top, path)
        if rng.random() < LINKS_A_FILE:
            os.symlink(name(rng), full)
        else:
            size = min(LONGEST, int(rng.lognormvariate(0, spread) * median))
            write(full, rng, size, number)
            os.chmod(full, rng.choices((0o644, 0o600, 0o755), weights=(80, 12, 8))[0])
        set_time(full, rng)
    for path in reversed(dirs):
        set_time(os.path.join(top, path), rng)


def regular_files(top):
    found = []
    for place, dirs, files in os.walk(top):
        if place == top and ".osync_workdir" in dirs:
            dirs.remove(".osync_workdir")
        found += (os.path.relpath(os.path.join(place, f), top) for f in files)
    return sorted(f for f in found if not os.path.islink(os.path.join(top, f)))


def change(sides, turn):
    """On each side other files: of a hundred 70 are edited, 15 are new, 10 go, 5 move."""
    rng = random.Random(turn)
    files = regular_files(sides[0])
    count = max(1, int(len(files) * SHARE_CHANGED))
    chosen = rng.sample(files, count * len(sides))
    for side, top in enumerate(sides):
        for number, path in enumerate(chosen[side * count:(side + 1) * count]):
            full = os.path.join(top, path)
            beside = os.path.join(os.path.dirname(full), "turn%d-%d-%d" % (turn, side, number))
            act = number % 20
            if act < 14:
                write(full, rng, min(LONGEST, os.path.getsize(full) + 100), number)
            elif act < 17:
                write(beside, rng, 1000, number)
            elif act < 19:
                os.unlink(full)
            else:
                os.rename(full, beside)


def other_times(top, turn):
    rng = random.Random(turn)
    for path in regular_files(top):
        set_time(os.path.join(top, path), rng)


def main(args):
    if len(args) == 3 and args[0] == "make":
        make(args[1], int(args[2]))
    elif len(args) == 3 and args[0] == "times":
        other_times(args[1], int(args[2]))
    elif len(args) == 4 and args[0] == "change":
        change((args[1], args[2]), int(args[3]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
