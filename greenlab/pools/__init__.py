"""Pools: where tasks run. One protocol (`protocol.py`), one module a pool."""
