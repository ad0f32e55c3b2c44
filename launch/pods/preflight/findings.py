"""Rows of what a preflight finds out."""


class Findings:
  """Rows as they are found out: printed at once, and kept."""

  def __init__(self, quiet: bool = False):
    self.rows: list[dict] = []
    self._quiet = quiet

  def add(self, name: str, said: str, ok: bool | None = True, **facts):
    """A row; `ok` is None for what is worth knowing but stops nothing."""
    self.rows.append({'name': name, 'ok': ok, 'said': said, **facts})
    if not self._quiet:
      mark = {True: ' ', False: '✗', None: '!'}[ok]
      print(f'{mark} {name:16} {said}', flush=True)

  @property
  def ok(self) -> bool:
    return all(row['ok'] is not False for row in self.rows)
