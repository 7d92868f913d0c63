"""The command line: each command parses its words, calls public functions of the package, and prints."""
