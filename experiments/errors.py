"""The error that a user of `experiments` is meant to read: a sentence with the offending value and what to do next."""


class UserError(ValueError):
    """Bad input; the command line prints the message and exits with status 2."""
