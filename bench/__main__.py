"""`python -m bench` is `foveabench`."""

from bench.cli import main

main()
