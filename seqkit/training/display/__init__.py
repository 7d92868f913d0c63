"""How a run shows itself to a person: a live panel on a terminal, plain lines in a pipe."""

__all__: list[str] = []
