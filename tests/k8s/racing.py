"""Processes that install releases of one name at the same time."""

import multiprocessing
import os

from k8s.client import Cluster, ClusterAddress
from k8s.helm import Chart, Helm, shipped_chart
from k8s.releases import Releases

VALUES = {"dataset": "demo", "method": "tac", "store": {"uri": "s3://b/r"}}


def install(releases, helm, name="r1", **values):
    releases.install(helm, name, Chart(reference=shipped_chart()), {**VALUES, **values})


def racer(kubeconfig, path, number, rounds, start, results):
    """One of several processes that install the same names at once."""
    os.environ["PATH"] = path
    where = ClusterAddress(kubeconfig=kubeconfig, namespace="video")
    releases, helm = Releases(Cluster(where)), Helm(where, "video")
    for index in range(rounds):
        start.wait()
        try:
            install(releases, helm, f"run-{index}", set={"seed": number})
            results.put((index, number, "won", ""))
        except Exception as error:
            results.put((index, number, type(error).__name__, str(error)))


def race(kubeconfig, *, processes, rounds):
    """Returns: round -> [(racer, outcome, message)]."""
    context = multiprocessing.get_context("forkserver")
    start, results = context.Barrier(processes), context.Queue()
    racers = [
        context.Process(
            target=racer, args=(kubeconfig, os.environ["PATH"], number, rounds, start, results), daemon=True
        )
        for number in range(processes)
    ]
    for one in racers:
        one.start()
    found = {}
    for _ in range(processes * rounds):
        index, number, outcome, message = results.get(timeout=900)
        found.setdefault(index, []).append((number, outcome, message))
    for one in racers:
        one.join()
    return found
