"""The ancestors of the best network of an evolution, and what each mutation changed."""

import itertools
from collections.abc import Mapping

from nas.history import Trial
from nas.report.decisions import describe_changes, name_choices
from nas.report.html import (
  Html,
  capitalize,
  format_change,
  format_number,
  format_percent,
  join,
  missing,
  note,
  table,
)
from nas.report.trials import SweepFindings


def make_lineage(findings: SweepFindings) -> Html:
  if findings.best is None:
    return missing('There is no best network yet, and so no line of ancestors.')
  line = [findings.trials[number] for number in findings.conclusion.path]
  rows = [[line[0].number, 'drawn at random', '', '', _say_value(line[0]), '']]
  for parent, child in itertools.pairwise(line):
    mutation = _describe_mutation(findings, parent, child)
    gain = format_change(child.value - parent.value)
    rows.append([child.number, *mutation, _say_value(child), gain])
  said = (
    f'The best network, trial {line[-1].number}, is {len(line) - 1} mutations away from '
    'a network drawn at random. A mutation resamples one decision; what it opens '
    'comes with it.'
  )
  names = (
    'Trial',
    'Mutated',
    'Before',
    'After',
    capitalize(findings.value_title),
    'Gain',
  )
  said += _say_acceptance(findings.conclusion.facts)
  return join([note(said), table(names, rows, texts=4)])


def _say_acceptance(facts: Mapping) -> str:
  if not facts.get('children'):
    return ''
  return (
    f' Of {facts["children"]:,} children trained, {facts["accepted"]:,} were better than '
    f'the worst of the population and joined it ({format_percent(facts["acceptance"])}).'
  )


def _say_value(trial: Trial) -> str:
  return format_number(trial.value, 4)


def _describe_mutation(findings: SweepFindings, parent: Trial, child: Trial):
  """The decision that was mutated, what it was, and what it became."""
  space = findings.space
  before, after = space.describe(parent.choices), space.describe(child.choices)
  changed = {k: v for k, v in after.items() if k not in before or before[k] != v}
  mutated = child.note['mutated']
  n = space.number(mutated)
  said = describe_changes(space, changed).removeprefix(f'{mutated} → ')
  return mutated, name_choices(space)[n][parent.choices[n]], said
