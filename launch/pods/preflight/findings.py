"""Rows of what a preflight finds out."""


class Findings:
  """Rows as they are found out: printed at once, and kept."""

  def __init__(self, quiet: bool = False, part: str = ''):
    self.rows: list[dict] = []
    self._quiet = quiet
    self._part = part

  def name_part(self, part: str) -> 'Findings':
    """The same rows, to which those of a part are added under its name."""
    named = Findings(self._quiet, part)
    named.rows = self.rows
    return named

  def add(self, name: str, said: str, ok: bool | None = True, **facts):
    """A row; `ok` is None for what is worth knowing but stops nothing."""
    part = {'part': self._part} if self._part else {}
    self.rows.append({'name': name, **part, 'ok': ok, 'said': said, **facts})
    if not self._quiet:
      mark = {True: ' ', False: '✗', None: '!'}[ok]
      said = f'{self._part}: {said}' if self._part else said
      print(f'{mark} {name:16} {said}', flush=True)

  @property
  def ok(self) -> bool:
    return all(row['ok'] is not False for row in self.rows)
