"""The one error that a person is meant to read: a sentence that names the value, the cause and the remedy.

Every package raises this class or a subclass of it. `experiments.errors` and `analysis.errors` hand on the same class,
so that one `except UserError` catches a bad input wherever it was found.
"""


class UserError(ValueError):
    """Bad input; a command prints the message and exits with status 2."""
