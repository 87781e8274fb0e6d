"""Errors that are the user's to solve."""


class UserError(Exception):
    """One sentence for the user: what was wrong, where, and what to do.

    The entry scripts print it without a traceback and exit with code 1.
    """


class KernelUnavailable(UserError):
    """A kernel back end cannot take this call, and says why."""
