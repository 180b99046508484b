"""How far a pretrained model's knowledge is from a new kind of data, and how to close the gap."""

__version__ = "0.1.0"
