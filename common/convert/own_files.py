"""A `.pdparams` of ours on its way back to a weights file."""

from pathlib import Path

from safetensors import SafetensorError

from common.checkpoint.paddle_files import NOTE, SUFFIX
from common.checkpoint.weights import read_weights, save_tensors
from common.errors import UserError
from common.runtime.outputs import check_output


def is_own(given: Path) -> bool:
    """Whether what is to be converted is a `.pdparams` that `export --format pdparams` wrote, or the folder with it."""
    return (given / NOTE).is_file() or (given.suffix.lower() == SUFFIX and given.with_name(NOTE).is_file())


def rewrite_own(published: Path, output: Path, paper: str) -> Path:
    """Writes the networks of `.pdparams` files of ours as a weights file, with the metadata that lies beside them.

    Raises:
        UserError: a file is corrupt or of another paper, or the output cannot be written.
    """
    check_output(output, [".safetensors"], [published])
    tensors, metadata = read_weights(published)
    if metadata.get("paper") != paper:
        raise UserError(f"{published} holds weights of {metadata.get('paper', 'unknown')}, not of {paper}")
    print(f"recognised: {paper}, exported by this suite, {len(tensors)} tensors")
    try:
        save_tensors(output, tensors, metadata)
    except (OSError, SafetensorError) as problem:
        raise UserError(f"cannot write {output}: {getattr(problem, 'strerror', None) or problem}") from None
    print(f"written: {output}")
    return output
