"""The command finds its verbs and answers errors with words and codes."""

import pytest

from launch import main
from movinet_jax.data import SourceError, TooManyFailures
from movinet_jax.train.loop import NonFiniteLoss, Preempted


def test_help_lists_every_verb(capsys):
  assert main.main(['--help']) == 0
  printed = capsys.readouterr().out
  verbs = main.list_verbs()
  assert {'train', 'evaluate', 'stream', 'check-data', 'build-data'} <= set(verbs)
  assert all(f'  {verb} ' in printed for verb in verbs)


@pytest.mark.parametrize('verb', sorted(main.list_verbs()))
def test_every_verb_has_help_with_an_example(verb, capsys):
  with pytest.raises(SystemExit) as stop:
    main.main([verb, '--help'])
  assert stop.value.code == 0
  assert f'movinet {verb} ' in capsys.readouterr().out


def test_a_wrong_verb_names_the_nearest(capsys):
  assert main.main(['trian']) == 2
  assert "did you mean 'train'?" in capsys.readouterr().err


@pytest.mark.parametrize(
  ('error', 'code'),
  [
    (Preempted(3), 75),
    (NonFiniteLoss(3, ['a.mp4'], None), 70),
    (TooManyFailures('a.mp4'), 65),
    (SourceError('no folder'), 2),
    (ValueError('bad'), 2),
    (FileNotFoundError('gone'), 2),
    (AssertionError('ours'), None),
  ],
)
def test_exit_codes(error, code):
  assert main.find_exit_code(error) == code
