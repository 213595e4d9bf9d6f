#!/usr/bin/env python3
"""Turns what measure.py has appended into a table (Markdown) or a plot (SVG).

    report.py table ROWS    a line a case, number of files and program: medians
    report.py plot ROWS     time by number of files, both axes logarithmic
"""

import math
import sys
from statistics import median
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 440, 70, 130, 20, 50
COLOURS = ("#1b6ca8", "#c0392b", "#2e8b57", "#8e5ea2", "#b8860b", "#555555")


def read(path):
    """(case, files, program) to rows of (wall, user + system, peak KiB)."""
    found = {}
    with open(path, encoding="ascii") as rows:
        for row in rows:
            case, files, program, _, wall, user, system, peak = row.rstrip("\n").split("\t")
            numbers = (float(wall), float(user) + float(system), int(peak))
            found.setdefault((case, int(files), program), []).append(numbers)
    return found


def medians(found):
    return {key: tuple(median(column) for column in zip(*rows)) for key, rows in found.items()}


def table(found):
    middle = medians(found)
    print("| case | files | program | turns | time, s | quickest, s | CPU, s | peak, MiB | osync / it: time | CPU |")
    print("|---|---:|---|---:|---:|---:|---:|---:|---:|---:|")
    for key, (wall, cpu, peak) in middle.items():
        case, files, program = key
        ours = middle.get((case, files, "osync"))
        ratios = "|"
        if program != "osync" and ours and wall and cpu:
            ratios = "%.2f | %.2f" % (ours[0] / wall, ours[1] / cpu)
        quickest = min(row[0] for row in found[key])
        print("| %s | %s | %s | %d | %.3f | %.3f | %.3f | %.1f | %s |" % (
            case, "{:,}".format(files), program, len(found[key]), wall, quickest, cpu,
            peak / 1024, ratios))


def plot(found):
    lines = {}
    for (case, files, program), (wall, _, _) in medians(found).items():
        if files > 0 and wall > 0:
            lines.setdefault("%s, %s" % (program, case), []).append((files, wall))
    lines = {what: sorted(points) for what, points in lines.items() if len(points) > 1}
    if not lines:
        sys.exit("nothing was measured for more than one number of files")
    points = [point for line in lines.values() for point in line]
    low_x, high_x = (f(math.log10(x) for x, _ in points) for f in (min, max))
    low_y, high_y = (math.floor(min(math.log10(y) for _, y in points)),
                     math.ceil(max(math.log10(y) for _, y in points)))

    def at(x, y):
        return (LEFT + (math.log10(x) - low_x) / (high_x - low_x) * (WIDTH - LEFT - RIGHT),
                HEIGHT - BOTTOM - (math.log10(y) - low_y) / (high_y - low_y) * (HEIGHT - TOP - BOTTOM))

    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" '
           'font-family="sans-serif" font-size="12">' % (WIDTH, HEIGHT),
           '<rect width="100%" height="100%" fill="white"/>']

    def text(x, y, what, anchor="start", colour="black"):
        out.append('<text x="%.1f" y="%.1f" text-anchor="%s" fill="%s">%s</text>'
                   % (x, y, anchor, colour, escape(what)))

    def line(x1, y1, x2, y2):
        out.append('<line x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f" stroke="#ddd"/>' % (x1, y1, x2, y2))

    for power in range(low_y, high_y + 1):
        _, y = at(points[0][0], 10.0 ** power)
        line(LEFT, y, WIDTH - RIGHT, y)
        text(LEFT - 8, y + 4, "%g s" % 10.0 ** power, "end")
    for files in sorted({x for x, _ in points}):
        x, _ = at(files, 10.0 ** low_y)
        line(x, TOP, x, HEIGHT - BOTTOM)
        text(x, HEIGHT - BOTTOM + 18, "{:,}".format(files), "middle")
    text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "files in each replica", "middle")
    labels = []
    for (what, curve), colour in zip(sorted(lines.items()), COLOURS * len(lines)):
        places = [at(x, y) for x, y in curve]
        out.append('<polyline fill="none" stroke="%s" stroke-width="2" points="%s"/>'
                   % (colour, " ".join("%.1f,%.1f" % place for place in places)))
        out += ['<circle cx="%.1f" cy="%.1f" r="3" fill="%s"/>' % (x, y, colour) for x, y in places]
        labels.append((places[-1][1], places[-1][0], what, colour))
    free = TOP
    for y, x, what, colour in sorted(labels):
        free = max(y, free)
        text(x + 8, free + 4, what, colour=colour)
        free += 14
    out.append("</svg>")
    print("\n".join(out))


def main(args):
    if len(args) != 2 or args[0] not in ("table", "plot"):
        sys.exit(__doc__)
    found = read(args[1])
    table(found) if args[0] == "table" else plot(found)


if __name__ == "__main__":
    main(sys.argv[1:])
