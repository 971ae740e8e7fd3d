"""Write text with a trained model: python -m golf_fast.sample RUN_DIR --prompt "..." """

from __future__ import annotations

import codecs
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import tyro

from golf_fast import machine
from golf_fast.arguments import call
from golf_fast.console import exit_with
from golf_fast.data import Tokenizer
from golf_fast.errors import printable
from golf_fast.model.backends import resolve_backends
from golf_fast.sample.generate import Sampling, generate
from golf_fast.score.loading import load_for_sampling

_DEFAULTS = Sampling()


def sample(
    run: Annotated[Path, tyro.conf.Positional],
    prompt: str = "",
    max_tokens: int = _DEFAULTS.max_tokens,
    temperature: float = _DEFAULTS.temperature,
    top_p: float = _DEFAULTS.top_p,
    seed: int = _DEFAULTS.seed,
    tokenizer: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
) -> None:
    """Print a prompt and what the model has to say after it, word by word, until it ends the document.

    The same seed gives the same text.

    Args:
        run: What `python -m golf_fast.train` left behind, or an artifact.
        prompt: How the document begins.
        max_tokens: Greatest number of tokens after the prompt.
        temperature: Divides the logits: below 1 likely tokens get likelier; 0 takes the likeliest.
        top_p: Draw from the likeliest tokens that together have this probability; 1: from all.
        seed: Seed of the draws.
        tokenizer: A SentencePiece model; by default the run's, for an artifact the only one in its folder.
        device: Where to compute.
    """
    sampling = Sampling(max_tokens, temperature, top_p, seed)
    chosen, _ = machine.choose_device(device)
    resolve_backends(chosen)
    model, spoken = load_for_sampling(run, chosen, tokenizer)
    given = [spoken.bos_id, *spoken.encode(prompt)]
    drawn = generate(model, given, sampling, stop=spoken.bos_id)
    for text in as_text(spoken, itertools.chain(given[1:], drawn)):
        # A model says any byte; a terminal would take some for orders. What is read by a program stays as it is.
        print(printable(text, keep="\n\t") if sys.stdout.isatty() else text, end="", flush=True)
    print()


def as_text(spoken: Tokenizer, tokens: Iterator[int]) -> Iterator[str]:
    """The text of the tokens of a document, piece by piece; a character comes when its last byte has."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    before = spoken.bos_id
    for token in tokens:
        both, first = spoken.decode_bytes([before, token]), spoken.decode_bytes([before])
        yield decoder.decode(both[len(first) :])
        before = token
    yield decoder.decode(b"", final=True)


def main() -> None:
    """Run the command that the arguments describe."""
    call(sample, "python -m golf_fast.sample")


if __name__ == "__main__":
    exit_with(main)
