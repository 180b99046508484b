"""Names of the transfer methods in the order in which they are shown. Importing this module is fast."""

__all__ = ["METHOD_ORDER"]

METHOD_ORDER = ("scratch", "finetune", "finetune++", "frozen", "fpt", "lora", "emb", "orca", "mona", "l2-sp", "replay")
"""Order of the paper's tables, then methods that hold the source; others follow, sorted by name."""
