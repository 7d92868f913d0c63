"""Data parallelism over several processes: their collective operations, and tensors sharded over them."""

__all__: list[str] = []
