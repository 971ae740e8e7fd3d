"""A published script -> a verdict on each violation, by walking its syntax tree with abstract values.

`unpack` takes it out of its wrapping; `walk` goes through it as it would run, with `values` for what names may hold,
and writes down in a `trace` what it did with validation tokens; `patterns` reads the rest off the text; `verdict`
puts both into words. `smoke` is the one module that executes a script, where that is asked for.
"""

from golf_fast.audit.script.judge import ScriptVerdict, judge

__all__ = ["ScriptVerdict", "judge"]
