"""Small tables to learn from."""

import csv
import math
import random


def write_csv(path, header, rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def animals(count=80, seed=1):
    """A class to be told from numbers and text, with missing cells; header and rows."""
    draw = random.Random(seed)
    rows = []
    for i in range(count):
        kind = ("ant", "bee", "cat")[i % 3]
        size = {"ant": 1, "bee": 2, "cat": 30}[kind] * draw.uniform(0.8, 1.2)
        wings = {"ant": "no", "bee": "yes", "cat": "no"}[kind]
        rows.append([f"{size:.4f}" if i % 7 else "", wings if i % 11 else "", i + 1, kind])
    return ["size", "wings", "id", "kind"], rows


def prices(count=80, seed=2):
    """A number that is linear in two others."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        a, b = draw.gauss(5, 2), draw.gauss(-1, 3)
        rows.append([f"{a:.6f}", f"{b:.6f}", f"{300 * a - 40 * b + 1000 + math.sin(a):.6f}"])
    return ["a", "b", "price"], rows
