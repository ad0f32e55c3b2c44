"""The page of any report: its frame and its sections.

Templates escape all that they are given. The browser runs the two scripts of the page, which
its policy names by their digests, and loads nothing.
"""

import base64
import functools
import hashlib
import os
from pathlib import Path

import jinja2
import vl_convert

from nas.choices import format_choice
from nas.report.findings import Findings, ProgressiveFindings, SweepFindings
from nas.report.sections import make_sections
from nas.report.sections.costs import list_columns

VEGA_LITE = '6.4'
Left = Findings | ProgressiveFindings | SweepFindings


@functools.cache
def _load_templates() -> jinja2.Environment:
  """Loads the templates and the bundle of Vega, which takes a second, once in a process."""
  loader = jinja2.PackageLoader(__package__)
  made = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
  made.policies['json.dumps_kwargs'] = {'separators': (',', ':'), 'ensure_ascii': False}
  made.trim_blocks = made.lstrip_blocks = True
  vega = vl_convert.javascript_bundle('window.vegaEmbed = vegaEmbed;', VEGA_LITE)
  scripts = [vega, loader.get_source(made, 'draw.js')[0]]
  digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in scripts]
  allowed = ' '.join(f"'sha256-{digest.decode()}'" for digest in digests)
  made.globals |= {'scripts': scripts, 'allowed': allowed, 'choice': format_choice}
  return made


def make_report(findings: Left) -> str:
  """Makes the text of a page. Raises ValueError as `write_report` does."""
  space, count = findings.space, findings.space.count()
  power = f'{count:,}' if count < 10**6 else f'about 10^{len(str(count)) - 1}'
  footer = f'Space {space.digest}: {len(space)} decisions, {power} networks.'
  sections = make_sections((*findings.FIRST, *findings.sections, *findings.LAST), findings)
  # Charts share the trials of a sweep.
  shared = {'trials': list_columns(findings)} if isinstance(findings, SweepFindings) else {}
  page, title = _load_templates().get_template('page.html'), findings.title
  return page.render(title=title, sections=sections, shared=shared, footer=footer)


def write_report(path, findings: Left):
  """Writes a page, whole or not at all.

  Raises:
    ValueError: no such section, or choices, notes or facts are not of the space and algorithm.
  """
  path, text = Path(path), make_report(findings)
  part = path.with_name(f'.{path.name}.{os.getpid()}.part')
  try:
    part.write_text(text, encoding='utf-8')
    part.replace(path)
  finally:
    part.unlink(missing_ok=True)
