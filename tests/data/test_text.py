import json
import os
import stat
import sys
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
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', r"a\.jsonl: line 2: is not JSON"),
        ("a.jsonl", b'{"text": "x"}\n\n{"txt": "x"}', r'a\.jsonl: line 3 has no "text"'),
        ("a.jsonl", b'{"text": 3}', r'a\.jsonl: line 1: its "text" is no string'),
        ("a.jsonl", b'["text"]', r"a\.jsonl: line 1 is no object"),
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
    with pytest.raises(InputError, match=r"no file in it holds text; .*; it holds 1 ending in \.png$"):
        read(tmp_path)


RECORDS = '{"text": "first"}\n{"text": "second", "id": %s, "loss": NaN}\n'


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.ndjson", "a.jsonlines", "a.txt", "a", "a.JSON"])
def test_records_are_recognised_by_what_is_in_the_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(RECORDS % ("7" * 5000), encoding="utf-8-sig")
    assert read(tmp_path / name) == ["first", "second"]
    assert read(tmp_path) == ["first", "second"]


def test_a_list_of_records_is_read_and_other_json_is_not_taken_for_text(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('[\n{"text": "one"},\n {"text": "two"}]')
    (tmp_path / "c.json").write_text('{"name": "package"}')
    (tmp_path / "d.md").write_text("[a link](of text)")
    corpus = text_corpus(tmp_path)
    assert corpus.documents(no_progress) == ["one", "two", "[a link](of text)"]
    assert corpus.left_out == '1 ending in .json without a "text"'


def test_what_is_left_out_is_counted_by_kind(tmp_path: Path) -> None:
    for name in ("a.png", "b.PNG", "c.py", ".hidden.txt", "._d.txt", "empty.txt"):
        (tmp_path / name).write_text("" if name == "empty.txt" else "text")
    (tmp_path / ".git").mkdir()
    (tmp_path / "gone.txt").symlink_to("nowhere")
    (tmp_path / "d.txt").write_text("text")
    left_out = "1 empty, 2 ending in .png, 1 ending in .py, 3 hidden, 1 link(s) that lead nowhere"
    assert text_corpus(tmp_path).left_out == left_out


def test_links_to_folders_are_followed_and_none_for_ever(tmp_path: Path) -> None:
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.txt").write_text("one")
    (tmp_path / "real" / "b.txt").write_text("two")
    (tmp_path / "real" / "deep" / "c.txt").write_text("three")
    (tmp_path / "docs" / "more").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "back").symlink_to(tmp_path / "docs")
    (tmp_path / "docs" / "d.txt").symlink_to(tmp_path / "real" / "b.txt")
    corpus = text_corpus(tmp_path / "docs")
    assert corpus.documents(no_progress) == ["one", "two", "two", "three"]
    assert corpus.left_out == "1 folder(s) that a link leads to again"


def test_a_folder_that_may_not_be_entered_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("text")
    (tmp_path / "secret").mkdir()
    entries = Path.iterdir

    def refuse(folder: Path) -> object:
        if folder.name == "secret":
            raise PermissionError(13, "Permission denied", str(folder))
        return entries(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)  # the superuser may enter every folder
    with pytest.raises(InputError, match=r"secret: cannot be read \(Permission denied\); move it away"):
        text_corpus(tmp_path)


@pytest.mark.parametrize("named", [True, False])
def test_pipes_and_devices_are_refused_and_not_waited_on(tmp_path: Path, named: bool) -> None:
    os.mkfifo(tmp_path / "a.txt")
    assert stat.S_ISFIFO((tmp_path / "a.txt").stat().st_mode)
    with pytest.raises(InputError, match=r"a\.txt: is a named pipe, not a file; a file of text is needed"):
        text_corpus(tmp_path / "a.txt" if named else tmp_path)
    with pytest.raises(InputError, match=r"/dev/zero: is a device, not a file"):
        text_corpus(Path("/dev/zero"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x1f\x8b\x08\x00", "is gzip-compressed, not UTF-8; unpack it"),
        (b"PAR1....", "is a Parquet file"),
        (b"\xff\xfea\0", "is UTF-16 text, not UTF-8; unpack it or save it as UTF-8"),
        (
            b'{"text": "a"}\n' + b'{"text": "b", "meta": ' + b"[" * 2000,
            "line 2: is nested more than 64 deep; each line",
        ),
        (b'{"text": "a"}\nplain', "line 2: is not JSON"),
    ],
)
def test_what_looks_like_text_and_is_none_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.txt: {says}"):
        read(tmp_path / "a.txt")


@pytest.mark.skipif(sys.platform != "linux", reason="names of other systems are Unicode")
def test_a_name_that_is_not_utf_8_is_a_name(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/\xff\xe9"
    os.mkdir(folder)
    with open(folder + b"/\xe9.txt", "w") as file:
        file.write("text")
    corpus = text_corpus(Path(os.fsdecode(folder)))
    assert corpus.documents(no_progress) == ["text"]
    assert corpus.name == "text"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\u2028", "\x85", " ", ""])
def test_a_long_text_is_cut_whatever_ends_its_lines(tmp_path: Path, end: str) -> None:
    text = end.join(f"Some words of line {number}," for number in range(3000))
    (tmp_path / "a.txt").write_text(text, encoding="utf-8", newline="")
    documents = read(tmp_path / "a.txt")
    assert 20 < len(documents) < 120
    assert "".join(documents) == text
    if end:
        assert all(document.endswith(end) for document in documents[:-1])
