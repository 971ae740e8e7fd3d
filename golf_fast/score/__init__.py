"""Artifact and validation tokens to bits per byte: sliding windows, and legal test-time training."""

from golf_fast.score.ledger import Ledger, LegalityError
from golf_fast.score.scorer import Score, check_protocol, score_tokens

__all__ = ["Ledger", "LegalityError", "Score", "check_protocol", "score_tokens"]
