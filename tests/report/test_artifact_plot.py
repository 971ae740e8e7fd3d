"""The picture of an artifact is one, and says what is in it."""

import re
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from golf_fast.errors import InputError
from golf_fast.report.artifact_plot import draw


@dataclass(frozen=True)
class Bar:
    name: str
    form: str
    size: float
    entropy: float


BARS = [Bar("blocks.*.mlp.fc.weight", "int5: rans", 9000, 8800), Bar("tok_emb.weight", "float16: zstd", 800, 900)]


def texts(path: Path) -> list[str]:
    root = ElementTree.fromstring(path.read_bytes())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return ["".join(element.itertext()).strip() for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_an_svg_names_tensors_forms_and_sizes(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    draw(BARS, 321, "a.golf: 10,121 bytes", path)
    found = texts(path)
    for text in ("blocks.*.mlp.fc.weight", "tok_emb.weight", "header and checksum", "9,000", "800", "321"):
        assert text in found
    for text in ("int5: rans", "float16: zstd", "order-0 entropy", "a.golf: 10,121 bytes", "bytes"):
        assert text in found
    content = path.read_text()
    assert not re.search(r"#0[1-5]0[1-5]0[1-5]|var\(--", content), "every colour is a colour of its own"
    draw(BARS, 321, "a.golf: 10,121 bytes", path)
    assert path.read_text() == content, "equal input gives equal bytes"


def test_a_png_is_an_image_with_its_bars(tmp_path: Path) -> None:
    path = tmp_path / "a.PNG"
    draw(BARS, 321, "a.golf", path)
    with Image.open(path) as image:
        image.load()
        assert image.format == "PNG"
        pixels = image.convert("RGB")
        counts = {colour: count for count, colour in pixels.getcolors(1 << 20) or []}
        assert counts[(255, 255, 255)] > pixels.width * pixels.height / 2
        blue, orange = counts[(0x25, 0x63, 0xA8)], counts[(0xC2, 0x71, 0x0C)]
    assert blue > 5 * orange > 0, "9000 bytes and 800"


def test_names_from_strangers(tmp_path: Path) -> None:
    names = ["<script>&\"'", "\x00\x1b[2J\n", "größe 重み $x$", "a" * 256, ""]
    draw([Bar(name, "int5", 10, 3) for name in names], 0, names[0], tmp_path / "a.svg")
    found = texts(tmp_path / "a.svg")
    assert "<script>&\"'" in found
    assert "a" * 57 + "..." in found
    assert all(text.isascii() for text in found)
    draw([Bar(name, "int5", 10, 3) for name in names], 0, names[0], tmp_path / "a.png")


def test_the_smallest_of_very_many_are_counted(tmp_path: Path) -> None:
    draw([Bar(f"t{index}", f"form {index % 11}", 100 - index, 0) for index in range(70)], 1, "x", tmp_path / "a.svg")
    found = texts(tmp_path / "a.svg")
    assert "t59" in found
    assert "t60" not in found
    assert "bytes; 10 smaller ones are not shown" in found


def test_nothing_at_all(tmp_path: Path) -> None:
    draw([], 0, "x", tmp_path / "a.svg")
    assert "header and checksum" in texts(tmp_path / "a.svg")


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.pdf: .*must end in \.svg or \.png"):
        draw(BARS, 0, "x", tmp_path / "a.pdf")
    assert not list(tmp_path.iterdir())
