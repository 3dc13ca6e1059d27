import sys

from jaxdenoise.cli.main import main

sys.exit(main())
