"""Results as JSON, as a Markdown table, and as plots."""

import datetime
import os
import platform
import statistics
from pathlib import Path

from benchmarks.rows import Curve
from common.runtime.environment import cpu_count
from common.runtime.strict_json import json_text

COLUMNS = [
    "row",
    "ours / peer",
    "range",
    "seconds, ours",
    "peer",
    "CPU s, ours",
    "peer",
    "faults, ours",
    "peer",
    "peak MB, ours",
    "peer",
]
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def machine(threads: int) -> dict:
    """What the ratios were measured on; the packages' versions come from the workers."""
    return {
        "cores": cpu_count(),
        "processor": processor(),
        "memory_gigabytes": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": platform.system(),
        "threads_of_each_side": threads,
        "allocator": "mmap and trim thresholds of 1 and 2 GB on both sides"
        + ("; GLIBC_TUNABLES " + os.environ["GLIBC_TUNABLES"] if "GLIBC_TUNABLES" in os.environ else ""),
        "mkl_debug_cpu_type": os.environ.get("MKL_DEBUG_CPU_TYPE"),
        "load_before": round(os.getloadavg()[0], 2),
        "date": datetime.date.today().isoformat(),
        "versions": {},
    }


def processor() -> str:
    """The model's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def write_json(path: Path, result: dict) -> None:
    """Replaces the file; called after every row, so that a run that is cut short leaves what it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json_text(result, indent=1) + "\n")
    temporary.replace(path)


# ---- tables


def table_row(row: dict) -> str:
    """One measured row in Markdown."""
    cells = [row["name"], "–", "–"]
    if row["peer"]:
        cells[1:] = [f"**{row['ratio_median']:.2f}**", f"{row['ratio_min']:.2f} to {row['ratio_max']:.2f}"]
    figures = zip(_figures(row["ours"]), _figures(row["peer"]), strict=True)
    return f"| {' | '.join([*cells, *(text for both in figures for text in both)])} |"


def _figures(side: dict | None) -> list[str]:
    """Time, time of the processor, page faults and memory of one side; dashes where there is none."""
    if not side:
        return ["–"] * 4
    times = short(side["seconds"]), short(side["user_seconds"] + side["system_seconds"])
    return [*times, f"{side['minor_faults']:,.0f}", f"{side['peak_megabytes']:,.0f}"]


def short(seconds: float) -> str:
    """Three digits that count, without an exponent."""
    decimals = 2 + (seconds < 1) + (seconds < 0.1)
    return f"{seconds:.{decimals}f}"


def markdown(result: dict, plots: dict[str, Path], page: Path) -> str:
    """The whole result as a page: machine, table, notes, curves.

    Args:
        result: as it goes to the JSON file.
        plots: name of a curve -> its image.
        page: the file that the page will be, from which it links the images.
    """
    about = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [
        f"{about['cores']} cores ({about['processor']}), {about['memory_gigabytes']} GB, {about['system']}; "
        f"{versions}. Threads of each side: {about['threads_of_each_side']}. Allocator: {about['allocator']}. "
        f"Load before: {about['load_before']}. {about['date']}.",
        "",
        "Times are of one repetition, medians of the rounds. A ratio is the median of those of paired rounds; below 1 "
        "ours is faster. CPU time is of all threads, user and system. The peak is the process's, with its framework.",
    ]
    if result["rows"]:
        lines += ["", HEAD, *map(table_row, result["rows"]), ""]
    for row in result["rows"]:
        about_it = f"{row['rounds']} rounds of {row['repeats']}"
        if row["peer"]:
            about_it += f"; the sides differ by {row['difference']:.0e}"
        lines.append(f"* {row['name']}: {row['note']}. {about_it}.")
    for curve in result["curves"]:
        lines += ["", f"{curve['name']}: {curve['note']}, by {curve['setting']}", "", HEAD]
        lines += [table_row({**point, "name": f"{point['at']:,}"}) for point in curve["points"]]
        if curve["name"] in plots:
            image = Path(os.path.relpath(plots[curve["name"]], page.parent)).as_posix()
            lines += ["", f"![{curve['name']}]({image})"]
    for failure in result["failures"]:
        lines += ["", f"not measured: {failure}"]
    return "\n".join(lines) + "\n"


# ---- plots


def plot(curve: Curve, points: list[dict], path: Path) -> Path:
    """Time and peak memory against the growing setting, both sides, with the range of the rounds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    figure, (time, memory) = pyplot.subplots(1, 2, figsize=(9, 3.6))
    for side, label, colour in (("ours", "ours", "tab:blue"), ("peer", curve.peer, "tab:orange")):
        at = [point["at"] for point in points]
        each = [
            [s / (x if curve.per_value else 1) for s in point[side]["seconds_each_round"]]
            for x, point in zip(at, points, strict=True)
        ]
        time.plot(at, [statistics.median(values) for values in each], "o-", label=label, color=colour)
        time.fill_between(
            at, [min(values) for values in each], [max(values) for values in each], color=colour, alpha=0.2
        )
        memory.plot(at, [point[side]["peak_megabytes"] for point in points], "o-", label=label, color=colour)
    time.set_ylabel(f"seconds per {curve.axis.split()[0].rstrip('s')}" if curve.per_value else "seconds")
    time.set_yscale("log")
    lowest, highest = time.get_ylim()
    wide = ticker.LogLocator(subs=(1, 2, 5))
    time.yaxis.set_major_locator(wide if highest > 20 * lowest else ticker.MaxNLocator(6))
    time.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    time.yaxis.set_minor_formatter(ticker.NullFormatter())
    time.tick_params(which="both", labelsize=8)
    memory.set_ylim(0, 1.05 * memory.get_ylim()[1])
    memory.set_ylabel("peak of the process, MB")
    for axes in (time, memory):
        axes.set_xscale("log", base=2 if curve.values[-1] <= 1024 else 10)
        axes.set_xticks(curve.values, [f"{value:,}" for value in curve.values])
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.set_xlabel(curve.axis)
        axes.grid(alpha=0.3, which="both")
    time.legend()
    figure.suptitle(curve.row.note, fontsize=10)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return path
