"""What became of a fault, as a row of the table in docs/reliability.md."""

import dataclasses
from collections.abc import Sequence

_LETTERS = 300  # of what is said: JAX' last words are a page


@dataclasses.dataclass(frozen=True)
class Report:
  """What a scenario has found.

  Attributes:
    lost: what had been reported, and is not there any more.
    noticed_secs: from the fault until the command has ended; None: it does not end.
    resumed_secs: from the same command, given again, until its first new work; of one
      that did not end, from the end of the fault.
    codes: exit codes of the processes that the fault did not end itself.
    says: the last line that the user sees, verbatim.
    note: what else was measured.
  """

  lost: str
  noticed_secs: float | None
  resumed_secs: float | None
  codes: Sequence[int]
  says: str
  note: str = ''


def make_row(name: str, about: str, report: Report) -> str:
  """A row of the table, in Markdown."""
  codes = ', '.join(map(str, sorted(set(report.codes)))) or 'goes on'
  says = report.says.replace('|', '\\|')
  says = says if len(says) <= _LETTERS else says[: _LETTERS - 1] + '…'
  cells = [
    f'`{name}`: {about}',
    report.lost,
    _show(report.noticed_secs),
    codes,
    _show(report.resumed_secs),
    f'`{says}`' if says else '',
    report.note,
  ]
  return f'| {" | ".join(cells)} |'


HEAD = (
  '| what happens | lost | ends after | exit codes | again at work after | '
  'the last line says | |\n| --- | --- | --- | --- | --- | --- | --- |'
)


def _show(secs) -> str:
  return '' if secs is None else f'{secs:.1f} s'
