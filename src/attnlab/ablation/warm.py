"""Imported last by the fork server: what the trials at hand will use, and a heap left in peace.

A module that cannot be imported fails each trial that wants it, and not the server.
"""

import contextlib
import gc
import importlib
import os

from attnlab.ablation.trial import PRELOAD

for _name in os.environ.get(PRELOAD, "").split():
    with contextlib.suppress(Exception):
        importlib.import_module(_name)
# A trial's garbage is none of what is here: it need not be looked through, nor copied for that.
gc.collect()
gc.freeze()
