"""`python -m seqkit` is `seqkit`."""

from seqkit.cli.main import run

if __name__ == "__main__":
    run()
