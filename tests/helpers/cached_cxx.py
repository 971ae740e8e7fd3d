"""A C++ compiler that does not compile the same text twice: `CXX="python cached_cxx.py FOLDER c++"`.

The key of an object file is what the preprocessor makes of its source, and every other word of the command.
"""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path


def main(folder: Path, command: list[str]) -> int:
    if "-c" not in command:
        return subprocess.run(command, check=False).returncode
    output = command[command.index("-o") + 1]
    preprocess = ["-E" if word == "-c" else "-" if word == output else word for word in command]
    text = subprocess.run([*preprocess, "-P", "-MT", output], stdout=subprocess.PIPE, check=False)
    if text.returncode:
        return text.returncode
    paths = {output, f"{output}.d", command[command.index("-c") + 1]}
    flags = "\0".join(word for word in command if word not in paths)
    kept = folder / f"{hashlib.sha256(flags.encode() + text.stdout).hexdigest()}.o"
    if not kept.exists():
        failed = subprocess.run(command, check=False).returncode
        if failed:
            return failed
        shutil.copyfile(output, kept)
    shutil.copyfile(kept, output)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
