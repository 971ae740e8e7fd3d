"""Fetches the challenge's shards and tokenizers from the hub, and checks each file against the hub's metadata."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from golf_fast import json_files
from golf_fast.checks import require
from golf_fast.data.documents import Progress, no_progress
from golf_fast.data.download import About, Server
from golf_fast.data.shards import HEADER_BYTES, shard_tokens, side_car, visible
from golf_fast.data.tokenizer import MAX_BYTES as MAX_TOKENIZER_BYTES
from golf_fast.data.tokenizer import Tokenizer
from golf_fast.errors import InputError, printable
from golf_fast.files import locked, reason, replacing, sha256, sync_folder

ENDPOINT = "https://huggingface.co"
SOURCES = "sources.json"
"""Name of the file that records the source, the size and the hash of each fetched file."""
_SOURCES_NEEDED = "remove it to fetch all again"
_FIRST_REPOSITORY = "willdepueoai/parameter-golf"  # sp1024
_LARGER_REPOSITORY = "kevclark/parameter-golf"  # sp4096 and sp8192
_CASE_OPS_REPOSITORY = "romeerp/parameter-golf-caseops-v1"
_CASE_OPS = {"sp8192_caseops": "sp8192_lossless_caps_caseops_v1_reserved"}
"""Folder names of the variants of text without capitals, whose shards have side-cars with the bytes of their tokens."""
_MAX_MANIFEST_BYTES = 16 << 20
_MAX_SHARD_BYTES = HEADER_BYTES + 2 * (2**31 - 1)
"""Greatest size in bytes of a shard, whose header counts tokens in 31 bits."""
_MAX_SHARDS = 100_000
_REVISION = re.compile(r"/resolve/([^/]+)/")
_POLL_SECONDS = 0.2
"""Seconds between two checks whether another download has ended."""


@dataclass(frozen=True)
class Hub:
    """The location of the files of a repository.

    Attributes:
        root: address of the files, which ends in a slash and includes the prefix.
        endpoint: address of the hub, whose token is used; "": another server.
        repository, prefix: name of the repository and prefix of the files on the hub.
    """

    root: str
    endpoint: str = ""
    repository: str = ""
    prefix: str = ""

    @classmethod
    def from_environment(cls, variant: str, base_url: str | None = None, revision: str | None = None) -> Hub:
        """The repository of a variant, unless the MATCHED_FINEWEB_ variables, HF_ENDPOINT or `base_url` name another.

        Args:
            variant: tokenizer of the shards.
            base_url: the address of the files, with {repo} for the repository's name.
            revision: a branch, tag or commit of the repository; None: its main branch.

        Raises:
            InputError: an address is invalid, or a revision is given for a server without revisions.
        """
        larger = _LARGER_REPOSITORY if variant in ("sp4096", "sp8192") else _FIRST_REPOSITORY
        default = _CASE_OPS_REPOSITORY if variant in _CASE_OPS else larger
        repository = _variable("MATCHED_FINEWEB_REPO_ID") or default
        prefix = os.environ.get("MATCHED_FINEWEB_REMOTE_ROOT_PREFIX", "datasets").strip().strip("/")
        endpoint = _variable("HF_ENDPOINT").rstrip("/") or ENDPOINT
        named = base_url or _variable("MATCHED_FINEWEB_BASE_URL")
        base = named or f"{endpoint}/datasets/{{repo}}/resolve/main/"
        if not base.startswith(("https://", "http://")):
            source = "HF_ENDPOINT" if not named else "the base address"
            raise InputError(
                f"{source} is {named or endpoint}: not a web address; it must begin with https:// or http://"
            )
        root = base.replace("{repo}", repository).rstrip("/") + "/"
        if revision is not None:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", revision):
                raise InputError(f"revision {revision!a}: it must be the name of a branch or tag, or a commit")
            if not _REVISION.search(root):
                raise InputError(f"revision {revision}: {root} has no revisions; leave it out")
            root = _REVISION.sub(f"/resolve/{revision}/", root, count=1)
        return cls(f"{root}{prefix}/" if prefix else root, "" if named else endpoint, repository, prefix)

    @property
    def library(self) -> bool:
        """Whether huggingface_hub downloads the files, as it is installed and they are on a hub."""
        return bool(self.endpoint) and find_spec("huggingface_hub") is not None

    def at(self, commit: str | None) -> Hub:
        """The location of the files at one commit, so that all are consistent."""
        if not commit or not re.fullmatch(r"[0-9a-f]{40}", commit):
            return self
        root = _REVISION.sub(f"/resolve/{commit}/", self.root, count=1)
        return Hub(root, self.endpoint, self.repository, self.prefix)

    def pinned(self, out: Path) -> Hub:
        """The location at the commit that the files of a folder are from; unchanged if the folder has none."""
        if not (out / SOURCES).exists():
            return self
        entry = json_files.read_object(out / SOURCES, _SOURCES_NEEDED).get("manifest.json")
        commit = entry.get("commit") if isinstance(entry, dict) else None
        there = self.at(commit if isinstance(commit, str) else None)
        return there if isinstance(entry, dict) and entry.get("url") == f"{there.root}manifest.json" else self


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip()


def fetch(hub: Hub, variant: str, train_shards: int, out: Path, progress: Progress = no_progress) -> tuple[Path, Path]:
    """Download a variant's validation shards, its first training shards and its tokenizer.

    Existing files are kept if the server has the same file, and else replaced. One process downloads into a folder;
    others that start meanwhile wait for it, and then use its files without asking the server again.

    Args:
        hub: location of the files.
        variant: `sp<digits>`, `byte260` or `sp8192_caseops`.
        train_shards: number of training shards, at least 1.
        out: folder for `manifest.json`, `sources.json`, `datasets/fineweb10B_<variant>/` and `tokenizers/`.

    Returns:
        The folder of the shards, and the tokenizer's file.

    Raises:
        InputError: the variant is unknown, there are fewer shards, a file cannot be downloaded or is damaged, or the
            folder has shards from another source.
    """
    if not re.fullmatch(r"sp\d+|byte260", variant) and variant not in _CASE_OPS:
        raise InputError(f"variant {variant!a}: it must be sp and digits, byte260, or {', '.join(_CASE_OPS)}")
    require(train_shards >= 1, "train shards", train_shards, "at least 1")
    lock = out / ".lock"
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock.touch()
    except OSError as error:
        if not (out / SOURCES).exists():  # otherwise the existing files may be all that is wanted
            raise InputError(f"{out}: cannot be made or written ({reason(error)}); name a folder that can") from error
    waited = False
    while True:
        with locked(lock) as holder:
            if holder != "another":
                return _fetch(_Folder(hub.pinned(out) if waited else hub, out, progress, waited), variant, train_shards)
        if not waited:
            progress(f"wait for another download into {out}", 0, 1)
        waited = True
        time.sleep(_POLL_SECONDS)


def _fetch(folder: _Folder, variant: str, train_shards: int) -> tuple[Path, Path]:
    folder.bring("manifest.json", "manifest.json", _read_manifest, _MAX_MANIFEST_BYTES)
    name = f"fineweb10B_{_CASE_OPS.get(variant, variant)}"
    available, held_out, model = _listed(folder.out / "manifest.json", name)
    if not 1 <= train_shards <= available:
        raise InputError(f"train shards {train_shards}: {variant} has {available}; ask for 1 to {available}")
    shards = f"datasets/{name}"
    wanted = [f"fineweb_val_{number:06d}.bin" for number in range(held_out)]
    if variant in _CASE_OPS:
        wanted += [side_car(Path(shard)).name for shard in wanted]
    wanted += [f"fineweb_train_{number:06d}.bin" for number in range(train_shards)]
    offered = {*wanted, *(f"fineweb_train_{number:06d}.bin" for number in range(train_shards, available))}
    for path in visible(folder.out / shards, "*.bin") if (folder.out / shards).exists() else ():
        if path.name not in offered:
            raise InputError(f"{path}: {folder.hub.root} has no such shard; move it away, or name another --out")
        if path.name not in wanted:
            wanted.append(path.name)  # training would also read this file
    tokenizer = f"tokenizers/{model.name}"
    folder.bring(tokenizer, str(model), Tokenizer, MAX_TOKENIZER_BYTES)
    for shard in wanted:
        folder.bring(f"{shards}/{shard}", f"{shards}/{shard}", shard_tokens, _MAX_SHARD_BYTES)
    return folder.out / shards, folder.out / tokenizer


class _Folder:
    """A folder of fetched files and their recorded sources.

    Attributes:
        hub: location of the files, at a fixed commit once that is known.
        out: the folder.

    Args:
        fresh: whether the records were just written, so that the server need not be asked again.
    """

    def __init__(self, hub: Hub, out: Path, progress: Progress, fresh: bool = False) -> None:
        self.hub = hub
        self.out = out
        self._fresh = fresh
        self._progress = progress
        self._server = Server(_variable("HF_TOKEN") or None, urlsplit(hub.endpoint).netloc, progress)
        path = out / SOURCES
        self._sources = json_files.read_object(path, _SOURCES_NEEDED) if path.exists() else {}

    def bring(self, name: str, remote: str, check: Callable[[Path], object], most: int) -> None:
        """Download a file unless the existing one is the same; it is renamed once it is complete and passes `check`."""
        url, path = self.hub.root + remote, self.out / name
        if self._fresh and self._unchanged(path, name).get("url") == url:
            return
        about = self._server.about(url)
        self.hub = self.hub.at(about.commit)
        url = self.hub.root + remote
        if self._is_there(path, name, url, about, check):
            return
        if about.size is not None and about.size > most:
            raise InputError(f"{url}: the server offers {about.size:,} bytes; such a file has at most {most:,}")
        self._need_room(path, about)
        part = path.with_name(f".{path.name}.part")
        if self.hub.library:
            _by_library(self.hub, remote, about, self.out, part)
        else:
            self._server.get(url, part, about, most)
        found = self._accept(part, url, about, check)
        try:
            part.replace(path)
            sync_folder(path.parent)
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({reason(error)})") from error
        self._record(name, url, about, found)

    def _is_there(self, path: Path, name: str, url: str, about: About, check: Callable[[Path], object]) -> bool:
        """Whether the existing file is that of the server, by its hash or else by the recorded metadata."""
        if not path.exists() or about.size not in (None, path.stat().st_size):
            return False
        known, unchanged = self._known(name), bool(self._unchanged(path, name))
        try:
            found = str(known.get("sha256")) if unchanged else sha256(path)
            if about.sha256 is not None:
                same = found == about.sha256
            else:
                said = (known.get("url"), known.get("validator"), known.get("sha256"))
                same = about.validator is not None and said == (url, about.validator, found)
            if same:
                check(path)
        except InputError:
            return False
        if same and not (unchanged and known.get("url") == url):
            self._record(name, url, about, found)
        return same

    def _known(self, name: str) -> dict[str, Any]:
        """The record of a file."""
        known = self._sources.get(name)
        return known if isinstance(known, dict) else {}

    def _unchanged(self, path: Path, name: str) -> dict[str, Any]:
        """The record of a file if the file is unchanged since; else empty."""
        known = self._known(name)
        there = bool(known) and path.exists() and all(known.get(key) == each for key, each in _state(path).items())
        return known if there else {}

    def _accept(self, part: Path, url: str, about: About, check: Callable[[Path], object]) -> str:
        """The hash of a downloaded file that is complete and matches the server's metadata; any other is removed.

        Raises:
            InputError: it does not match.
        """
        try:
            size, found = part.stat().st_size, sha256(part)
            if about.size is not None and size != about.size:
                raise InputError(f"{url}: {size:,} bytes came, but the server says that it has {about.size:,}")
            if about.sha256 is not None and found != about.sha256:
                raise InputError(f"{url}: what came has SHA-256 {found}, but the server says {about.sha256}")
            check(part)
        except InputError:
            part.unlink(missing_ok=True)
            raise
        return found

    def _need_room(self, path: Path, about: About) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(path.parent).free
        except OSError as error:
            raise InputError(f"{path.parent}: cannot be made ({reason(error)}); name a folder that can") from error
        if about.size is not None and about.size > free:
            raise InputError(f"{path}: needs {about.size:,} bytes, and its disk has {free:,}; make room")

    def _record(self, name: str, url: str, about: About, found: str) -> None:
        """Record the source and the commit of a file."""
        commit = {"commit": about.commit} if about.commit else {}
        state = _state(self.out / name)
        self._sources[name] = {"url": url, "validator": about.validator, "sha256": found, **commit, **state}
        with replacing(self.out / SOURCES, "w") as file:
            json.dump(self._sources, file, indent=1, sort_keys=True)
            file.write("\n")


def _state(path: Path) -> dict[str, int]:
    """File attributes that tell without reading a file whether it was changed."""
    about = path.stat()
    return {"bytes": about.st_size, "modified_ns": about.st_mtime_ns}


def _by_library(hub: Hub, remote: str, about: About, out: Path, part: Path) -> None:
    """Download a file with huggingface_hub (1.x or 2.x), which supports the hub's faster protocols."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError

    # Its errors derive from those of its HTTP library, which differs between versions.
    failures = (*HfHubHTTPError.__bases__, EntryNotFoundError, OSError, ValueError, RuntimeError)
    at = _REVISION.search(hub.root)
    try:
        came = hf_hub_download(
            repo_id=hub.repository,
            filename=f"{hub.prefix}/{remote}" if hub.prefix else remote,
            repo_type="dataset",
            revision=at[1] if at else about.commit,
            local_dir=out / ".hub",
            endpoint=hub.endpoint,
        )
        os.replace(came, part)
    except failures as error:
        said = printable(str(error).strip().partition("\n")[0])[:300] or type(error).__name__
        raise InputError(f"{hub.root}{remote}: huggingface_hub could not get it ({said})") from error


