import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from golf_fast.data import embedded_corpus
from golf_fast.data.documents import no_progress, split
from golf_fast.errors import InputError

REPORT = """
import hashlib, sys
from pathlib import Path
from golf_fast.data.corpus import embedded_corpus
corpus = embedded_corpus(Path(sys.argv[1]))
documents = corpus.documents(lambda *_: None)
print(corpus.sha256, hashlib.sha256("\\0".join(documents).encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def documents() -> list[str]:
    return embedded_corpus().documents(no_progress)


def test_it_is_about_two_megabytes_in_sensible_documents(documents: list[str]) -> None:
    sizes = [len(text.encode()) for text in documents]
    assert 1_500_000 < sum(sizes) < 4_000_000
    assert len(sizes) > 200
    assert min(sizes) >= 200
    assert max(sizes) < 45_000


def test_no_long_paragraph_is_on_both_sides(documents: list[str]) -> None:
    parts = split(documents, 0.1, "here")
    train = {paragraph.strip() for text in parts.train for paragraph in text.split("\n\n")}
    val = {paragraph.strip() for text in parts.val for paragraph in text.split("\n\n")}
    assert not [paragraph for paragraph in train & val if len(paragraph) >= 40]


def library(root: Path) -> Path:
    (root / "pydoc_data").mkdir(parents=True)
    (root / "pydoc_data" / "topics.py").write_text(
        f"topics = {{'b': '{'Topic B. ' * 30}', 'a': '{'Topic A. ' * 30}'}}\n"
    )
    (root / "broken.py").write_text('"""Not Python."""\n' * 20 + "def (:\n")
    (root / "module.py").write_text(
        "raise SystemExit('imported')\n"
        'class C:\n    """A class, explained at length."""\n    def f(self):\n        """A method of it."""\n'
        "try:\n    pass\nexcept E:\n    def g():\n        '''In a handler " + "words " * 40 + "'''\n"
    )
    (root / "small.py").write_text('"""Too little to say."""\n')
    for folder in ("test", "site-packages", "config-3", "idlelib/idle_test"):
        (root / folder).mkdir(parents=True)
        (root / folder / "left_out.py").write_text('"""' + "Left out. " * 40 + '"""\n')
    return root


def test_what_is_taken_and_what_is_not(tmp_path: Path) -> None:
    corpus = embedded_corpus(library(tmp_path / "lib"))
    texts = corpus.documents(no_progress)
    assert [text[:8] for text in texts] == ["A class,", "Topic A.", "Topic B."]
    assert texts[0].startswith("A class, explained at length.\n\nA method of it.\n\nIn a handler words words")


def test_its_hash_follows_the_sources(tmp_path: Path) -> None:
    root = library(tmp_path / "lib")
    first = embedded_corpus(root).sha256
    assert embedded_corpus(library(tmp_path / "other")).sha256 == first
    (root / "module.py").write_text('"""Changed."""\n')
    assert embedded_corpus(root).sha256 != first


def test_without_sources_it_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no source of the standard library"):
        embedded_corpus(tmp_path)


def test_it_is_the_same_in_another_process(tmp_path: Path) -> None:
    root = library(tmp_path / "lib")
    corpus = embedded_corpus(root)
    here = hashlib.sha256("\0".join(corpus.documents(no_progress)).encode()).hexdigest()
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", REPORT, str(root)]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert told.stdout.split() == [corpus.sha256, here]
