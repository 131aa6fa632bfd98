"""The version of greenlab, for what compares it with another process's.

Must not import: anything of greenlab.
"""

__version__ = "0.1.0"
