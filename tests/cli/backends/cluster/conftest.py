"""The small API server, its client and Helm of tests.k8s."""

from tests.chart.conftest import helm as helm
from tests.k8s.conftest import api as api
from tests.k8s.conftest import backend as backend
from tests.k8s.conftest import cluster as cluster
from tests.k8s.conftest import config as config
from tests.k8s.conftest import fake_helm as fake_helm
from tests.k8s.conftest import real_helm as real_helm
from tests.k8s.conftest import stub_helm as stub_helm
from tests.k8s.conftest import well as well
