"""Errors that end a chain with a message instead of a traceback."""


class StageError(RuntimeError):
    """A stage failed; `is_user_mistake` when its input or configuration is at fault."""

    def __init__(self, message: str, *, is_user_mistake: bool) -> None:
        super().__init__(message)
        self.is_user_mistake = is_user_mistake


class StoppedError(RuntimeError):
    """A person stopped the chain; what is half built stays."""


class TrackingError(RuntimeError):
    """A record could not be written."""
