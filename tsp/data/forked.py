"""Imported first by a server that processes are forked from: it collects no garbage, nor do they what it has imported.

See tsp.imports; a collection would also copy the pages that parent and children share.
"""

import gc
import os

gc.disable()
os.register_at_fork(before=gc.freeze, after_in_child=gc.enable)
