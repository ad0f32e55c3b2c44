"""The report of a search: one HTML page that needs nothing else.

No script, no font, no picture is loaded: charts are inline SVG whose colours follow the
reader's light or dark mode. It is made of plain data, and what a search has not
measured (yet) is said to be missing.
"""

from nas.report.decisions import count_trained, name_choices, share_entropy
from nas.report.findings import Findings, estimate_slope
from nas.report.page import make_page, write_report
from nas.report.tradeoff import pareto_front

__all__ = [
  'Findings',
  'count_trained',
  'estimate_slope',
  'make_page',
  'name_choices',
  'pareto_front',
  'share_entropy',
  'write_report',
]
