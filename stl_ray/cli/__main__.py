"""`python -m stl_ray.cli`: the command `stl-ray` where only the package was sent."""

import sys

from stl_ray.cli.command import main

if __name__ == "__main__":
    sys.exit(main())
