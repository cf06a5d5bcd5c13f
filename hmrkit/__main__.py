"""`python -m hmrkit`."""

from hmrkit.cli import main

main()
