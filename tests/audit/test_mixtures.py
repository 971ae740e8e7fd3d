"""V4, on pieces of scripts: what is looked up under a hash of the target, and what takes the better of two losses."""

import ast

import pytest

from golf_fast.audit.script.mixtures import mixtures
from golf_fast.audit.script.tree import forget

LOSS = "\nloss = F.cross_entropy(logits, y)\n"
UPDATED = "\nnp.add.at(table, key, 1)\n"


def outcome(text: str) -> str:
    forget()
    rule, found, lines, said = mixtures(ast.parse(text + LOSS))
    assert (rule, bool(said)) == ("V4", True)
    assert found != "flag" or lines
    return found


@pytest.mark.parametrize(
    "text",
    [
        "key = (context ^ targets * 7) & mask\np = table[key]",
        "key = seed\nkey ^= targets * 7\np = table[key]",
        (
            "def slot(context, target):\n"
            "    h = context * 3\n"
            "    h ^= target * 5\n"
            "    return h & 255\n"
            "k = slot(c, t)\n"
            "p = table[k]\n"
        ),
        (
            "def slots(c, tgt):\n"
            "    return_ = (c ^ tgt * 5) % m\n"
            "    return c % m, return_\n"
            "a, b = slots(c, t)\n"
            "p = table[b]\n"
        ),
        (
            "def slots(s, at):\n"
            "    h = s[at - 1] * 3\n"
            "    g = h ^ s[at] * 5\n"
            "    return h, g\n"
            "a, b = slots(s, i)\n"
            "p = table[b]\n"
        ),
        (
            "class C:\n"
            "    def key(self, target):\n"
            "        k = self.c ^ target * 3\n"
            "        return k\n"
            "    def share(self, t):\n"
            "        k = self.key(t)\n"
            "        return self.table[k]\n"
        ),
        (
            "def inner(y):\n"
            "    k = c ^ y * 3\n"
            "    return k\n"
            "def outer(y):\n"
            "    k = inner(y)\n"
            "    return k\n"
            "k = outer(t)\n"
            "p = table[k]\n"
        ),
    ],
)
def test_a_table_read_under_a_hash_of_the_target_is_flagged(text: str) -> None:
    assert outcome(text + UPDATED) == "flag"


@pytest.mark.parametrize(
    "text",
    [
        ("def slots(c, tgt):\n    h = (c ^ tgt * 5) % m\n    return c % m, h\na, b = slots(c, t)\np = table[a]\n"),
        ("def slots(s, at):\n    h = s[at - 1] * 3 ^ s[at - 2] * 5\n    return h\na = slots(s, i)\np = table[a]\n"),
        (
            "def features(s, at):\n"
            "    h = at * 0\n"
            "    for k in range(3):\n"
            "        h = h ^ s[at - k] * 5\n"
            "    g = h ^ s[at]\n"
            "    return g\n"
            "a = features(s, i)\n"
            "p = table[a]\n"
        ),
        "def a(A):\n    B = A[1:]\n    return B\ndef b(A, B):\n    C = A ^ B\n    return t[C]\n",  # minified
        "best_val_loss = min(best_val_loss, val_loss)",
        "if val_loss < best_loss:\n    best_loss = val_loss",
        "if val_loss < best_loss:\n    kept['weights'] = state",
        "clipped = torch.minimum(x, limit)",
    ],
)
def test_contexts_features_and_the_best_step_are_not(text: str) -> None:
    assert outcome(text + UPDATED) == "pass"


@pytest.mark.parametrize(
    "text",
    [
        "if other_nll < model_nll:\n    nll[i] = other_nll",
        "nll[k] = torch.minimum(nll[k], other_nll)",
        "if a_logp > b_logp:\n    logps[j] = a_logp",
    ],
)
def test_the_better_of_two_losses_is_flagged(text: str) -> None:
    assert outcome(text) == "flag"


def test_what_counts_is_unknown() -> None:
    assert (
        outcome("class NgramCache:\n    def p(self, c, t):\n        return self.n[c][t] / self.n[c].sum()") == "unknown"
    )
    assert outcome("def ngram_features(x):\n    return x + 1") == "pass"
