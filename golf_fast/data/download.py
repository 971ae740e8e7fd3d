"""Downloads single files from web servers: metadata, resumable transfers, and retries."""

from __future__ import annotations

import email.utils
import http.client
import json
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email.message import Message
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

from golf_fast import json_files
from golf_fast.data.documents import Progress, no_progress
from golf_fast.errors import InputError, printable
from golf_fast.files import reason, replacing

Answer = TypeVar("Answer")

ATTEMPTS = 5
"""Number of consecutive failures without progress after which a download is given up."""
TIMEOUT_SECONDS = 60.0
"""Seconds without data after which a connection is closed."""
STALL_BYTES = 64 << 10
"""Least number of bytes per `TIMEOUT_SECONDS`; a slower transfer counts as stalled."""
LONGEST_WAIT_SECONDS = 300.0
"""Longest pause in seconds that is made at a server's request."""
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_NO_HEAD = frozenset({405, 501})
_BLOCK = 1 << 20


@dataclass(frozen=True)
class About:
    """Metadata of a file from the server; None for what it does not provide.

    Attributes:
        validator: a strong ETag, or the date of the last change; while it is the same, so is the content.
        size: size in bytes.
        sha256: hexadecimal SHA-256 of the content.
        commit: commit of the repository that the file belongs to.
    """

    validator: str | None = None
    size: int | None = None
    sha256: str | None = None
    commit: str | None = None


@dataclass(frozen=True)
class Part:
    """The origin of a partially downloaded file, stored in a file beside it.

    Attributes:
        url: address of the file.
        validator: validator of the whole file.
        if_range: validator of the response, with which the server either continues that response or starts anew.
    """

    url: str
    validator: str | None
    if_range: str | None


class Server:
    """Access to web servers with retries, and with a token for one host.

    Args:
        token: access token, which is sent to `token_host` only, and not to hosts that it redirects to.
        token_host: host that the token is for.
        progress: called with bytes that were received, and before pauses.
    """

    def __init__(self, token: str | None = None, token_host: str = "", progress: Progress = no_progress) -> None:
        self._token = token
        self._token_host = token_host
        self._progress = progress
        self._opener = urllib.request.build_opener(_Redirects)

    def about(self, url: str) -> About:
        """The metadata of a file; empty if the server does not support HEAD requests.

        Raises:
            InputError: the file does not exist, access is denied, or the server cannot be reached.
        """

        def ask() -> About:
            try:
                with self._open(url, {}, "HEAD") as answer:
                    return _about(answer.headers)
            except urllib.error.HTTPError as error:
                if error.code in _NO_HEAD:
                    return About()
                if error.code // 100 == 3 and error.headers.get("X-Linked-Etag"):
                    return _about(error.headers)
                raise

        return self._persist(url, ask)

    def get(self, url: str, part: Path, about: About, most: int) -> None:
        """Download a file to `part`, resuming an earlier download of the same file.

        Args:
            url: address of the file.
            part: path that is written; its origin (`Part`) is stored beside it, with `.json` added to the name.
            about: metadata from `about`.
            most: greatest acceptable size in bytes.

        Raises:
            InputError: as `about`; or the file is too large, its download failed repeatedly, or it cannot be written.
        """
        note = part.with_name(f"{part.name}.json")
        self._persist(url, lambda: self._append(url, part, note, about, most), lambda: _size(part))
        note.unlink(missing_ok=True)

    def _append(self, url: str, part: Path, note: Path, about: About, most: int) -> None:
        """Download the rest of `part`.

        Raises:
            OSError, http.client.HTTPException: the connection failed; `part` contains the bytes received so far.
        """
        begun = _begun(part, note, url, about)
        have = _size(part) if begun else 0
        headers = {"Range": f"bytes={have}-", "If-Range": begun.if_range or ""} if begun and have else {}
        try:
            answer = self._open(url, headers)
        except urllib.error.HTTPError as error:
            if error.code == 416 and have == about.size:  # the file is complete
                return
            if error.code == 416:
                part.unlink(missing_ok=True)
                raise ConnectionError("the part is longer than the file") from error
            raise
        with answer:
            resumed = answer.status == 206 and (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-")
            start = have if resumed else 0
            length = answer.headers.get("Content-Length", "")
            total = start + int(length) if length.isdecimal() else None
            if (total or 0) > most:
                raise InputError(f"{url}: the server offers {total:,} bytes; such a file has at most {most:,}")
            if not resumed:
                _note(note, Part(url, about.validator, _about(answer.headers).validator))
            with _writing(part, "ab" if resumed else "wb") as file:
                done = self._copy(answer, file, url, start, total, most)
        if total is not None and done < total:
            raise ConnectionError(f"{done} of {total} bytes came")

    def _copy(self, answer: Any, file: IO[bytes], url: str, done: int, total: int | None, most: int) -> int:
        """Copy the response to `file`; returns the size of `file` afterwards."""
        since, then = time.monotonic(), done
        name = printable(url.rpartition("/")[2])
        while block := answer.read1(_BLOCK):
            done += len(block)
            if done > most:
                raise InputError(f"{url}: more than {most:,} bytes came, which is the most that such a file has")
            try:
                file.write(block)
            except OSError as error:
                raise InputError(f"{file.name}: cannot be written ({reason(error)}); make room") from error
            self._progress(f"get {name}", done, max(total or 0, done))
            now = time.monotonic()
            if done - then >= STALL_BYTES:
                since, then = now, done
            elif now - since > TIMEOUT_SECONDS:
                raise ConnectionError(f"only {done - then} bytes came in {now - since:.0f} s")
        return done

    def _open(self, url: str, headers: dict[str, str], method: str = "GET") -> Any:
        request = urllib.request.Request(url, headers=headers, method=method)
        if self._token and urlsplit(url).netloc == self._token_host:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        return self._opener.open(request, timeout=TIMEOUT_SECONDS)

    def _persist(self, url: str, attempt: Callable[[], Answer], size: Callable[[], int] = lambda: 0) -> Answer:
        """Retry until `attempt` succeeds, or has failed `ATTEMPTS` times in a row without progress."""
        failures, best = 0, size()
        while True:
            try:
                return attempt()
            except InputError:
                raise
            except urllib.error.HTTPError as error:
                wait = _asked_to_wait(error.headers)
                final, why = error.code not in _BUSY, _said(error)
                if (wait or 0) > LONGEST_WAIT_SECONDS:
                    raise InputError(f"{url}: {why}; it asks to be left alone for {wait:,.0f} s") from error
            except http.client.InvalidURL as error:  # of the file, or of a proxy in the environment
                raise InputError(f"{url}: is no address that can be asked ({printable(error)})") from error
            except (OSError, http.client.HTTPException) as error:
                final, why, wait = *_failure(error, url), None
            except ValueError as error:  # what http.client makes of addresses
                raise InputError(f"{url}: is no address that can be asked ({printable(error)})") from error
            failures = 1 if size() > best else failures + 1
            best = max(best, size())
            if final or failures >= ATTEMPTS:
                left = f"; {best:,} bytes are kept, run it again to go on" if best else ""
                raise InputError(f"{url}: {why}{left}")
            pause = 2.0 ** (failures - 1) if wait is None else wait
            self._progress(f"{why}; again in {pause:.0f} s", 0, 1)
            time.sleep(pause)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects like its base class, but keeps HEAD requests, and never redirects from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        if req.get_method() == "HEAD" and headers.get("X-Linked-Etag"):
            return None  # a hub, whose own response has the metadata that its storage lacks
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise InputError(f"{req.full_url}: the server sends us to {newurl}, which is not https")
        request = super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]
        if request is not None and req.get_method() == "HEAD":
            request.method = "HEAD"
        return request


