"""Report: statistics, leaderboard and figures from Arrow files alone; needs neither torch nor Ray."""

from mubench_ray.report.marks import legend
from mubench_ray.report.write import NotDrawn, summary_rows, write_report

__all__ = ["NotDrawn", "legend", "summary_rows", "write_report"]