def _read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    manifest = json_files.read_object(path, "a manifest with datasets and tokenizers is needed", _MAX_MANIFEST_BYTES)
    try:
        return {key: {entry["name"]: entry for entry in manifest[key]} for key in ("datasets", "tokenizers")}
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not a manifest with datasets and tokenizers ({error!r})") from error


def _listed(path: Path, name: str) -> tuple[int, int, PurePosixPath]:
    """Numbers of training and validation shards of a dataset, and the path of its tokenizer."""
    manifest = _read_manifest(path)
    if name not in manifest["datasets"]:
        listed = ", ".join(sorted(map(str, manifest["datasets"]))) or "none"
        raise InputError(f"{path}: no dataset {name}; it lists {listed[:500]}")
    try:
        entry = manifest["datasets"][name]
        tokenizer = manifest["tokenizers"][entry["tokenizer_name"]]
        model = PurePosixPath(tokenizer.get("model_path") or tokenizer["path"])
        counts = entry["stats"]["files_train"], entry["stats"]["files_val"]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: its entry of {name} lacks what is needed ({error!r})") from error
    for key, count in zip(("files_train", "files_val"), counts, strict=True):
        if type(count) is not int or not 1 <= count <= _MAX_SHARDS:
            raise InputError(f"{path}: {key} of {name} is {count!r:.80}; it must be from 1 to {_MAX_SHARDS:,}")
    plain = all(re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", part) for part in model.parts)
    if model.is_absolute() or not plain or model.suffix != ".model":
        raise InputError(
            f"{path}: the tokenizer of {name} is {str(model)!r}; a relative path of a .model file is needed"
        )
    return counts[0], counts[1], model
