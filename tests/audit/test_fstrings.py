"""F-strings of Python 3.12 become something that any parser reads, with the same names in it and the same lines."""

import ast

import pytest

from golf_fast.audit.script.fstrings import plain


@pytest.mark.parametrize(
    "text",
    [
        'f"{", ".join(sorted(names[key]))}"',
        'f"a {"b" if c else "d"} {x=:.3f} {y!r:>{width}} {{not}} {z["k"]}"',
        "f'''{d['a']}\n{e}'''",
        'rf"\\d{f"{a}"}" + "plain {b}" + b"{c}".decode()',
        'f"{a != b} {(c := 1)} {lambda_[1:2]} {x:%H:%M}"',
    ],
)
def test_the_names_are_kept_and_the_lines(text: str) -> None:
    rewritten = plain(f"first\n{text}\nlast\n")
    tree = ast.parse(rewritten)
    found = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    wanted = {
        'f"{", ".join(sorted(names[key]))}"': {"sorted", "names", "key"},
        'f"a {"b" if c else "d"} {x=:.3f} {y!r:>{width}} {{not}} {z["k"]}"': {"c", "x", "y", "width", "z"},
        "f'''{d['a']}\n{e}'''": {"d", "e"},
        'rf"\\d{f"{a}"}" + "plain {b}" + b"{c}".decode()': {"a"},
        'f"{a != b} {(c := 1)} {lambda_[1:2]} {x:%H:%M}"': {"a", "b", "c", "lambda_", "x"},
    }[text]
    assert found - {"first", "last"} == wanted


def test_strings_and_comments_without_braces_stay() -> None:
    text = "a = 'it''s'  # f\"{\nb = \"\"\"f'{x}'\"\"\"\nc = r'\\d'\n"
    assert plain(text) == text
