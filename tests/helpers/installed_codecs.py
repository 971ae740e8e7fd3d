"""The codecs that can be tried here."""

from typing import get_args

from golf_fast.compress.artifact.codecs import require_installed
from golf_fast.config import CodecName
from golf_fast.errors import InputError


def is_installed(codec: CodecName) -> bool:
    try:
        require_installed(codec)
    except InputError:
        return False
    return True


CODECS: list[CodecName] = [codec for codec in get_args(CodecName) if is_installed(codec)]
