import random
import re
from pathlib import Path

import pytest

from golf_fast.data import Tokenizer, train_tokenizer

WORDS = re.findall(r"\S+", "the quick brown fox jumps over a lazy dog; token shard batch model 42 (x) -> [y]: é naïve")


def sentences(seed: int, count: int) -> str:
    random_words = random.Random(seed)
    lines = []
    for _ in range(count):
        words = random_words.choices(WORDS, k=random_words.randint(3, 12))
        lines.append(" " * random_words.choice((0, 0, 0, 4)) + " ".join(words) + random_words.choice(".,:\n"))
    return "\n".join(lines)


@pytest.fixture(scope="session")
def documents() -> list[str]:
    return [sentences(seed, 12) for seed in range(40)]


@pytest.fixture(scope="session")
def tokenizer(documents: list[str], tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("tokenizer") / "small.model"
    train_tokenizer(documents, 320, path)
    return Tokenizer(path)


@pytest.fixture
def text_folder(documents: list[str], tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number, text in enumerate(documents):
        (folder / f"{number:02}.txt").write_text(text, encoding="utf-8")
    return folder
