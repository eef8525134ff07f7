"""Why a release has no job, in one line. Pure."""

from __future__ import annotations

from k8s.release_record import Release
from tsp.wording import counted_is


def why_without_job(release: Release, pods: int = 0) -> str:
    """One line on a release that has no job. Args: pods, those of the job that are still there."""
    advice = f"remove it with 'tspctl delete {release.name}'"
    if release.status == "pending-install":
        return f"its installation is in progress or was interrupted: if no other command is working on it, {advice}"
    if release.status == "failed":
        return f"its installation failed: {advice}, and submit again"
    if release.status == "uninstalling":
        return f"its removal was interrupted: {advice} to finish it"
    if release.status == "uninstalled":
        resume = f"continue with 'tspctl resume {release.name}'"
        why = "an interrupted resume, or --keep-history"
        return f"it was uninstalled, and Helm has kept its record ({why}): {resume}, or {advice}"
    left = f", and {counted_is(pods, 'pod')} left of it" if pods else ""
    return f"its job was deleted by hand{left}: continue with 'tspctl resume {release.name}', or {advice}"
