"""The machine a process runs on: processors, memory, devices and the terminal, and a diagnosis of the installation."""

__all__: list[str] = []
