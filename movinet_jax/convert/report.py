"""What became of the arrays of a file and of the variables of a network."""

import dataclasses


class ConversionError(ValueError):
  """The file does not hold this network."""


@dataclasses.dataclass(frozen=True)
class Report:
  """Names, sorted: the network's for `loaded` and `missing`, the file's for `unexpected`.

  `mismatched` says for each name of the network what shape was found and wanted.
  `skipped` are the file's arrays that are state of its training: optimizer slots, steps.
  """

  loaded: tuple[str, ...]
  missing: tuple[str, ...]
  unexpected: tuple[str, ...]
  mismatched: tuple[str, ...]
  skipped: tuple[str, ...]

  def __str__(self):
    lines = []
    for field in dataclasses.fields(self):
      names = getattr(self, field.name)
      lines.append(f'{field.name}: {len(names)}')
      if field.name not in ('loaded', 'skipped'):
        lines += [f'  {name}' for name in names]
    return '\n'.join(lines)

  def check(self, optional: str) -> None:
    """Refuses a file that lacks anything but variables whose path has `optional`.

    Raises:
      ConversionError: with the whole report.
    """
    lacking = [n for n in self.missing + self.mismatched if optional not in n.split('/')]
    if lacking:
      raise ConversionError(
        f'{len(lacking)} variables of the network are not in the file, the first is '
        f'{lacking[0]}. Is it a checkpoint of another variant (base, stream)? '
        'To keep what was not found as it was drawn, pass partial=True (`movinet convert '
        f'--partial`).\n{self}'
      )
