"""Kubernetes manifests as text that every YAML reader takes for the same values."""

import re
from collections.abc import Mapping

import yaml

# Readers differ in what they take for a number or a truth value (1e3, 0o7, y, on), so
# only words that are neither to any of them go without quotes.
_PLAIN = re.compile(r'[A-Za-z/][A-Za-z0-9_./-]{2,}')
_AMBIGUOUS = re.compile(r'(?i)(true|false|yes|off|null|nan|inf|infinity)')


def to_yaml(manifest: Mapping) -> str:
  return yaml.dump(dict(manifest), Dumper=_Dumper, sort_keys=False, width=1000)


class _Dumper(yaml.SafeDumper):
  def ignore_aliases(self, data):
    return True

  def increase_indent(self, flow=False, indentless=False):
    return super().increase_indent(flow, False)


def _represent(dumper, text: str):
  plain = _PLAIN.fullmatch(text) and not _AMBIGUOUS.fullmatch(text)
  return dumper.represent_scalar('tag:yaml.org,2002:str', text, style=None if plain else '"')


_Dumper.add_representer(str, _represent)
