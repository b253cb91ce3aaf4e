"""``python -m jaxdet``."""

import sys

from jaxdet.cli.__main__ import main

sys.exit(main())
