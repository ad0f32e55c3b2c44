"""Reports of searches, one-shot or trial by trial: HTML pages that need nothing else.

No script, no font, no picture is loaded: charts are inline SVG whose colours follow the
reader's light or dark mode. They are made of plain data, and what a search has not
measured (yet) is said to be missing.
"""

from nas.report.decisions import count_trained, name_choices, share_entropy
from nas.report.findings import Findings, estimate_slope
from nas.report.front import pareto_front
from nas.report.oneshot import make_report, write_report
from nas.report.sweep import make_sweep_report, write_sweep_report
from nas.report.trials import SweepFindings

__all__ = [
  'Findings',
  'SweepFindings',
  'count_trained',
  'estimate_slope',
  'make_report',
  'make_sweep_report',
  'name_choices',
  'pareto_front',
  'share_entropy',
  'write_report',
  'write_sweep_report',
]
