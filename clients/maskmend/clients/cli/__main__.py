"""`python -m maskmend.clients.cli`."""

from maskmend.clients.cli import main

main()
