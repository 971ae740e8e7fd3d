import json
from pathlib import Path

import pytest

from golf_fast.data import text_corpus
from golf_fast.data.documents import no_progress
from golf_fast.errors import InputError


def read(path: Path) -> list[str]:
    return text_corpus(path).documents(no_progress)


def test_a_folder_is_read_recursively_in_name_order(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "c.md").write_bytes(b"third\r\n")
    (tmp_path / "b" / "x.txt").write_bytes(b"second")
    (tmp_path / "a.jsonl").write_text('{"text": "first"}\n\n{"text": "first too", "other": 3}\n')
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    (tmp_path / ".git" / "notes.txt").write_text("hidden")
    (tmp_path / "empty.txt").touch()
    assert read(tmp_path) == ["first", "first too", "second", "third\r\n"]


def test_a_long_file_is_cut_and_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("".join(f"Paragraph {number}.\n\n" for number in range(3000)))
    documents = read(path)
    assert 20 < len(documents) < 60
    assert "".join(documents) == path.read_text()


def test_the_hash_follows_contents_and_names(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    first = text_corpus(path).sha256
    assert text_corpus(path).sha256 == first
    assert text_corpus(tmp_path).sha256 == first
    path.write_text("two")
    assert text_corpus(path).sha256 != first


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("empty.txt", b"", r"empty\.txt: empty \(0 bytes\)"),
        ("white.txt", b" \n\n", r"white\.txt: no text in 1 file\(s\) of 3 bytes"),
        ("latin.txt", b"good\xe9", r"latin\.txt: not UTF-8 at byte 4 \(0xe9\)"),
        ("latin.jsonl", b'{"text": "\xff"}', r"latin\.jsonl: not UTF-8 at byte 10"),
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', r"a\.jsonl: line 2 is not JSON"),
        ("a.jsonl", b'{"text": "x"}\n\n{"txt": "x"}', r'a\.jsonl: line 3 has no "text"'),
        ("a.jsonl", b'{"text": 3}', r'a\.jsonl: line 1 has no "text"'),
        ("a.jsonl", b'["text"]', r'a\.jsonl: line 1 has no "text"'),
        ("a.jsonl", json.dumps({"text": "ab\ud800"}).encode(), r"a\.jsonl: line 1 holds half a surrogate pair at .* 2"),
    ],
)
def test_bad_text_is_an_error_with_name_and_number(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        read(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such file or folder"):
        read(tmp_path / "nowhere")
    (tmp_path / "image.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match=r"none of its 1 files holds text"):
        read(tmp_path)
