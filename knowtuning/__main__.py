import sys

from knowtuning.cli import main

sys.exit(main())
