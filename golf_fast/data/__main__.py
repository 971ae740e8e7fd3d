"""Build shards from text, look into shards, check them, and fetch the challenge's."""

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

from golf_fast.arguments import as_typed, call
from golf_fast.config import DataConfig
from golf_fast.console import exit_with, say
from golf_fast.data.build import build_corpus
from golf_fast.data.case_ops import OURS
from golf_fast.data.check import check as check_folder
from golf_fast.data.corpus import embedded_corpus
from golf_fast.data.dataset import prepare
from golf_fast.data.fetch import Hub
from golf_fast.data.fetch import fetch as fetch_variant
from golf_fast.data.shards import read_shard, visible
from golf_fast.data.text import text_corpus
from golf_fast.data.tokenizer import BOS_ID, Tokenizer
from golf_fast.errors import InputError, printable

_TYPED = {"data.text": "--text", "data.built": "--out", "data.val_fraction": "--val-fraction"}
"""The flags of `build` by the settings of a run that they are."""


class Display:
    """Progress on stderr: a live line on a terminal, elsewhere a line when a stage begins and ends."""

    def __init__(self) -> None:
        self._stage = ""
        self._shown = 0.0

    def __call__(self, stage: str, done: float, total: float) -> None:
        now = time.monotonic()
        if stage == self._stage and done < total and (not sys.stderr.isatty() or now - self._shown < 0.1):
            return
        text = printable(f"{stage}: {done:,.0f}/{total:,.0f}")
        if sys.stderr.isatty():
            print(f"\r\033[K{text}", end="\n" if done >= total else "", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)
        self._stage, self._shown = stage, now


def build(
    text: Path | None = None,
    vocab_size: int = 1024,
    out: Path = DataConfig.built,
    val_fraction: float = DataConfig.val_fraction,
    case_ops: bool = False,
) -> None:
    """Train a tokenizer and write shards in the challenge's format, a part of the text held out.

    What was built before from the same text in the same way is found again. Training finds it too.

    Args:
        text: A text file, a JSONL file with a "text" field, or a folder of them. Without it: the documentation
            that this Python carries.
        vocab_size: Entries of the tokenizer.
        out: Where built folders are kept; each is named after what it was made from.
        val_fraction: Share of the text's bytes that is held out for validation.
        case_ops: Take capitals out of the text and say them by operators, which can be undone.
    """
    source: Literal["text", "embedded"] = "text" if text else "embedded"
    with as_typed(_TYPED):
        data = DataConfig(source=source, text=text, built=out, val_fraction=val_fraction, case_ops=case_ops)
    if text is None:
        say("no --text: using the documentation that this Python carries")
    with as_typed(_TYPED):
        corpus = embedded_corpus() if text is None else text_corpus(text)
        start = time.perf_counter()
        built = build_corpus(corpus, vocab_size, val_fraction, out, Display(), OURS if case_ops else None)
    seconds = time.perf_counter() - start
    manifest = built.manifest
    if corpus.left_out:
        say(f"left out of {corpus.origin}: {corpus.left_out}")
    say(f"{corpus.origin}: {'found, built before' if built.reused else f'built in {seconds:.1f} s'}")
    for part in ("train", "val"):
        sizes = manifest[part]
        say(
            f"  {part:5} {sizes['documents']:>8,} documents {sizes['bytes']:>12,} bytes {sizes['tokens']:>11,} tokens "
            f"({sizes['bytes'] / sizes['tokens']:.3f} bytes a token)"
        )
    say(f"  in {built.folder}/: {', '.join([*manifest['files'], 'manifest.json'])}")
    say(f"  fingerprint {prepare(data, vocab_size, has_gpu=False).fingerprint}")


