import sys

from jaxdenoise.cli import main

sys.exit(main())
