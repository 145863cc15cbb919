"""`python -m hf_mixup.cli`, which is `hf-mixup`."""

import sys

from hf_mixup.cli import main

if __name__ == "__main__":
    sys.exit(main())