def _about(headers: Message) -> About:
    linked = headers.get("X-Linked-Etag")
    tag = (linked or headers.get("ETag") or "").strip()
    size = headers.get("X-Linked-Size") or headers.get("Content-Length") or ""
    plain = tag.strip('"')
    return About(
        validator=tag if tag and not tag.startswith("W/") else headers.get("Last-Modified"),
        size=int(size) if size.isdecimal() else None,
        sha256=plain if linked and re.fullmatch(r"[0-9a-f]{64}", plain) else None,
        commit=headers.get("X-Repo-Commit"),
    )


def _asked_to_wait(headers: Message) -> float | None:
    """Seconds of a Retry-After header, which contains a number or a date."""
    text = (headers.get("Retry-After") or "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _said(error: urllib.error.HTTPError) -> str:
    """The error message of the server, which is untrusted text."""
    hint = "; a repository that is not public needs HF_TOKEN" if error.code in (401, 403) else ""
    return f"the server says {error.code} {printable(error.reason)[:200]}".rstrip() + hint


def _failure(error: BaseException, url: str) -> tuple[bool, str]:
    """Whether retrying is useless, and a description of the error."""
    cause = getattr(error, "reason", error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        host = urlsplit(url).hostname
        return True, (
            f"the certificate of {host} is not trusted ({printable(cause.verify_message)}); set SSL_CERT_FILE to the "
            "certificates to trust, or set the clock"
        )
    return False, f"broke off ({printable(reason(cause) if isinstance(cause, BaseException) else cause)[:200]})"


def _begun(part: Path, note: Path, url: str, about: About) -> Part | None:
    """The origin of `part` if its download can be resumed; else None, and it is started anew."""
    if not part.exists() or not note.exists():
        return None
    try:
        held = Part(**json_files.read_object(note, "a note on a part of a file is needed"))
    except (InputError, TypeError):
        return None
    same = (held.url, held.validator) == (url, about.validator) and about.validator is not None
    return held if same and isinstance(held.if_range, str) else None


def _note(path: Path, part: Part) -> None:
    with replacing(path, "w") as file:
        json.dump(asdict(part), file)


def _writing(path: Path, mode: str) -> IO[Any]:
    try:
        return path.open(mode, buffering=0)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({reason(error)}); name a folder that can") from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
