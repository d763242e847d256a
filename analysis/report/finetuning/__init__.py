"""The report of a fine-tuning sweep: its page, and the tables on it."""
