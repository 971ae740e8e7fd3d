"""The audit of a published script: a verdict on each violation, by abstract interpretation of its syntax tree.

`unpack` removes wrappings such as compression; `walk` interprets the script with abstract `values` for what names may
hold, and records in a `trace` what it does with validation tokens; `patterns` finds the other violations in the text;
`verdict` combines both. Only `smoke` executes a script, and only on request.
"""

from golf_fast.audit.script.judge import ScriptVerdict, judge

__all__ = ["ScriptVerdict", "judge"]
