"""The machine a process runs on: processors and memory, devices, the terminal, and what an installation lacks."""

__all__: list[str] = []
