"""The files of a run directory, each named here and nowhere else."""

from __future__ import annotations

from pathlib import Path


class RunPaths:
    """Where the files of a run are, whether or not they are there yet.

    Args:
        folder: the directory of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.json"
        """Every setting, and where it is from."""
        self.log = folder / "log.txt"
        """The lines that were printed."""
        self.metrics = folder / "metrics.jsonl"
        """The numbers behind the lines, one JSON object a line (`golf_fast.report.run_log` says which)."""
        self.ledger = folder / "ledger.jsonl"
        """What was scored and what was trained on while scoring, in order."""
        self.token_losses = folder / "token_losses"
        """The loss of each validation token in nats, raw little-endian float32."""
        self.token_losses_before = folder / "token_losses_before"
        """The same without adapting, where the run adapted while it was scored."""
        self.documents = folder / "documents.json"
        """Where the validation documents begin, the bytes of each, and the text of the hardest and easiest."""
        self.tokenizer = folder / "tokenizer.model"
        """The SentencePiece model of the tokens."""
        self.code = folder / "train_gpt.py"
        """The code that ships: one file that does the run again."""
        self.weights = folder / "checkpoint" / "weights.safetensors"
        """The averaged weights before compression, under public names."""
        self.resume = folder / "resume"
        """The folder of what a run that was cut short goes on from; a finished run has none."""
        self.artifact = folder / "artifact.golf"
        """The compressed model (docs/artifact.md)."""
        self.schedule = folder / "schedule.json"
        """The rates of every step, and how the time was shared out."""
        self.result = folder / "result.json"
        """The score, the sizes, and what they depend on."""
        self.report = folder / "report.html"
        """The same as a page."""
        self.plots = folder / "plots"
        """A folder of the plots of the page, as PNG files."""
        self.profile_trace = folder / "profile.json.gz"
        """A trace of some training steps, for Perfetto or Chrome, where one was asked for."""
        self.profile_table = folder / "profile.txt"
        """The kernels that took the time of these steps."""
        self.events = folder / "events"
        """A folder of event files, where the run was tracked by TensorBoard."""
        self.audit = folder / "audit.json"
        """What an audit found, if somebody left it here."""

    @property
    def evidence(self) -> tuple[Path, ...]:
        """The files that the result follows from: it has their hashes."""
        return self.artifact, self.tokenizer, self.config, self.schedule, self.ledger, self.token_losses
