"""Exit codes of the command line, and the exception that carries one."""

FAILED, REFUSED, UNSOLVED, INCOMPLETE, INTERRUPTED, TERMINATED = 1, 2, 3, 4, 130, 143


class StoppedError(Exception):
    """Ends a command with a message on stderr and an exit code."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code
