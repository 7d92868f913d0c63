"""What a run keeps on disk: sealed folders, checkpoints, the lock, the log and the status."""

__all__: list[str] = []
