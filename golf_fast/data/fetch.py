"""The challenge's shards and tokenizers from the hub, resumed where a download broke off, and checked."""

import http.client
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from golf_fast.data.documents import Progress, no_progress
from golf_fast.data.shards import shard_tokens
from golf_fast.data.tokenizer import Tokenizer
from golf_fast.errors import InputError

BASE_URL = "https://huggingface.co/datasets/{repo}/resolve/main/"
_FIRST_REPOSITORY = "willdepueoai/parameter-golf"  # sp1024
_LARGER_REPOSITORY = "kevclark/parameter-golf"  # sp4096 and sp8192
_BLOCK = 1 << 20
_TIMEOUT_SECONDS = 60
_ATTEMPTS = 4


@dataclass(frozen=True)
class Hub:
    """Where the files of a repository lie: `root` ends in a slash and includes the prefix."""

    root: str

    @classmethod
    def from_environment(cls, variant: str, base_url: str | None = None) -> "Hub":
        """The repository of a variant, unless the MATCHED_FINEWEB_ variables or `base_url` name another."""
        default = _LARGER_REPOSITORY if variant in ("sp4096", "sp8192") else _FIRST_REPOSITORY
        repository = os.environ.get("MATCHED_FINEWEB_REPO_ID", default)
        prefix = os.environ.get("MATCHED_FINEWEB_REMOTE_ROOT_PREFIX", "datasets").strip("/")
        base = base_url or os.environ.get("MATCHED_FINEWEB_BASE_URL", BASE_URL)
        if not base.startswith(("https://", "http://")):
            raise InputError(f"{base}: not a web address; it must begin with https:// or http://")
        root = base.replace("{repo}", repository).rstrip("/") + "/"
        return cls(f"{root}{prefix}/" if prefix else root)


def fetch(hub: Hub, variant: str, train_shards: int, out: Path, progress: Progress = no_progress) -> tuple[Path, Path]:
    """Download a variant's validation shards, its first training shards and its tokenizer.

    Args:
        variant: `sp<digits>` or `byte260`.
        train_shards: how many, at least 1.
        out: gets `manifest.json`, `datasets/fineweb10B_<variant>/` and `tokenizers/`.

    Returns:
        The folder of the shards, and the tokenizer's file.

    Raises:
        InputError: an unknown variant, more shards than there are, a file that cannot be had or is damaged.
    """
    if not re.fullmatch(r"sp\d+|byte260", variant):
        raise InputError(f"variant {variant}: it must be sp and digits, or byte260")
    manifest = out / "manifest.json"
    _download(hub.root + manifest.name, manifest, _read_manifest, progress, keep=False)
    available, held_out, model = _listed(manifest, f"fineweb10B_{variant}")
    if not 1 <= train_shards <= available:
        raise InputError(f"train shards {train_shards}: {variant} has {available}; ask for 1 to {available}")
    tokenizer = out / "tokenizers" / model.name
    _download(f"{hub.root}{model}", tokenizer, Tokenizer, progress)
    folder = out / "datasets" / f"fineweb10B_{variant}"
    for part, count in (("val", held_out), ("train", train_shards)):
        for number in range(count):
            name = f"fineweb_{part}_{number:06d}.bin"
            _download(f"{hub.root}datasets/{folder.name}/{name}", folder / name, shard_tokens, progress)
    return folder, tokenizer


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(path.read_bytes())
        return {key: {entry["name"]: entry for entry in manifest[key]} for key in ("datasets", "tokenizers")}
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a manifest with datasets and tokenizers ({error!r})") from error


def _listed(path: Path, name: str) -> tuple[int, int, PurePosixPath]:
    """Numbers of training and validation shards of a dataset, and where its tokenizer lies."""
    manifest = _read_manifest(path)
    if name not in manifest["datasets"]:
        raise InputError(f"{path}: no dataset {name}; it lists {', '.join(sorted(manifest['datasets']))}")
    try:
        entry = manifest["datasets"][name]
        stats = entry["stats"]
        tokenizer = manifest["tokenizers"][entry["tokenizer_name"]]
        model = PurePosixPath(tokenizer.get("model_path") or tokenizer["path"])
        counts = int(stats["files_train"]), int(stats["files_val"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: its entry of {name} lacks what is needed ({error!r})") from error
    if model.is_absolute() or ".." in model.parts or model.suffix != ".model":
        raise InputError(f"{path}: the tokenizer of {name} is {model}; a relative path of a .model file is needed")
    return *counts, model


def _download(url: str, path: Path, check: Callable[[Path], object], progress: Progress, keep: bool = True) -> None:
    """Bring `url` to `path`, unless `check` accepts what is there; what has come stays in a `.part` file."""
    if keep and path.exists():
        try:
            check(path)
            return
        except InputError:
            pass  # damaged: it is replaced when the new one is whole
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path.parent}: cannot be made ({error.strerror}); name a folder that can") from error
    part = path.with_name(f".{path.name}.part")
    if not keep:
        part.unlink(missing_ok=True)
    for attempt in range(1, _ATTEMPTS + 1):
        before = part.stat().st_size if part.exists() else 0
        try:
            _append(url, part, path.name, progress)
            break
        except urllib.error.HTTPError as error:
            raise InputError(f"{url}: the server says {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            size = part.stat().st_size if part.exists() else 0
            if attempt == _ATTEMPTS or size == before:
                raise InputError(f"{url}: broke off at {size} bytes ({error}); run it again to go on") from error
    try:
        check(part)
    except InputError:
        part.unlink()
        raise
    os.replace(part, path)


def _append(url: str, part: Path, name: str, progress: Progress) -> None:
    """Get what `part` lacks.

    Raises:
        OSError, http.client.HTTPException: the connection broke; `part` holds what came.
    """
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is lacking
            return
        raise
    with answer:
        resumed = answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        start = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else 0
        with part.open("ab" if resumed else "wb") as file:
            done = start
            while block := answer.read(_BLOCK):
                file.write(block)
                done += len(block)
                progress(f"get {name}", done, max(total, done))
    if total and done < total:
        raise ConnectionError(f"{done} of {total} bytes came")
