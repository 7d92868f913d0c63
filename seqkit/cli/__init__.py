"""The command line: a doorway. Each command parses, calls public functions of the package, and prints."""
