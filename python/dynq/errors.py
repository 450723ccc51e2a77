"""Exceptions. A wrong argument is a ValueError or a TypeError; everything else derives from Error."""


class Error(Exception):
    """The base of all errors that dynq itself defines."""


class NonFiniteError(Error, ValueError):
    """The input holds a NaN or an infinity, which cannot be passed on here."""


class AccumulatorOverflowError(Error, ArithmeticError):
    """An exact integer sum does not fit into int32."""


class OutOfMemoryError(Error, MemoryError):
    """The C library could not allocate memory."""


class FileFormatError(Error, ValueError):
    """A file is damaged, truncated, of a newer format, or not one of dynq's."""


class InvalidModelError(Error, ValueError):
    """A model of another framework is damaged or contradicts itself."""


class SoundFileError(Error, ValueError):
    """A sound file is damaged or of a kind that is not read."""


class UnsupportedModelError(Error):
    """A model holds what dynq cannot run. ``problems`` lists each problem with the names of its nodes."""

    def __init__(self, message: str, problems: dict[str, list[str]]) -> None:
        super().__init__(message, problems)
        self.problems = problems

    def __str__(self) -> str:
        return str(self.args[0])


class FileAccessError(Error, OSError):
    """The operating system refused to open or map a file."""


class MissingPackageError(Error, ImportError):
    """A package is missing that only this part of dynq needs."""


class IsaError(Error):
    """An instruction set cannot be used."""


class IsaUnknownError(IsaError, ValueError):
    """No instruction set has that name."""


class IsaNotBuiltError(IsaError):
    """This build of dynq lacks the instruction set."""


class IsaNotSupportedError(IsaError):
    """This CPU or its operating system lacks the instruction set."""


class NotConvertedWarning(UserWarning):
    """Layers that could be int8, or that were asked for, stay float; the message lists them."""
