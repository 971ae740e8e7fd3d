import json
import random
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from helpers.hub_server import WAITED, Handler

from golf_fast.data import Tokenizer, download, train_tokenizer, write_shard
from golf_fast.data.fetch import Hub

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


@pytest.fixture
def remote(tmp_path: Path, tokenizer: Tokenizer) -> Path:
    """The files of a hub repository, laid out like the challenge's."""
    root = tmp_path / "remote" / "someone" / "repository" / "datasets"
    shards = root / "datasets" / "fineweb10B_sp320"
    for number in range(3):
        write_shard(shards / f"fineweb_train_{number:06d}.bin", range(1, 900 + number))
    write_shard(shards / "fineweb_val_000000.bin", range(1, 100))
    (root / "tokenizers").mkdir()
    (root / "tokenizers" / "small.model").write_bytes(tokenizer.path.read_bytes())
    manifest = {
        "datasets": [
            {"name": "fineweb10B_sp320", "stats": {"files_train": 3, "files_val": 1}, "tokenizer_name": "small"}
        ],
        "tokenizers": [{"name": "small", "model_path": "tokenizers/small.model"}],
    }
    (root / "manifest.json").write_text(json.dumps(manifest))
    return root


@pytest.fixture
def hub(remote: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    Handler.breaking, Handler.scripted, Handler.asked, Handler.tokens = {}, {}, [], []
    Handler.tagged, Handler.linked, Handler.heads, Handler.commit = True, False, True, ""
    monkeypatch.setattr(download.time, "sleep", WAITED.append)
    WAITED.clear()
    for name in ("HF_TOKEN", "HF_ENDPOINT", "MATCHED_FINEWEB_BASE_URL", "MATCHED_FINEWEB_REMOTE_ROOT_PREFIX"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(remote.parents[2])))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("MATCHED_FINEWEB_REPO_ID", "someone/repository")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield Hub.from_environment("sp320", f"http://127.0.0.1:{server.server_port}/{{repo}}/")
    server.shutdown()
    server.server_close()
