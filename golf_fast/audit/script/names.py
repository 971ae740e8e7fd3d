"""Classifies names and strings of a script: those of validation tokens, models and paths, and library functions."""

from __future__ import annotations

import re

_VALIDATION_PATH = re.compile(r"(^|[^a-z])(val|valid|validation)([^a-z]|$)")
_TRAINING_PATH = re.compile(r"(^|[^a-z])(train|training)([^a-z]|$)")
_KINDS = r"(tok\w*|data\w*|ids?|stream|seqs?|inputs?|targets?|set|loader|iter|shards?|text|corpus|docs?|split)"
_VALIDATION_NAME = re.compile(
    rf"(.*_)?(val|valid|validation)_?{_KINDS}(_\w+)?|(x|y|{_KINDS[1:-1]})_(val|valid|validation)|(x|y)val|validation"
)
_TRAINING_NAME = re.compile(rf"(.*_)?(train|training|calib|calibration)_?{_KINDS}(_\w+)?")
_EPOCHS = re.compile(r"(^|[^a-z])_?(ep|epochs?|passes|rounds|repeats?|sweeps?)(?![a-z])")
_MODEL = re.compile(r"(^|_)(model|net|network|gpt|lm|ddp|module|transformer|lora|adapter|student|forward)(_|$|\d)")
_CALIBRATION = re.compile(r"hessian|calib|gptq")
_SCORING = re.compile(r"eval|score|bpb")

LOADERS = frozenset(
    [
        "fromfile",
        "memmap",
        "load",
        "frombuffer",
        "read",
        "read_bytes",
        "read_text",
        "readinto",
        "readlines",
        "open",
        "from_file",
        "load_file",
        "loadtxt",
        "load_dataset",
        "DataLoader",
        "open_memmap",
        "safe_open",
        "get_tensor",
    ]
)
"""Functions that return the content of a file, given its path."""
LOSSES = frozenset(
    [
        "cross_entropy",
        "nll_loss",
        "CrossEntropyLoss",
        "NLLLoss",
        "log_softmax",
        "softmax",
        "logsumexp",
        "kl_div",
        "functional_call",
        "linear_cross_entropy",
        "fused_cross_entropy",
    ]
)
"""Functions whose results are losses or predictions."""
FACTORIES = frozenset(
    [
        "zeros",
        "ones",
        "empty",
        "full",
        "zeros_like",
        "ones_like",
        "empty_like",
        "full_like",
        "new_zeros",
        "new_empty",
        "new_ones",
        "new_full",
        "tensor",
        "array",
        "Tensor",
        "as_tensor",
        "clone",
    ]
)
"""Functions whose results have new storage."""
TRANSPARENT = frozenset(
    [
        "compile",
        "script",
        "trace",
        "DistributedDataParallel",
        "DDP",
        "DataParallel",
        "FullyShardedDataParallel",
        "FSDP",
        "fully_shard",
        "no_grad",
        "inference_mode",
        "enable_grad",
        "lru_cache",
        "cache",
        "wraps",
        "jit",
        "record_function",
        "autocast",
        "contextmanager",
        "staticmethod",
        "classmethod",
        "property",
        "dataclass",
        "disable",
        "cast",
        "deepcopy_cls",
        "total_ordering",
        "custom_op",
        "unwrap_model",
        "cached_property",
    ]
)
"""Functions that return their first argument, for the purposes of the audit."""
SAME_OBJECT = frozenset(
    [
        "to",
        "cuda",
        "cpu",
        "eval",
        "train",
        "half",
        "float",
        "bfloat16",
        "double",
        "module",
        "_orig_mod",
        "requires_grad_",
        "contiguous",
        "detach",
        "pin_memory",
        "share_memory_",
        "type",
        "int",
        "long",
        "data",
        "values",
        "view",
        "reshape",
        "flatten",
        "ravel",
        "squeeze",
        "unsqueeze",
        "view_as",
        "numpy",
    ]
)
"""Methods that return the object itself, a view of it, or its values in another dtype."""
PASSED_THROUGH = frozenset(
    ["enumerate", "zip", "tqdm", "trange", "iter", "list", "tuple", "sorted", "reversed", "islice", "prefetch", "cycle"]
)
"""Functions over an iterable whose elements are those of their argument."""
CALLERS = frozenset(
    [
        "map",
        "starmap",
        "filter",
        "reduce",
        "submit",
        "apply",
        "apply_async",
        "imap",
        "imap_unordered",
        "checkpoint",
        "spawn",
        "run",
        "call",
        "partial_call",
    ]
)
"""Functions that call their function argument."""
ADDING = frozenset(
    [
        "append",
        "extend",
        "add_",
        "add",
        "index_add_",
        "index_add",
        "insert",
        "put",
        "appendleft",
        "scatter_add_",
        "copy_",
        "addmm_",
    ]
)
"""Methods that add their argument to what they are called on."""
IMPURE = frozenset(
    [
        "next",
        "pop",
        "popleft",
        "get",
        "read",
        "recv",
        "randint",
        "randperm",
        "rand",
        "randn",
        "random",
        "sample",
        "choice",
        "choices",
        "from_bytes",
        "all_gather",
        "fetch_add",
        "readline",
        "multinomial",
        "integers",
        "permutation",
        "claim",
    ]
)
"""Functions whose result differs between calls."""
NETWORK = frozenset(
    [
        "requests",
        "urllib",
        "urllib3",
        "httpx",
        "aiohttp",
        "socket",
        "http",
        "ftplib",
        "huggingface_hub",
        "boto3",
        "paramiko",
        "datasets",
    ]
)
"""Modules that reach beyond the machine."""


def is_validation_path(text: str) -> bool:
    """Whether a text reads like the path or the name of the validation split."""
    return len(text) < 200 and " " not in text and bool(_VALIDATION_PATH.search(text.lower()))


def is_training_path(text: str) -> bool:
    """Whether a text reads like the path or the name of the training split."""
    return len(text) < 200 and " " not in text and bool(_TRAINING_PATH.search(text.lower()))


def is_validation_name(name: str) -> bool:
    """Whether a variable of that name holds validation tokens, where nothing else is known of it."""
    return bool(_VALIDATION_NAME.fullmatch(name.lower()))


def is_training_name(name: str) -> bool:
    """Whether a variable of that name holds training tokens, where nothing else is known of it."""
    return bool(_TRAINING_NAME.fullmatch(name.lower()))


def counts_epochs(text: str) -> bool:
    """Whether a loop with that head repeats the same tokens."""
    return bool(_EPOCHS.search(text.lower()))


def is_model_name(name: str) -> bool:
    """Whether a variable of that name holds a model, where nothing else is known of it."""
    return bool(_MODEL.search(name.lower()))


def is_calibration(name: str) -> bool:
    """Whether a function of that name measures what quantization needs."""
    return bool(_CALIBRATION.search(name.lower())) and not _SCORING.search(name.lower())
