"""`python -m stl_ray.cli`: what `stl-ray` is, where only the package has arrived."""

import sys

from stl_ray.cli.command import main

if __name__ == "__main__":
    sys.exit(main())
