"""`ray job submit --working-dir . -- python jobs/ingest.py CONFIG [key=value ...]`; the same as `stl-ray ingest`."""

import sys

from stl_ray.cli import main

if __name__ == "__main__":
    sys.exit(main(["ingest", *sys.argv[1:]]))
