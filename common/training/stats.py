"""Reads and trims stats.jsonl, the records of a run. What is read from it is checked like input."""

import json
from pathlib import Path

from common.checkpoint import atomic
from common.runtime.strict_json import WHY, json_text

MAX_STEP = 10**15
MAX_INTEGER = 2**1023  # larger ones are no floating-point numbers


def read_stats(folder: Path) -> list[dict]:
    """The records of stats.jsonl: steps done and values. What is no record is left out, see `trim_stats`."""
    return _read_stats(folder)[0]


def _read_stats(folder: Path) -> tuple[list[dict], int]:
    try:
        lines = (folder / "stats.jsonl").read_text(errors="replace").splitlines()
    except OSError:
        return [], 0
    records = [record for record in map(_parse_record, lines) if record is not None]
    return records, len(lines) - len(records)


def _parse_record(line: str) -> dict | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or type(record.get("step")) is not int or not 0 <= record["step"] <= MAX_STEP:
        return None
    numbers = [value for name, value in record.items() if name != WHY]
    return json.loads(json_text(record)) if all(map(_may_be_logged, numbers)) else None


def _may_be_logged(value) -> bool:
    return value is None or type(value) is float or (type(value) is int and abs(value) < MAX_INTEGER)


def trim_stats(folder: Path, step: int) -> None:
    """Drops the records of steps that will be done again, and lines that are no records: these are counted aloud."""
    records, dropped = _read_stats(folder)
    if dropped:
        lines = "1 line that is no record was" if dropped == 1 else f"{dropped} lines that are no records were"
        print(f"note: {lines} dropped from {folder / 'stats.jsonl'}")
    kept = "".join(json_text(record) + "\n" for record in records if record["step"] <= step)
    atomic.replace_whole(folder / "stats.jsonl", lambda temporary: temporary.write_text(kept))
