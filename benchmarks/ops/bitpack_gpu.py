"""bitpack on a GPU: 64 MiB unpacked, and the matrices of the seed, against a device copy of as many bytes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch

from benchmarks.ops import peers
from benchmarks.ops.registry import Case
from golf_fast.ops.bitpack import WIDTHS, native, planes_size, reference

DEVICE = "cuda"
UNPACKED_BYTES = 64 << 20
"""Size of the int8, bf16 or float32 side of a single matrix, in bytes: more than the L2 cache holds."""
COLS = 512
POISON = 0xAA
"""Byte that outputs are filled with before a gate looks at them; none is right when full of it."""
TORCHAO = "torchao.prototype.dtypes.uintx.bitpacking"
SCALE_BYTES = 2

Tensors = tuple[torch.Tensor, ...]
Run = Callable[[], Sequence[Tensors]]
"""Does the work once; returns the outputs for each matrix."""
Gate = Callable[[], str | None]


class Matrix(NamedTuple):
    """The shape of a matrix, and the width of its integers in bits."""

    rows: int
    cols: int
    bits: int


@dataclass(frozen=True)
class Work:
    """One of the four functions.

    Attributes:
        title: title of a case, a format string with the fields `packed` and `unpacked`.
        unpacked: dtype of the unpacked side.
        scaled: whether a scale for each row goes in or out.
        packs: whether it makes planes; then, unless it is recorded, it waits for the GPU to check its input.
        into: ours, `(*inputs, bits, *outputs)`.
        plain: the reference, `(bits, shape, *inputs) -> outputs`.
    """

    title: str
    unpacked: torch.dtype
    scaled: bool
    packs: bool
    into: Callable[..., None]
    plain: Callable[..., Tensors]

    def bytes_moved(self, matrices: Sequence[Matrix]) -> int:
        """Bytes in plus bytes out, each read or written once."""
        return sum(
            planes_size(rows * cols, bits) + rows * cols * self.unpacked.itemsize + rows * SCALE_BYTES * self.scaled
            for rows, cols, bits in matrices
        )


def _unpack(bits: int, shape: tuple[int, int], planes: torch.Tensor) -> Tensors:
    return (reference.unpack(planes, bits, shape),)


def _unpack_dequantize(bits: int, shape: tuple[int, int], planes: torch.Tensor, scales: torch.Tensor) -> Tensors:
    return (reference.unpack_dequantize(planes, scales, bits, shape, torch.bfloat16),)


def _pack(bits: int, shape: tuple[int, int], values: torch.Tensor) -> Tensors:
    return (reference.pack(values, bits),)


def _quantize_pack(bits: int, shape: tuple[int, int], weights: torch.Tensor) -> Tensors:
    return reference.quantize_pack(weights, bits)


WORKS = (
    Work("unpack {packed} to {unpacked}", torch.int8, False, False, native.unpack_into, _unpack),
    Work(
        "unpack-dequantize {packed} to {unpacked}",
        torch.bfloat16,
        True,
        False,
        native.unpack_dequantize_into,
        _unpack_dequantize,
    ),
    Work("pack {unpacked} to {packed}", torch.int8, False, True, native.pack_into, _pack),
    Work("quantize-pack {unpacked} to {packed}", torch.float32, True, True, native.quantize_pack_into, _quantize_pack),
)


def left_out() -> list[str]:
    """What is not measured on a GPU, and why."""
    if obstacle := native.obstacle("cuda"):
        return [f"bitpack: everything on a GPU, for {obstacle}"]
    missing = peers.optional(TORCHAO, "pack")[1]
    lines = ["bitpack against torchao, with scales: it packs integers alone"]
    return [f"bitpack against torchao: {missing}"] if missing else lines


def cases() -> Iterator[Case]:
    """Each function at int5, at int6, and on the matrices of the seed one after the other."""
    if native.obstacle("cuda"):
        return
    for work in WORKS:
        dtype = str(work.unpacked).removeprefix("torch.").replace("bfloat16", "bf16")
        rows = UNPACKED_BYTES // work.unpacked.itemsize // COLS
        for bits in WIDTHS:
            title = work.title.format(packed=f"int{bits}", unpacked=f"{UNPACKED_BYTES >> 20} MiB of {dtype}")
            yield from _cases(title, Job(work, [Matrix(rows, COLS, bits)]))
        title = work.title.format(packed="int5 and int6", unpacked=f"the seed's matrices in {dtype}")
        yield from _cases(title, Job(work, seed_matrices()))


def seed_matrices() -> list[Matrix]:
    """What of the seed's recipe bit planes can hold, in the order of its state dict."""
    # What compresses a model needs more packages than a measurement of a kernel does.
    from golf_fast import recipes
    from golf_fast.compress.integers.groups import bits_of, groups_of
    from golf_fast.compress.integers.quantize import kept_as
    from golf_fast.model import GPT, upstream

    config = recipes.seed()
    with torch.device("meta"):
        state = upstream.export(GPT(config.model))
    groups, matrices = groups_of(state), []
    for name, tensor in state.items():
        if kept_as(name, tensor, groups[name], config.compress) is None:
            bits = bits_of(groups[name], config.compress)
            matrices.append(Matrix(*reference.rows_and_cols(tensor.shape), bits))
    return [matrix for matrix in matrices if matrix.bits in WIDTHS]


