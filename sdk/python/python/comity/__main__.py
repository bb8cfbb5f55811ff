"""`python -m comity`: the `comity` command."""

from ._command import main

main()
