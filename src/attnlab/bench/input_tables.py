"""The input benchmark as tables, as CSV lines and as a Markdown page."""

import statistics
from collections.abc import Mapping, Sequence

from attnlab.bench.input_contest import Result
from attnlab.bench.input_races import AUGMENTED, CIFAR, CLIPS, PLAIN, STAGES, Goal

Races = Mapping[str, Sequence[Result]]

HEADINGS = {
    PLAIN: "no RandAugment",
    AUGMENTED: "rand-m9-mstd0.5-inc1",
    CIFAR: "CIFAR, 32 x 32",
    CLIPS: "8 of 43 frames",
}

COLUMNS = (
    *("race", "subject", "cpu_ms_min", "cpu_ms_median", "unit_over_this"),
    *("this_over_unit_in_rounds", "q1", "q3", "rounds", "measured", "bound"),
)


def figure(result: Result) -> str:
    """Return milliseconds, and how many times the unit's that is to the advantage."""
    return f"{result.best:.3g} ({1 / result.ratio:.2f}x)"


def table(title: str, races: Races) -> str:
    """Return one Markdown table over races that have the same contestants.

    Args:
        title: Heading of the first column.
        races: Results by race, the columns.
    """
    names = list(races)
    lines = [
        f"| {title} | {' | '.join(HEADINGS[name] for name in names)} |",
        f"| :--- |{' ---: |' * len(names)}",
    ]
    for row in zip(*races.values(), strict=True):
        entries = (figure(result) for result in row)
        lines.append(f"| {row[0].entry.label} | {' | '.join(entries)} |")
    return "\n".join(lines)


def stage_table(results: Sequence[Result]) -> str:
    """Return a Markdown table of the steps, the peers' beside ours."""
    best: dict[str, dict[bool, float]] = {}
    for result in results:
        best.setdefault(result.entry.label, {})[result.entry.ours] = result.best
    lines = ["| step, CPU ms per image | peers | attnlab |", "| :--- | ---: | ---: |"]
    for label, times in best.items():
        entries = (f"{times[ours]:.3g}" if ours in times else "" for ours in (False, True))
        lines.append(f"| {label} | {' | '.join(entries)} |")
    return "\n".join(lines)


def goal_table(goals: Sequence[Goal]) -> str:
    """Return what was asked for beside what was measured."""
    lines = ["| | number | asked | measured | |", "| :--- | :--- | ---: | ---: | :--- |"]
    for goal in goals:
        sign = "≥" if goal.least else "≤"
        verdict = "reached" if goal.reached else "**missed**"
        asked = f"{sign} {goal.bound:g}{goal.unit}"
        value = f"{goal.value:.3g}{goal.unit}"
        lines.append(f"| {goal.name} | {goal.about} | {asked} | {value} | {verdict} |")
    return "\n".join(lines)


def tables(races: Races) -> str:
    """Return a table of the image races and one of each other race."""
    images = {name: races[name] for name in (PLAIN, AUGMENTED) if name in races}
    blocks = [table("images, CPU ms each", images)] if images else []
    blocks += [stage_table(races[STAGES])] if STAGES in races else []
    titles = {CIFAR: "small images, CPU ms each", CLIPS: "clips, CPU ms each"}
    blocks += [table(title, {name: races[name]}) for name, title in titles.items() if name in races]
    return "\n\n".join(blocks)


def csv_lines(races: Races, goals: Sequence[Goal]) -> list[dict[str, object]]:
    """Return a line per contestant and one per goal."""
    lines: list[dict[str, object]] = []
    for race, results in races.items():
        for result in results:
            spread = result.in_rounds
            lines.append(
                {
                    "race": race,
                    "subject": result.entry.label,
                    "cpu_ms_min": round(result.best, 5),
                    "cpu_ms_median": round(statistics.median(result.samples), 5),
                    "unit_over_this": round(1 / result.ratio, 4),
                    "this_over_unit_in_rounds": round(spread.median, 4),
                    "q1": round(spread.low, 4),
                    "q3": round(spread.high, 4),
                    "rounds": spread.n,
                }
            )
    for goal in goals:
        lines.append(
            {
                "race": goal.name,
                "subject": goal.about,
                "measured": round(goal.value, 5),
                "bound": f"{'>=' if goal.least else '<='} {goal.bound:g}{goal.unit}",
            }
        )
    return [{column: line.get(column, "") for column in COLUMNS} for line in lines]


NOTE = (
    "CPU milliseconds per item of one process without workers, the least of all rounds; in "
    "brackets how many times faster than the first row, by the least of each. This project and its "
    "peers run in two processes on one core with one thread, in turn in every round. All decode, "
    "take a random-resized crop of 224 pixels with the antialiased bicubic filter, flip and "
    "collate 64 images. Floats are normalised; rows in bytes leave that to the device."
)


def page(header: Mapping[str, str], races: Races, goals: Sequence[Goal]) -> str:
    """Return the Markdown page."""
    facts = "\n".join(f"- **{name}**: {value}" for name, value in header.items())
    blocks = ["# Input pipeline", facts, NOTE, tables(races)]
    blocks += ["## Goals", goal_table(goals)] if goals else []
    return "\n\n".join(block for block in blocks if block) + "\n"
