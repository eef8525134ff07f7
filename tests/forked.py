"""Imported last by the server that tests' processes are forked from: no collector of theirs looks at what it imported.

Each would otherwise go through some 500,000 objects, and copy the pages that they lie on.
"""

import atexit
import gc

gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)  # at the server's own end all is collected; extensions count what is left then
