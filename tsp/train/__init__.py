"""The training loop and what it needs: schedule, process group, checkpoints."""
