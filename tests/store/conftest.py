"""The stores and runs of tests.stores."""

from tests.stores import config as config
from tests.stores import local_run as local_run
from tests.stores import local_store as local_store
from tests.stores import make_epoch as make_epoch
from tests.stores import make_state as make_state
from tests.stores import run as run
from tests.stores import store as store
