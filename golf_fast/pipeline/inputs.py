"""The data of a run: the training tokens, and the validation tokens to be scored."""

from __future__ import annotations

from dataclasses import dataclass

from golf_fast.data import Dataset, TokenBytes, Validation, prepare
from golf_fast.data.shards import Tokens, side_cars
from golf_fast.errors import InputError
from golf_fast.files import read_bytes, replacing, sha256
from golf_fast.pipeline.context import Context
from golf_fast.score import check_protocol


@dataclass(frozen=True)
class Inputs:
    """The data of a run, as `prepare_inputs` found them.

    Attributes:
        dataset: the shards and the tokenizer.
        validation: the tokens to be scored, `[whole windows + 1]`, and the bytes that each stands for.
        token_bytes: byte lengths of the tokenizer's tokens.
        shards: SHA-256 of each validation shard by its path, in order.
        side_cars: the same for the side-car files with the bytes of each token, where there are any.
    """

    dataset: Dataset
    validation: Validation
    token_bytes: TokenBytes
    shards: dict[str, str]
    side_cars: dict[str, str]

    def slice_of_training(self, count: int) -> Tokens:
        """The last `count` training tokens, or all if there are fewer; a short training run does not reach them."""
        total = self.dataset.train_tokens()
        taken = min(count, total)
        return self.dataset.train_stream().read(total - taken, taken)


def prepare_inputs(context: Context) -> Inputs:
    """Find or build the data, check them, and copy the tokenizer to the run directory.

    Raises:
        InputError: the data cannot be used, ranks have different data, or the rules forbid the scoring protocol.
    """
    config, ranks = context.config, context.ranks
    for turn in range(3):  # rank 0 builds missing data first, then the other ranks find them
        if ranks.turn == turn:
            dataset = prepare(config.data, config.model.vocab_size, ranks.device.type == "cuda", context.log.progress)
        ranks.barrier()
    for rank, fingerprint in enumerate(ranks.gather_bytes(dataset.fingerprint.encode())):
        if fingerprint != dataset.fingerprint.encode():
            raise InputError(
                f"{dataset.name}: rank {ranks.rank} has data of fingerprint {dataset.fingerprint[:12]}, rank {rank} of "
                f"{fingerprint[:12].decode()}; machines that do not share their files need the same"
            )
    if ranks.main:
        with replacing(context.paths.tokenizer) as file:
            file.write(read_bytes(dataset.tokenizer_path, "the tokenizer of the data is needed"))
    check_protocol(config.score)
    token_bytes = dataset.tokenizer().token_bytes()
    validation = dataset.validation(config.score.window)
    shards, beside = (
        {str(path): sha256(path) for path in paths} for paths in (dataset.val_shards, side_cars(dataset.val_shards))
    )
    return Inputs(dataset, validation, token_bytes, shards, beside)
