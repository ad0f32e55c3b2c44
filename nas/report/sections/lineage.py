"""The ancestors of the best network of an evolution, and what each mutation changed."""

import itertools

from nas.choices import describe_changes, name_choices
from nas.history import Trial
from nas.report.amounts import format_number, format_percent
from nas.report.findings import SweepFindings


def make(findings: SweepFindings) -> list[tuple]:
  if findings.best is None:
    return [('missing', 'There is no best network yet, and so no line of ancestors.')]
  line = [findings.trials[number] for number in findings.conclusion.path]
  rows = [[line[0].number, 'drawn at random', '', '', format_number(line[0].value), '']]
  for parent, child in itertools.pairwise(line):
    values = format_number(child.value), format_number(child.value - parent.value, '+.4f')
    rows.append([child.number, *_describe_mutation(findings, parent, child), *values])
  said = f'The best network is {len(line) - 1} mutations away from one drawn at random.'
  if (facts := findings.conclusion.facts).get('children'):
    share = f'{format_percent(facts["acceptance"])} of {facts["children"]:,} children trained'
    said += f' {share} were better than the worst of the population and joined it.'
  names = 'Trial', 'Mutated', 'Before', 'After', findings.value_title, 'Gain'
  return [('note', said), ('table', names, rows, 4)]


def _describe_mutation(findings: SweepFindings, parent: Trial, child: Trial):
  """Returns the decision that was mutated, what it was, and what it became."""
  space, mutated = findings.space, child.note['mutated']
  before, after = space.describe(parent.choices), space.describe(child.choices)
  changed = {k: v for k, v in after.items() if k not in before or before[k] != v}
  n = space.number(mutated)
  said = describe_changes(space, changed).removeprefix(f'{mutated} → ')
  return mutated, name_choices(space)[n][parent.choices[n]], said
