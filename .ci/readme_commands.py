"""Print the README's two set-up commands: the first two lines with `pip install` in its ```sh blocks."""

import re
import sys
from pathlib import Path

blocks = re.findall(r"^```sh\n(.*?)^```", Path(sys.argv[1]).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
lines = [line.strip() for block in blocks for line in block.splitlines() if "pip install" in line]
print("\n".join(lines[:2]))
