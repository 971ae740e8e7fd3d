"""Look into an artifact: python -m golf_fast.compress inspect ARTIFACT"""

from pathlib import Path
from typing import Annotated

import tyro

from golf_fast.compress.container import VERSION, read_artifact
from golf_fast.compress.inspection import overhead, shares
from golf_fast.errors import exit_with
from golf_fast.report import table


def inspect(artifact: Annotated[Path, tyro.conf.Positional]) -> None:
    """Print what an artifact spends its bytes on.

    Args:
        artifact: A file that `python -m golf_fast.train` left behind.
    """
    held = read_artifact(artifact)
    rows = []
    for share in shares(held):
        shape = "x".join(map(str, share.shape)) or "scalar"
        form = share.dtype if share.kind == "raw" else share.kind
        numbers = [f"{share.bits:.3f}", f"{share.entropy:.3f}", f"{share.size:,.0f}", f"{share.size / held.size:.2%}"]
        rows.append([share.name, shape, form, "+".join(share.codecs), *numbers])
    extra = overhead(held.header, held.size)
    rows.append(["header and checksum", "", "", "zstd", "", "", f"{extra:,}", f"{extra / held.size:.2%}"])
    print(f"{artifact}: format {VERSION}, {held.size:,} bytes, {sum(s.elements for s in shares(held)):,} elements")
    print(table(["tensor", "shape", "form", "codec", "bits", "entropy", "bytes", "share"], rows))
    print("bits and entropy: per element, scales included; entropy: of independent bytes (order 0)")


def main() -> None:
    """Run the subcommand that the command line names."""
    tyro.extras.subcommand_cli_from_dict({"inspect": inspect}, prog="python -m golf_fast.compress", description=__doc__)


if __name__ == "__main__":
    exit_with(main)
