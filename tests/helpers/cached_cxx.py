"""A C++ compiler that does not compile the same text twice: `CXX="python cached_cxx.py c++"`.

With -O0 among the words of the compiler itself nothing is optimized, whatever is asked for after it.

The key of an object file is the compiler, what its preprocessor makes of the source, and every other word of the
command but where things lie. The newest object files are kept from one run of the tests to the next, in
`golf_fast_tests` of the user's cache.
"""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

MOST_KEPT = 128


def cached(*compiler: str) -> list[str]:
    """The command of that compiler with a cache in front; it is told `-c SOURCE -o OUTPUT`, in this order."""
    return [sys.executable, __file__, *compiler]


def cache() -> Path:
    given = os.environ.get("XDG_CACHE_HOME", "")
    return Path(given if os.path.isabs(given) else Path("~/.cache").expanduser()) / "golf_fast_tests"


def main(folder: Path, command: list[str]) -> int:
    if "-O0" in command:
        command = [word for word in command if word == "-O0" or not word.startswith("-O")]
    if "-c" not in command:
        return subprocess.run(command, check=False).returncode
    output = command[command.index("-o") + 1]
    preprocess = ["-E" if word == "-c" else "-" if word == output else word for word in command]
    preprocess += ["-P", *(["-MT", output] if "-MMD" in command else [])]
    text = subprocess.run(preprocess, stdout=subprocess.PIPE, check=False)
    if text.returncode:
        return text.returncode
    version = subprocess.run([command[0], "--version"], stdout=subprocess.PIPE, check=False).stdout
    places = {output, f"{output}.d", command[command.index("-c") + 1]}
    flags = "\0".join(word for word in command if word not in places and not word.startswith("-I"))
    kept = folder / f"{hashlib.sha256(version + flags.encode() + text.stdout).hexdigest()}.o"
    if not kept.exists():
        failed = subprocess.run(command, check=False).returncode
        return failed or keep(Path(output), kept)
    shutil.copyfile(kept, output)
    os.utime(kept)
    return 0


def keep(output: Path, kept: Path) -> int:
    """Keep a file where that can be, whole or not at all, and forget the oldest ones."""
    with contextlib.suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=kept.parent)
        os.close(descriptor)
        shutil.copyfile(output, name)
        os.replace(name, kept)
        for path in sorted(kept.parent.iterdir(), key=lambda path: -path.stat().st_mtime)[MOST_KEPT:]:
            path.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(main(cache(), sys.argv[1:]))
