"""Reports of searches, one-shot or trial by trial: HTML pages that need nothing else.

Pages are made of plain data by Jinja templates, and the sections of an algorithm are the files
of `sections` that it names. A page says what a search has not measured (yet).

Charts are Vega-Lite specs. Vega's JavaScript (0.9 MB; Bokeh's has 1.3 MB, Plotly's 4.8 MB) comes
in a PyPI package of its own authors, vl-convert-python, so a page is built without a network. It
can interpret expressions without `eval`, so a strict Content-Security-Policy holds.
"""

from nas.choices import name_choices
from nas.report.charts import pareto_front
from nas.report.findings import SECTIONS, Findings, ProgressiveFindings, SweepFindings
from nas.report.page import make_report, write_report
from nas.slope import estimate_relative_slope, estimate_slope

__all__ = [
  'SECTIONS',
  'Findings',
  'ProgressiveFindings',
  'SweepFindings',
  'estimate_relative_slope',
  'estimate_slope',
  'make_report',
  'name_choices',
  'pareto_front',
  'write_report',
]
