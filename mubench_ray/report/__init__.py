"""Report: statistics, leaderboard and figures from Arrow files alone; needs neither torch nor Ray."""

from mubench_ray.report.write import NotDrawn, summary, summary_rows, write_report
from mubench_ray.results.marks import legend

__all__ = ["NotDrawn", "legend", "summary", "summary_rows", "write_report"]
