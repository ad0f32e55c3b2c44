"""Names that do not print are spelled with escapes, and no two of them alike."""

import itertools
import os

import pytest

from movinet_jax.data.spelling import spell, spell_label, spell_raw, unspell

BYTE = os.fsdecode(b'\xe9')


@pytest.mark.parametrize(
  'name',
  [
    'a.mp4',
    'été/日本 "x", y.mp4',
    'e\u0301.mp4',
    '👩\u200d💻.mp4',
    '\\',
    r'clips\new\a.mp4',
    r'\x',
  ],
)
def test_names_that_print_stay_as_they_are(name):
  assert spell(name) == unspell(name) == spell_raw(name) == name


@pytest.mark.parametrize(
  ('name', 'spelled'),
  [
    (f'caf{BYTE}.mp4', r'caf\xe9.mp4'),
    ('a\rb.mp4', r'a\rb.mp4'),
    ('a\nb\tc.mp4', r'a\nb\tc.mp4'),
    ('\x1b[31m\x7f', r'\x1b[31m\x7f'),
    ('a\x85b\u2028c', r'a\u0085b\u2028c'),
    ('a\\b\rc', r'a\\b\rc'),
    (r'a\rb.mp4', r'a\\rb.mp4'),
    (r'a\\rb.mp4', r'a\\\\rb.mp4'),
    (r'a\\b.mp4', r'a\\b.mp4'),
  ],
)
def test_others_are_escaped_and_found_again(name, spelled):
  assert spell(name) == spelled
  assert unspell(spelled) == name
  assert spelled.isprintable()


def test_no_two_names_are_spelled_alike():
  letters = ['\\', 'r', '\r', 'x', '0', '1', '\x01', 'e', '9', BYTE]
  names = [''.join(some) for n in range(1, 6) for some in itertools.product(letters, repeat=n)]
  spelled = [spell(name) for name in names]
  assert len(set(spelled)) == len(names)
  assert [unspell(text) for text in spelled] == names


def test_labels_of_one_look_are_one_label():
  assert spell_label('cafe\u0301') == spell_label('caf\xe9') == 'caf\xe9'
  assert spell_label(f'caf{BYTE}') == spell_label(r'caf\xe9') == r'caf\xe9'
