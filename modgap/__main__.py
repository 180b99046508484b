"""`python -m modgap` runs the command line."""

from modgap.cli.main import main

main()
