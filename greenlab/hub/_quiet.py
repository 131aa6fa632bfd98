"""Import eventlet without its deprecation notice.

eventlet 0.41 warns on import that it is in bug-fix mode. README says the same in two sentences, so the notice is
silenced here, and no other warning is. Every module of greenlab that needs eventlet imports it from this one.
"""

from __future__ import annotations

import warnings

from greenlab.hub._ending import import_aside

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    import_aside("eventlet")
    import eventlet

__all__ = ["eventlet"]
