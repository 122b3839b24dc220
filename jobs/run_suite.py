"""The entry point for `ray job submit`: run a suite on the cluster that runs this job.

    ray job submit --address http://127.0.0.1:8265 --working-dir . \\
        --runtime-env-json '{"excludes": ["/results", "/data"]}' -- python jobs/run_suite.py jobs/quickstart.yaml --out s3://bucket/quickstart

Takes the arguments of `mubench run` and adds `--address auto`, in a job the cluster that runs it. Submitted again, it does what is missing;
`mubench submit` does both with one command.
"""

import sys
from pathlib import Path

sys.path.insert(
    0, str(Path(__file__).resolve().parent.parent)
)  # the checkout that came with the job, also where the package is not installed

from mubench_ray.cli import main

if __name__ == "__main__":
    sys.argv[1:] = ["run", *sys.argv[1:], "--address", "auto"]
    main()
