"""The placeholder, in a built file, for parts of the package that its recipe does not use."""


class _Absent(type):
    def __getattr__(cls, name):  # type: ignore[no-untyped-def]
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __call__(cls, *arguments, **named):  # type: ignore[no-untyped-def]
        raise NotImplementedError("this file was built for a recipe that does not use what is asked for here")

    def __contains__(cls, item):  # type: ignore[no-untyped-def]
        return False


class absent(metaclass=_Absent):
    """Stands for any name of an omitted part: it can be passed around and has every attribute; calling it raises an
    error."""
