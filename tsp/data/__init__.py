"""From annotation tables and videos to batches of clips."""
