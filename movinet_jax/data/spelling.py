r"""Names of files and labels as texts of one line that JSON, CSV and any terminal can carry.

A file's name is bytes: it may hold line ends, or be no UTF-8 at all. Such a name is spelled with
escapes, `caf\xe9.mp4` and `a\rb.mp4`, and every other name stays as it is.
"""

import re
import unicodedata

# Control characters, line and paragraph separators, and bytes that are no UTF-8, for which
# Python has the lone surrogates from U+DC80 on.
_TROUBLE = re.compile('[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]')
_ESCAPE = re.compile(r'\\(\\|[trn]|x[0-9a-f]{2}|u[0-9a-f]{4})')
_SHORT = {'\t': 't', '\r': 'r', '\n': 'n', '\\': '\\'}
_LONG = {short: letter for letter, short in _SHORT.items()}
_BYTES = 0xDC00  # what Python adds to a byte that is no UTF-8


def spell(name: str) -> str:
  r"""Spells a name as a text that prints; no two names have the same.

  A name that prints stays as it is, unless it reads as the escapes of another: the file that is
  called `a\rb.mp4`, with a backslash, becomes `a\\rb.mp4`.
  """
  plain = not _TROUBLE.search(name) and unspell(name) == name
  return name if plain else _escape(name)


def unspell(text: str) -> str:
  """Finds the name that `spell` has spelled so."""
  name = _ESCAPE.sub(_read_escape, text)
  escaped = name != text and _escape(name) == text
  return name if escaped and spell(name) == text else text


def spell_raw(text: str) -> str:
  """Spells a text that nothing has spelled yet, which its letters show; others stay."""
  return _escape(text) if _TROUBLE.search(text) else text


def spell_label(text: str) -> str:
  """Spells a label: texts that differ only in Unicode's normal form are one label."""
  return unicodedata.normalize('NFC', spell_raw(text))


def _escape(name: str) -> str:
  return re.sub(rf'\\|{_TROUBLE.pattern}', _write_escape, name)


def _write_escape(found: re.Match) -> str:
  letter = found[0]
  if letter in _SHORT:
    return '\\' + _SHORT[letter]
  code = ord(letter)
  if _BYTES + 0x80 <= code <= _BYTES + 0xFF:
    return f'\\x{code - _BYTES:02x}'
  return f'\\x{code:02x}' if code < 0x80 else f'\\u{code:04x}'


def _read_escape(found: re.Match) -> str:
  text = found[1]
  if text in _LONG:
    return _LONG[text]
  code = int(text[1:], 16)
  return chr(code + _BYTES if text[0] == 'x' and code >= 0x80 else code)
