"""Generated demonstration corpora, unencumbered by licences, with recipes that train on them within minutes."""

from seqkit.demo.parallel_corpora import DemoTask, numbers, reverse, split, write

__all__ = ["DemoTask", "numbers", "reverse", "split", "write"]
