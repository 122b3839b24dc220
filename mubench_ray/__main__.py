"""``python -m mubench_ray`` is ``mubench``."""

from mubench_ray.cli import main

main()
