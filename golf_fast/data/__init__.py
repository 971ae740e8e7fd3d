"""Data: text to tokens to shards to batches.

A corpus (`embedded_corpus`, `text_corpus`) is built into a tokenizer and shards (`build_corpus`); `prepare` decides
which data a run uses; `TokenStream` and `Batches` read them; `TokenBytes` has the bytes of text that a token stands
for.
"""

from golf_fast.data.batch import Batch
from golf_fast.data.build import Built, build_corpus
from golf_fast.data.compressors import Baseline, byte_compressors
from golf_fast.data.corpus import embedded_corpus
from golf_fast.data.dataset import Dataset, prepare, require_source
from golf_fast.data.documents import Corpus, Progress
from golf_fast.data.loader import Batches, TokenStream
from golf_fast.data.shards import Shard, find_shards, read_shard, shard_tokens, write_shard
from golf_fast.data.text import text_corpus
from golf_fast.data.token_bytes import TokenBytes
from golf_fast.data.tokenizer import BOS_ID, Tokenizer, train_tokenizer
from golf_fast.data.validation import Validation

__all__ = [
    "BOS_ID",
    "Baseline",
    "Batch",
    "Batches",
    "Built",
    "Corpus",
    "Dataset",
    "Progress",
    "Shard",
    "TokenBytes",
    "TokenStream",
    "Tokenizer",
    "Validation",
    "build_corpus",
    "byte_compressors",
    "embedded_corpus",
    "find_shards",
    "prepare",
    "read_shard",
    "require_source",
    "shard_tokens",
    "text_corpus",
    "train_tokenizer",
    "write_shard",
]
