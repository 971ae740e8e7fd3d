"""The paths of the files of a run directory, which are defined only here."""

from __future__ import annotations

from pathlib import Path


class RunPaths:
    """The paths of the files of a run, whether or not they exist.

    Args:
        folder: the directory of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "config.json"
        """Every setting, and its origin."""
        self.log = folder / "log.txt"
        """The printed lines."""
        self.metrics = folder / "metrics.jsonl"
        """Metric records, one JSON object per line (`golf_fast.report.run_log` lists them)."""
        self.ledger = folder / "ledger.jsonl"
        """What was scored and what was trained on during scoring, in order."""
        self.token_losses = folder / "token_losses"
        """The loss of each validation token in nats, raw little-endian float32."""
        self.token_losses_before = folder / "token_losses_before"
        """The losses without adapting, in the same format, if the run adapted while it was scored."""
        self.documents = folder / "documents.json"
        """The start and the bytes of each validation document, and the text of the hardest and easiest."""
        self.tokenizer = folder / "tokenizer.model"
        """The SentencePiece model of the tokens."""
        self.code = folder / "train_gpt.py"
        """The shipped code: one file that repeats the run."""
        self.weights = folder / "checkpoint" / "weights.safetensors"
        """The averaged weights before compression, under public names."""
        self.resume = folder / "resume"
        """The folder with the state that an interrupted run is resumed from; a finished run has none."""
        self.artifact = folder / "artifact.golf"
        """The compressed model (docs/artifact.md)."""
        self.schedule = folder / "schedule.json"
        """The rates of every step, and the time budget."""
        self.result = folder / "result.json"
        """The score, the sizes, and what they depend on."""
        self.report = folder / "report.html"
        """The report of the run as one page."""
        self.plots = folder / "plots"
        """A folder with the plots of the page, as PNG files."""
        self.profile_trace = folder / "profile.json.gz"
        """A trace of some training steps for Perfetto or Chrome, if it was requested."""
        self.profile_table = folder / "profile.txt"
        """A table of the kernels that took the most time in these steps."""
        self.events = folder / "events"
        """A folder of event files, if the run was tracked by TensorBoard."""
        self.audit = folder / "audit.json"
        """The findings of an audit, if they were saved here."""

    @property
    def evidence(self) -> tuple[Path, ...]:
        """The files that the result depends on, and whose hashes it contains."""
        return self.artifact, self.tokenizer, self.config, self.schedule, self.ledger, self.token_losses
