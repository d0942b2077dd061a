"""`python -m poolwise`: the command line."""

import sys

from poolwise.cli import main

sys.exit(main())
