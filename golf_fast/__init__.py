"""golf_fast: train, compress and score a language model under the rules of Parameter Golf."""

__version__ = "0.1.0"