class Job:
    """A work on matrices; its tensors are made when they are first asked for."""

    def __init__(self, work: Work, matrices: Sequence[Matrix]) -> None:
        self.work, self.matrices = work, matrices

    @functools.cached_property
    def inputs(self) -> list[Tensors]:
        """The inputs for each matrix: normally distributed weights, quantized where the work starts from integers."""
        generator = torch.Generator(DEVICE).manual_seed(0)
        return [self._inputs(matrix, generator) for matrix in self.matrices]

    def _inputs(self, matrix: Matrix, generator: torch.Generator) -> Tensors:
        weights = torch.randn(matrix.rows, matrix.cols, device=DEVICE, generator=generator)
        if self.work.packs and self.work.scaled:
            return (weights,)
        values, scales = reference.quantize(weights, matrix.bits)
        if self.work.packs:
            return (values,)
        planes = reference.pack(values, matrix.bits)
        return (planes, scales) if self.work.scaled else (planes,)

    @functools.cached_property
    def expected(self) -> list[Tensors]:
        """The outputs by the reference on the CPU."""
        return [
            self.work.plain(bits, (rows, cols), *(tensor.cpu() for tensor in inputs))
            for (rows, cols, bits), inputs in zip(self.matrices, self.inputs, strict=True)
        ]

    @functools.cached_property
    def outputs(self) -> list[Tensors]:
        """The tensors that `ours` writes, for each matrix."""
        return [tuple(torch.empty_like(tensor, device=DEVICE) for tensor in right) for right in self.expected]

    def ours(self) -> list[Tensors]:
        """Do the work once."""
        for matrix, inputs, outputs in zip(self.matrices, self.inputs, self.outputs, strict=True):
            self.work.into(*inputs, matrix.bits, *outputs)
        return self.outputs

    def by(self, plain: Callable[..., Tensors]) -> Run:
        """The work by something with the arguments of the reference."""
        return lambda: [
            plain(bits, (rows, cols), *inputs)
            for (rows, cols, bits), inputs in zip(self.matrices, self.inputs, strict=True)
        ]

    def gate(self, run: Run) -> str | None:
        """None if every byte that `run` returns is the reference's."""
        return differences(poisoned(run), self.expected)


def poisoned(run: Run) -> Sequence[Tensors]:
    """The outputs of the second call, which has to write anew what the first left, if it goes to the same place."""
    for output in (output for outputs in run() for output in outputs):
        output.view(torch.uint8).fill_(POISON)
    return run()


