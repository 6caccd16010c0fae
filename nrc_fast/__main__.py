"""``python -m nrc_fast`` is the command line."""

import sys

from nrc_fast.cli import main

sys.exit(main())
