"""`python -m arpo`, and `torchrun -m arpo`: the command line."""

import sys

from arpo.cli.main import main

sys.exit(main())
