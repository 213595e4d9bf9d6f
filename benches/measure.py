#!/usr/bin/env python3
"""Runs osync beside what people would use instead, on the same trees in one go.

    measure.py OSYNC WORK OUT CASE…    appends what was measured to OUT (tab-separated)

WORK is an empty or absent directory with room for the trees, best on the disk that the
answer is wanted for. Cases:

    start                 two empty replicas, again and again
    unchanged=FILES       nothing changed: osync, find over both trees, unison
    first=FILES           first run into an empty target: osync, rsync -a, unison
    changed=FILES         1 % changed on both sides: osync, unison
    contact=FILES         first contact of equal contents with other times, which must find no
                          conflict and keep nothing in backup/: osync, cat of one side
    osync=FILES           osync alone, first run and nothing changed (for very many files)

With COLD=1 in the environment (root only), nothing is in the kernel's memory before each turn of
`contact`. Turns go round the programs, so that what disturbs the machine disturbs all of them alike.
Each row: case, files, program, turn, wall seconds, user seconds, system seconds, peak KiB
(of the largest process). The trees stay in WORK for the next call.
"""

import os
import shutil
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TURNS = int(os.environ.get("TURNS", "7"))
TURNS_OF_COPIES = int(os.environ.get("TURNS_OF_COPIES", "3"))
PRINTF = r"%y %s %T@ %C@ %m %U %G %i %p\n"


def timed(argv, env=None, accept=(0,)):
    """Runs a program to its end: wall, user and system seconds, peak memory in KiB."""
    began = time.monotonic()
    child = subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE)
    said = child.stderr.read()
    _, status, used = os.wait4(child.pid, 0)
    wall = time.monotonic() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode not in accept:
        sys.exit("%s ended with %s: %s" % (argv, child.returncode, said.decode(errors="replace")))
    return wall, used.ru_utime, used.ru_stime, used.ru_maxrss


