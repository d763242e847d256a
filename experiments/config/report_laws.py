"""The laws that a sweep's report can fit, by name: known here so that a misspelt one is refused before the training.

`analysis.laws.registry` defines the laws; a test holds the two lists equal.
"""

REPORT_LAWS = ("hoffmann", "hoffmann-break", "kaplan", "skaling", "farseer", "gadre")
"""Laws of the loss in N and D alone."""
LAW_ALIASES = {"chinchilla": "hoffmann"}
"""Other names of these laws."""
WEIGHTED_SET = "auto"
"""A weighted set of these laws in place of one."""
