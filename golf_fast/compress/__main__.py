"""Look into an artifact, write it under another codec, or make one of a model that a published script wrote."""

import math
from pathlib import Path
from typing import Annotated

import safetensors.torch
import torch
import tyro

from golf_fast import code_size
from golf_fast.arguments import call
from golf_fast.checks import for_file
from golf_fast.compress import Quantizer, prune
from golf_fast.compress.artifact.codecs import Malformed
from golf_fast.compress.artifact.container import VERSION, read_artifact, write_artifact
from golf_fast.compress.artifact.inspection import forms, groups, overhead, shares
from golf_fast.compress.published.deduce import Unseen, deduce, notes, with_smear
from golf_fast.compress.published.layouts import read_published
from golf_fast.compress.recode import recode, refuse_to_replace
from golf_fast.config import CodecName, ModelConfig
from golf_fast.console import exit_with, say
from golf_fast.distributed import Ranks
from golf_fast.errors import InputError
from golf_fast.files import read_bytes
from golf_fast.model import upstream
from golf_fast.model.parameters import quantization_groups
from golf_fast.report import artifact_plot, table
from golf_fast.runs import FinishedRun


def inspect(artifact: Annotated[Path, tyro.conf.Positional], plot: Path | None = None) -> None:
    """Print what an artifact spends its bytes on.

    Args:
        artifact: A file that `python -m golf_fast.train` left behind.
        plot: An .svg or .png file to draw the same shares into.
    """
    if plot is not None:
        artifact_plot.check_suffix(plot)
    held = read_artifact(artifact)
    found, extra = shares(held), overhead(held.header, held.size)
    rows = []
    for share in found:
        shape = "x".join(map(str, share.shape)) or "scalar"
        numbers = [f"{share.bits:.3f}", f"{share.entropy:.3f}", f"{share.size:,.0f}", f"{share.size / held.size:.2%}"]
        rows.append([share.name, shape, share.form, "+".join(share.codecs), *numbers])
    rows.append(["header and checksum", "", "", "zstd", "", "", f"{extra:,}", f"{extra / held.size:.2%}"])
    say(f"{artifact}: format {VERSION}, {held.size:,} bytes, {sum(s.elements for s in found):,} elements")
    say(table(["tensor", "shape", "form", "codec", "bits", "entropy", "bytes", "share"], rows))
    say("bits and entropy: per element, scales included; entropy: of independent bytes (order 0)")
    if plot is not None:
        artifact_plot.draw(groups(found), extra, f"{artifact.name}: {held.size:,} bytes", plot)
        say(f"{plot}: drawn")


def import_published(
    file: Annotated[Path, tyro.conf.Positional],
    output: Path,
    unseen: Annotated[Unseen, tyro.conf.arg(name="")],
) -> None:
    """Write the model in a published final_model.int8.ptz as an artifact, with the same integers and scales.

    The configuration of the model is deduced from the tensors. No file says which function its script computed: the
    artifact scores the same if it was that of docs/seed.md, and a script may differ from it without another tensor.

    Args:
        file: A file that a record script wrote: int8 or mixed layout, zstd or zlib.
        output: A new file for the artifact, which is written under the codec rans.
        unseen: The settings of the script that no tensor tells.
    """
    refuse_to_replace(output)
    published = read_published(file)
    try:
        config = deduce(published.tensors, unseen)
        tensors = with_smear(published.tensors)
        upstream.check(config, {name: stored.shape for name, stored in tensors.items()})
    except (InputError, Malformed) as error:
        raise InputError(f"{file}: {error}") from error
    made = {"imported": f"published, layout {published.layout}"}
    size = write_artifact(output, tensors, for_file(config), notes=made)
    say(f"{file}: layout {published.layout}, {published.compressor}, {published.size:,} bytes")
    say(table(["form", "tensors", "elements"], forms(published.tensors)))
    for note in notes(published):
        say(note)
    say(f"{output}: {size:,} bytes, rans, {size / published.size:.2%} of the file")


def recode_artifact(artifact: Annotated[Path, tyro.conf.Positional], codec: CodecName, output: Path) -> None:
    """Write the same tensors, bit for bit, under another codec.

    Args:
        artifact: A file that `python -m golf_fast.train` left behind.
        codec: Codec of the quantized integers.
        output: A new file for the artifact; nothing may be there yet.
    """
    before, after = recode(artifact, codec, output)
    say(f"{artifact}: {before:,} bytes")
    say(f"{output}: {after:,} bytes, {codec}, {after / before:.2%} of it")


def make(checkpoint: Annotated[Path, tyro.conf.Positional], output: Path | None = None) -> None:
    """Make an artifact of a run's checkpoint, as for a run that ended after its training.

    The settings are the run's, but for what reads training tokens: those matrices are quantized by the weights
    only.

    Args:
        checkpoint: The directory of a run, or checkpoint/weights.safetensors in it.
        output: The artifact, a new file; by default the run's artifact.golf.
    """
    folder = checkpoint if checkpoint.is_dir() else checkpoint.absolute().parent.parent
    run = FinishedRun(folder)
    if not run.paths.config.exists():
        weights = run.paths.weights.relative_to(folder)
        raise InputError(f"{checkpoint}: is of no run; name the directory of one, or {weights} in it")
    weights, config = run.paths.weights if checkpoint.is_dir() else checkpoint, run.config
    output = output or run.paths.artifact
    refuse_to_replace(output)
    state_dict = read_checkpoint(weights, config.model)
    settings = config.compress.uncalibrated()
    if settings != config.compress:
        say(
            f"quantizer {config.compress.quantizer} reads training tokens: {settings.quantizer} is used, which does not"
        )
    code_bytes = run.result().code_bytes if run.paths.result.exists() else code_size.code(run.config).size
    model, groups = for_file(config.model), quantization_groups(config.model)
    quantizer = Quantizer(prune(state_dict, settings), model, code_bytes, Ranks.single(), say, groups)
    try:
        done = quantizer.in_time(settings, lambda check: {}, math.inf)
    except InputError as error:
        raise InputError(f"{weights}: {error}") from error
    size = write_artifact(output, done.tensors, model, **done.config.coding())
    say(f"{output}: {size:,} bytes, {done.config.codec}")


def read_checkpoint(path: Path, config: ModelConfig) -> dict[str, torch.Tensor]:
    """The weights in a run's checkpoint, float32 by public name.

    Raises:
        InputError: the file cannot be read, is no safetensors file, or does not hold the parameters of such a model.
    """
    content = read_bytes(path, "the checkpoint of a run is needed")
    try:
        weights = safetensors.torch.load(content)
        upstream.check(config, {name: tuple(tensor.shape) for name, tensor in weights.items()})
    except (safetensors.SafetensorError, InputError, ValueError, KeyError) as error:
        raise InputError(f"{path}: is not the checkpoint of this run's model ({error})") from error
    for name, tensor in weights.items():
        if tensor.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
            raise InputError(f"{path}: {name} is {tensor.dtype}; a checkpoint has float32, float64 or 16-bit floats")
        if not bool(tensor.float().isfinite().all()):
            raise InputError(f"{path}: {name} is not all finite numbers; nothing can be made of it")
    return {name: tensor.float() for name, tensor in weights.items()}


def main() -> None:
    """Run the subcommand that the command line names."""
    call(
        {"inspect": inspect, "make": make, "import": import_published, "recode": recode_artifact},
        "python -m golf_fast.compress",
        __doc__,
    )


if __name__ == "__main__":
    exit_with(main)