class Bench:
    def __init__(self, osync, work, out):
        self.binary, self.work, self.out = osync, os.path.abspath(work), out
        os.makedirs(self.work, exist_ok=True)
        self.have_unison = shutil.which("unison") is not None

    def path(self, *parts):
        return os.path.join(self.work, *parts)

    def row(self, case, files, program, turn, numbers):
        wall, user, system, peak = numbers
        with open(self.out, "a", encoding="ascii") as out:
            out.write("%s\t%d\t%s\t%d\t%.4f\t%.4f\t%.4f\t%d\n"
                      % (case, files, program, turn, wall, user, system, peak))

    # the programs

    def osync(self, a, b):
        # The log goes to the work directory; a run ends with 0 only if all went well.
        env = dict(os.environ, LOGFILE=self.path("osync.log"))
        return timed([self.binary, "--initiator=" + a, "--target=" + b, "--silent"], env)

    def unison(self, a, b):
        env = dict(os.environ, UNISON=self.path("unison"))
        argv = ["unison", a, b, "-ui", "text", "-batch", "-auto", "-silent", "-times", "-owner",
                "-group", "-prefer", "newer", "-confirmbigdel=false", "-ignore",
                "Name .osync_workdir"]
        return timed(argv, env)

    def find(self, a, b):
        return timed(["find", a, b, "-printf", PRINTF])

    def rsync(self, a, b):
        return timed(["rsync", "-a", a + "/", b + "/"])

    def cat(self, a, _):
        return timed(["find", a, "-name", ".osync_workdir", "-prune", "-o", "-type", "f", "-exec",
                      "cat", "--", "{}", "+"])

    # trees

    def tree(self, files):
        """The tree of that many files as it was made, never to be changed."""
        top = self.path("tree-%d" % files)
        if not os.path.isdir(top):
            subprocess.run([sys.executable, os.path.join(HERE, "trees.py"), "make", top + ".new",
                            str(files)], check=True)
            os.rename(top + ".new", top)
        return top

    def copy(self, tree, where):
        self.remove(where)
        subprocess.run(["cp", "-a", tree, where], check=True)
        return where

    def remove(self, where):
        subprocess.run(["rm", "-rf", where], check=True)

    def forget(self):
        """No state of unison from other trees of the same names."""
        self.remove(self.path("unison"))

    def pair(self, files, program):
        """Two equal trees that a program has synchronised once."""
        a, b = (self.path("%s-%s-%d" % (program, side, files)) for side in "ab")
        self.copy(self.tree(files), a)
        self.copy(self.tree(files), b)
        getattr(self, program)(a, b)
        return a, b

    # the cases

    def start(self, _):
        a, b = self.path("empty-a"), self.path("empty-b")
        for top in (a, b):
            self.remove(top)
            os.makedirs(top)
        self.osync(a, b)
        for turn in range(TURNS * 3):
            self.row("start", 0, "osync", turn, self.osync(a, b))

    def unchanged(self, files):
        programs = ["osync", "find"] + ["unison"] * self.have_unison
        self.forget()
        a, b = self.pair(files, "osync")
        if self.have_unison:
            self.unison(a, b)
        os.sync()
        for turn in range(TURNS):
            for program in programs:
                self.row("unchanged", files, program, turn, getattr(self, program)(a, b))
        self.remove(a)
        self.remove(b)

    def first(self, files):
        programs = ["osync", "rsync"] + ["unison"] * self.have_unison
        a, b = self.path("first-a"), self.path("first-b")
        self.copy(self.tree(files), a)
        for turn in range(TURNS_OF_COPIES):
            for program in programs:
                self.remove(b)
                self.remove(os.path.join(a, ".osync_workdir"))
                self.forget()
                os.makedirs(b)
                os.sync()
                self.row("first", files, program, turn, getattr(self, program)(a, b))
        self.remove(a)
        self.remove(b)

    def changed(self, files):
        programs = ["osync"] + ["unison"] * self.have_unison
        self.forget()
        pairs = {program: self.pair(files, program) for program in programs}
        for turn in range(TURNS):
            for program, (a, b) in pairs.items():
                subprocess.run([sys.executable, os.path.join(HERE, "trees.py"), "change", a, b,
                                str(turn)], check=True)
                os.sync()
                self.row("changed", files, program, turn, getattr(self, program)(a, b))
                self.must_be_equal(a, b)
        for pair in pairs.values():
            for top in pair:
                self.remove(top)

    def contact(self, files):
        a, b = self.path("contact-a"), self.path("contact-b")
        for top in (a, b):
            self.copy(self.tree(files), top)
        for turn in range(TURNS):
            for top in (a, b):
                self.remove(os.path.join(top, ".osync_workdir"))
            subprocess.run([sys.executable, os.path.join(HERE, "trees.py"), "times", b, str(turn)],
                           check=True)
            for program in ("cat", "osync"):
                self.settle()
                self.row("contact", files, program, turn, getattr(self, program)(a, b))
            self.must_be_equal(a, b)
            for top in (a, b):
                kept = os.path.join(top, ".osync_workdir", "backup")
                if os.path.exists(kept):
                    sys.exit("something came to " + kept)
        for top in (a, b):
            self.remove(top)

    def settle(self):
        """Nothing is left to be written, and where asked for nothing is in memory."""
        os.sync()
        if os.environ.get("COLD"):
            with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as caches:
                caches.write("3")

    def must_be_equal(self, a, b):
        argv = ["rsync", "-a", "--dry-run", "--itemize-changes", "--delete", "--omit-dir-times",
                "--exclude=/.osync_workdir", a + "/", b + "/"]
        differs = subprocess.run(argv, check=True, capture_output=True).stdout
        if differs:
            sys.exit("%s and %s differ after a run:\n%s" % (a, b, differs.decode(errors="replace")))

    def osync_alone(self, files):
        a, b = self.tree(files), self.path("alone-b")
        self.remove(b)
        self.remove(os.path.join(a, ".osync_workdir"))
        os.makedirs(b)
        os.sync()
        self.row("first", files, "osync", 0, self.osync(a, b))
        os.sync()
        for turn in range(TURNS_OF_COPIES):
            self.row("unchanged", files, "osync", turn, self.osync(a, b))
            self.row("unchanged", files, "find", turn, self.find(a, b))
        self.remove(b)
        self.remove(os.path.join(a, ".osync_workdir"))


CASES = {
    "start": Bench.start,
    "unchanged": Bench.unchanged,
    "first": Bench.first,
    "changed": Bench.changed,
    "contact": Bench.contact,
    "osync": Bench.osync_alone,
}


def main(args):
    if len(args) < 4 or any(case.partition("=")[0] not in CASES for case in args[3:]):
        sys.exit(__doc__)
    bench = Bench(os.path.abspath(args[0]), args[1], args[2])
    for case in args[3:]:
        name, _, files = case.partition("=")
        CASES[name](bench, int(files or 0))


if __name__ == "__main__":
    main(sys.argv[1:])
