"""Imported first by a fork server: it collects no garbage, and its children do not collect what it has imported.

See tsp.imports; a collection would also copy the pages that parent and children share.
"""

import gc
import os

gc.disable()
os.register_at_fork(before=gc.freeze, after_in_child=gc.enable)
