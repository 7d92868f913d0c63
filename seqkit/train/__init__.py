"""Training: the loop, what is minimised, optimizers, schedules, checkpoints, processes, logs and displays.

It receives models, data and validation as objects and builds none. Import each part from its own module; to train a
recipe, call `seqkit.session.train`.
"""

__all__: list[str] = []