def differences(found: Sequence[Tensors], expected: Sequence[Tensors]) -> str | None:
    """None if all bytes are equal, else in which matrix they are not."""
    for i, (ours, right) in enumerate(zip(found, expected, strict=True)):
        for tensor, other in zip(ours, right, strict=True):
            if (tensor.shape, tensor.dtype) != (other.shape, other.dtype):
                return f"matrix {i}: {tensor.dtype} {list(tensor.shape)}, not {other.dtype} {list(other.shape)}"
            bytes_found, bytes_right = (t.contiguous().view(torch.uint8) for t in (tensor, other.to(tensor.device)))
            if wrong := int((bytes_found != bytes_right).sum()):
                return f"matrix {i}: {wrong} of {bytes_right.numel()} bytes of {tensor.dtype} are not the reference's"
    return None


def _cases(title: str, job: Job) -> Iterator[Case]:
    """What the device does, recorded; and for packing, what a caller waits for."""
    moved = job.work.bytes_moved(job.matrices)
    # The shapes of the cases before would count against the compiler's limit of versions of one function.
    torch.compiler.reset()
    compiled = torch.compile(job.work.plain, dynamic=False)
    plain = {"eager": job.by(job.work.plain), "torch.compile": job.by(compiled)}
    alone = {name: recorded(run) for name, run in ({} if job.work.packs else plain).items()}
    gates: dict[str, Gate] = {name: functools.partial(job.gate, run) for name, run in alone.items()}
    torchao, torchao_gates = torchao_peer(job)
    ours = recorded(job.ours)
    yield Case(
        op="bitpack",
        label=title,
        implementation="native",
        ours=ours,
        peers={"copy": device_copy(moved), **alone, **torchao},
        gate=functools.partial(job.gate, ours),
        peer_gates={**gates, **torchao_gates},
        bytes_moved=moved,
    )
    if job.work.packs:
        yield Case(
            op="bitpack",
            label=f"{title}, checked",
            implementation="native",
            ours=job.ours,
            peers={**plain},
            gate=functools.partial(job.gate, job.ours),
            peer_gates={name: functools.partial(job.gate, run) for name, run in plain.items()},
            bytes_moved=moved,
        )


def recorded(run: Run) -> Run:
    """Replay a CUDA graph of `run`, recorded at the first call: the host's part of the launches takes no time."""
    graph = functools.cache(lambda: record(run))
    return lambda: graph()()


def record(run: Run) -> Run:
    """Record `run` in a CUDA graph."""
    run()  # compiles and loads kernels and makes tensors, none of which can be recorded
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = run()

    def replay() -> Sequence[Tensors]:
        graph.replay()
        return outputs

    return replay


def device_copy(moved: int) -> Callable[[], object]:
    """Copy half as many bytes as are moved, so that as many are: each is read and written."""

    @functools.cache
    def buffers() -> Tensors:
        source = torch.randint(256, (moved // 2,), dtype=torch.uint8, device=DEVICE)
        return torch.empty_like(source), source

    return lambda: buffers()[0].copy_(buffers()[1])


def torchao_peer(job: Job) -> tuple[dict[str, Run], dict[str, Gate]]:
    """torchao's form for GPUs, and its gate; it has no scales, its values have no sign, its planes another order."""
    found = [peers.optional(TORCHAO, name)[0] for name in ("pack", "unpack")]
    if None in found or job.work.scaled:
        return {}, {}
    pack, unpack = cast("list[Callable[..., Any]]", found)

    def packed(values: Sequence[Tensors]) -> list[Tensors]:
        return [
            tuple(pack((value + 2 ** (matrix.bits - 1)).view(torch.uint8).flatten(), matrix.bits))
            for (value,), matrix in zip(values, job.matrices, strict=True)
        ]

    def unpacked(shards: Sequence[Tensors]) -> list[Tensors]:
        return [
            (unpack(shard, bits).view(torch.int8).sub_(2 ** (bits - 1)).view(rows, cols),)
            for shard, (rows, cols, bits) in zip(shards, job.matrices, strict=True)
        ]

    if job.work.packs:
        run = recorded(lambda: packed(job.inputs))
        return {"torchao": run}, {"torchao": lambda: differences(unpacked(poisoned(run)), job.inputs)}
    shards = functools.cache(lambda: packed([(values.to(DEVICE),) for (values,) in job.expected]))
    run = recorded(lambda: unpacked(shards()))
    return {"torchao": run}, {"torchao": functools.partial(job.gate, run)}