def inspect(path: tyro.conf.Positional[Path], tokenizer: Path | None = None) -> None:
    """Say what is in a shard, or in all the shards of a folder.

    Args:
        path: A .bin file or a folder of them.
        tokenizer: A SentencePiece model, to show the text of the first document; default: the one beside the shards.
    """
    shards = visible(path, "*.bin") if path.is_dir() else [path]
    if not shards:
        raise InputError(f"{path}: no .bin file among its {len(visible(path, '*'))} files")
    beside = sorted(shards[0].parent.glob("*.model"))
    model = tokenizer or (beside[0] if beside else None)
    for shard in shards:
        tokens = read_shard(shard)
        documents = int(np.count_nonzero(tokens == BOS_ID))
        say(f"{shard}: {tokens.size:,} tokens, {documents:,} documents, ids {tokens.min()} to {tokens.max()}")
    if model is None:
        say("no tokenizer given (--tokenizer PATH.model): the text is not shown")
        return
    pieces = Tokenizer(model)
    tokens = read_shard(shards[0])
    starts = np.flatnonzero(tokens[:1_000_000] == pieces.bos_id)
    document = tokens[starts[0] : starts[1]] if len(starts) > 1 else tokens[:1_000_000]
    if int(document.max()) >= pieces.vocab_size:
        raise InputError(f"{shards[0]}: id {document.max()}, but {model} has {pieces.vocab_size} pieces; name its own")
    say(f"first document of {shards[0].name} ({document.size:,} tokens) by {model} ({pieces.vocab_size} pieces):\n")
    text = pieces.decode(document)
    say(text if len(text) <= 2000 else f"{text[:2000]}\n[... {len(text) - 2000:,} more characters]")


def fetch(
    variant: Annotated[
        str, tyro.conf.arg(help="sp1024, sp4096, sp8192, sp8192_caseops or another that the repository lists.")
    ] = "sp1024",
    train_shards: int = 80,
    out: Path = Path("data"),
    base_url: str | None = None,
    revision: str | None = None,
) -> None:
    """Download the challenge's shards and tokenizer; what is there already is checked and kept.

    Several that begin at once, as the ranks of a run do, bring it once: one writes, the others wait and take it.

    Environment: HF_ENDPOINT, HF_TOKEN, MATCHED_FINEWEB_REPO_ID, MATCHED_FINEWEB_REMOTE_ROOT_PREFIX,
    MATCHED_FINEWEB_BASE_URL. Where huggingface_hub is installed (the extra "hub") it brings what is on a hub.

    Args:
        variant: Tokenizer of the shards.
        train_shards: How many training shards, of 100,000,000 tokens and 200 MB each; validation comes whole.
        out: The folder that gets datasets/ and tokenizers/.
        base_url: Where the repository's files lie, with {repo} for its name.
        revision: Branch, tag or commit of the repository. Default: the commit that the folder has its files of, which
            sources.json in it names; in a new folder the newest.
    """
    hub = Hub.from_environment(variant, base_url, revision)
    hub = hub if revision else hub.pinned(out)
    say(f"from {hub.root}")
    shards, tokenizer = fetch_variant(hub, variant, train_shards, out, Display())
    say(f"use them with --data.shards {shards} --data.tokenizer {tokenizer}")


def check(
    folder: tyro.conf.Positional[Path],
    tokenizer: Path | None = None,
    variant: str | None = None,
    json_: Annotated[bool, tyro.conf.arg(name="json")] = False,
    workers: int | None = None,
) -> None:
    """Read every shard of a folder and say whether it is whole and what it is taken for; nothing is written.

    Compared are headers and sizes, numbers and hashes of the files, ids with the vocabulary, the totals of the
    validation split with those of its variant, and validation documents with training documents. Exit code 0 where no
    fault was found, 1 where one was, 2 where there is nothing to check.

    Args:
        folder: A folder of *_train_*.bin and *_val_*.bin shards.
        tokenizer: Their SentencePiece model, to count bytes; default: the one beside them, or where `fetch` puts it.
        variant: sp1024, sp4096, sp8192 or sp8192_caseops, or "" for other data; default: by the folder's name.
        json_: Print one JSON object.
        workers: Shards that are read at a time; default: one for each core, at most 16.
    """
    found = check_folder(folder, tokenizer, variant, workers, Display())
    if json_:
        say(json.dumps(found.as_dict(), indent=1))
    else:
        say("\n".join(found.lines()))
    if found.faults:
        sys.exit(1)


def main() -> None:
    call({"build": build, "inspect": inspect, "check": check, "fetch": fetch}, "python -m golf_fast.data", __doc__)


if __name__ == "__main__":
    exit_with(main, prints=sys.argv[1:2] in (["inspect"], ["check"]))
