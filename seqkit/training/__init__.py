"""The training loop and what it is made of: objective, optimizers, schedules, callbacks.

It receives models, data and validation as objects and builds none. Import each part from its own module; to train a
recipe, call `seqkit.train`.
"""

__all__: list[str] = []
