"""The VisualDL log of a run (`--visualdl`): one file, visualdl/vdlrecords.run.log in the run folder, that resumes.

VisualDL shows one file per folder, so a resumed run appends to its own, from which `trim` has dropped what will be
done again.
"""

import contextlib
import io
import math
from pathlib import Path

import numpy as np

from common.checkpoint import atomic
from common.errors import UserError, first_line

BINS = 30


def log_path(run_folder: Path) -> Path:
    """The log's file. VisualDL takes none without `vdlrecords` in its name."""
    return run_folder / "visualdl" / "vdlrecords.run.log"


def require() -> None:
    """Raises UserError if VisualDL cannot be imported."""
    try:
        import visualdl  # noqa: F401, PLC0415 - takes most of a second, for those who asked
    except ImportError:
        raise UserError('--visualdl needs VisualDL: pip install -e ".[log]", or leave the flag out') from None
    except Exception as problem:  # such as a protobuf that does not read its generated code
        raise UserError(f"--visualdl: VisualDL is installed but broken ({first_line(problem)})") from None


def open_log(run_folder: Path):
    """Opens the log to append to it and returns VisualDL's `LogWriter`."""
    from visualdl import LogWriter  # noqa: PLC0415

    path = log_path(run_folder)
    path.parent.mkdir(exist_ok=True)  # VisualDL would lose its first record
    with contextlib.redirect_stdout(io.StringIO()):  # it says that the file exists
        return LogWriter(logdir=str(path.parent), file_name=path.name)


def add(writer, step: int, scalars: dict[str, float], histograms: dict[str, np.ndarray]) -> None:
    """Logs the values of one record of stats.jsonl, and histograms of arrays of any shape.

    VisualDL's page cannot draw numbers that are not finite: they are left out. Its reader confuses a scalar with a
    histogram of the same name: histograms are called NAME_histogram.
    """
    for name, value in scalars.items():
        if math.isfinite(value):
            writer.add_scalar(name, value, step)
    for name, values in histograms.items():
        writer.add_histogram(f"{name}_histogram", values, step, buckets=BINS)
    writer.flush()


def trim(run_folder: Path, step: int) -> None:
    """Drops the records of steps after `step`, which will be done again, and a record that was cut short by a kill."""
    from visualdl.proto.record_pb2 import Record  # noqa: PLC0415

    path = log_path(run_folder)
    data, kept, start = path.read_bytes() if path.exists() else b"", [], 0
    while start + 8 <= len(data):  # 8 bytes with the length of a record, then the record
        end = start + 8 + int.from_bytes(data[start : start + 8], "little")
        if end > len(data):
            break
        if all(value.id <= step for value in Record.FromString(data[start + 8 : end]).values):
            kept.append(data[start:end])
        start = end
    if data:
        atomic.replace_whole(path, lambda temporary: temporary.write_bytes(b"".join(kept)))
