"""What is refused before anything is rendered, and the remedy that is named."""

import dataclasses
import re

import pytest

from launch import errors, main
from launch.pods import job as jobs
from launch.pods.check import check_job
from launch.pods.job import Mount, find_option, find_workdir, make_name
from launch.pods.topology import find_topology
from tests.launch.pods.jobs import JOBS, TRAIN, make, make_sweep, make_train

SEARCH = 'configs/search/movinet.py:a2'


def refuse(job) -> str:
  with pytest.raises(ValueError) as caught:
    check_job(job)
  return str(caught.value)


@pytest.mark.parametrize(
  ('job', 'message'),
  [
    (make(('trian', f'--config={TRAIN}'), '/w'), "did you mean 'train'"),
    (make(('submit',), '/w'), 'it is no job'),
    (make(('train',), '/w'), '`movinet train` needs --config=FILE.py'),
    (make(('train', '--config=nowhere.py'), '/w'), "no config file 'nowhere.py'"),
    (make(('train', f'--config={TRAIN}', '--config.lop.x=1'), '/w'), 'loop'),
    (make_train('gs://bucket/a'), '--mount=gs://bucket/a=/data'),
    (make_train('/a\nb'), 'without control characters'),
    (make_train(queue='a b'), 'queue'),
    (make_train(queue='$(x)'), 'queue'),
    (make_train(image='--privileged x'), 'image'),
    (make_train(time='a day'), 'HOURS:MINUTES:SECONDS'),
    (make_train(env=(('A B', '1'),)), 'no name of an environment variable'),
    (make_train(secrets=('A=1',)), 'no name of an environment variable'),
    (make_train(env=(('A', '1'),), secrets=('A',)), 'wanted one'),
    (make_train(restarts=-1), 'restarts is -1'),
    (make_train(nodes=0), 'nodes is 0'),
    (make_train(topology=find_topology('v5e:4x4'), gpus=8), 'one of the two'),
    (make_train(topology=find_topology('v5e:4x4'), nodes=2), 'of 32 chips'),
    (make(('cost', 'movinet/a0'), '/w', nodes=2), '`movinet cost` is one process'),
    (make_train(nodes=3, gpus=8), '--config.batch_size=1032'),
    (make_train(nodes=3), '--config.batch_size=1023'),
    (
      make(('search', f'--config={SEARCH}'), '/w', topology=find_topology('v5e:16x16')),
      '--config.candidates=256',
    ),
    (
      make(('search', f'--config={SEARCH}', '--config.policy_batch_size=200'), '/w'),
      'policy_batch_size is 200, which 128 candidates',
    ),
    (make_train(topology=find_topology('v5e:4x4'), cores=4), 'all of its host'),
    (make_train(gpu_type='h100'), '--gpus=N'),
    (make_train('/a/../b'), 'without ..'),
    (make_train(image='-v/etc:/x'), 'image'),
    (
      make(('sweep', '--config=configs/sweep/x3d.py', '--storage=postgresql://me@localhost/x'),
        '/w', nodes=2),
      'a database that they share',
    ),
    (make_sweep(processes=2), 'say --workers'),
    (make_sweep(topology=find_topology('v5e:4x4')), '--nodes=4'),
    (make(('sweep', '--config=configs/sweep/x3d.py'), '/w', nodes=2), '--storage='),
  ],
)  # fmt: skip
def test_refused(job, message):
  assert message in refuse(job)


@pytest.mark.parametrize(
  'name', ['', 'A', 'a_b', '-a', 'a-', '1a', 'a.b', 'a b', 'a' * 64, 'ä', 'a\n']
)
def test_names_are_dns_labels(name):
  assert 'DNS label' in refuse(make_train_named(name))


def make_train_named(name):
  return dataclasses.replace(JOBS['slurm']['train'], name=name)


@pytest.mark.parametrize(
  ('workdir', 'name'),
  [
    ('runs/a2', 'train-a2'),
    ('runs/A2_Stream.v1/', 'train-a2-stream-v1'),
    ('/x/…', 'train'),
    ('/x/' + 'long-' * 20, 'train-long-long-long-long-long-long'),
  ],
)
def test_made_names_are_good(workdir, name):
  made = make_name('train', workdir)
  assert re.fullmatch(rf'{name}-[0-9a-f]{{4}}', made)
  assert len(made) <= 40
  assert made != make_name('train', f'/other{workdir}')
  check_job(dataclasses.replace(JOBS['slurm']['train'], name=made))


@pytest.mark.parametrize(
  'word',
  [
    '--storage=postgresql://me:hunter2@db/studies',
    '--storage=postgresql+psycopg://me:p%40hunter2@db:5432/studies',
    '--storage=postgresql://me@db/studies?password=hunter2',
    '--storage=host=db password=hunter2',
    'postgresql://:hunter2@db/x',
    'postgresql://me:/hunter2@db/x',
    'postgres://me:a@/hunter2@db/x',
  ],
)
def test_passwords_are_refused_and_not_repeated(word):
  job = make_sweep()
  for given in (('sweep', *job.words[1:], word), (*job.words, '--storage', word)):
    message = refuse(dataclasses.replace(job, words=given))
    assert 'hunter2' not in message
    assert '--secret=PGPASSWORD' in message


@pytest.mark.parametrize(
  'word',
  [
    *('postgresql://me@db:5432/studies', 'http://host:80/a@b', 'gs://b/a', 'a:b@c'),
    *('/path/a:b@c', 'https://example.org/x?y=1'),
  ],
)
def test_addresses_without_a_password_are_fine(word):
  check_job(make_train(env=(('PLACE', word),)))


@pytest.mark.parametrize('key', ['PGPASSWORD', 'WANDB_API_KEY', 'HF_TOKEN', 'MY_SECRET'])
def test_secrets_in_env_are_refused(key):
  message = refuse(make_train(env=((key, 'hunter2'),)))
  assert f'say --secret={key}' in message
  assert 'hunter2' not in message


def test_the_config_is_read_with_its_overrides():
  base = ('train', f'--config={TRAIN}')
  check_job(make((*base, '--config.batch_size=24'), '/w', nodes=3, gpus=8))
  # Two words are one override, and of two the last counts.
  words = (*base, '--config.batch_size', '24', '--config.batch_size=25')
  assert 'batch_size is 25' in refuse(make(words, '/w', nodes=3, gpus=8))


def test_the_mesh_shares_devices(tmp_path):
  config = tmp_path / 'long.py'
  config.write_text(
    'from configs.movinet import quickstart\n'
    'def get_config():\n'
    '  cfg = quickstart.get_config()\n'
    "  cfg.batch_size, cfg.mesh = 6, {'time': 1, 'space': 4}\n"
    '  return cfg\n'
  )
  job = make(('train', f'--config={config}'), '/w', nodes=3, gpus=8)
  check_job(job)
  assert 'multiples of 4' in refuse(dataclasses.replace(job, gpus=2))
  narrow = (*job.words, '--config.mesh.space=1')
  assert 'which 24 devices' in refuse(dataclasses.replace(job, words=narrow))


@pytest.mark.parametrize(
  ('words', 'value'),
  [
    (['train', '--workdir=a'], 'a'),
    (['train', '--workdir', 'a'], 'a'),
    (['train', '--workdir=a', '--workdir=b'], 'b'),
    (['train', '--workdir=a=b'], 'a=b'),
    (['train', '--workdirs=a'], ''),
    (['train', '--workdir'], ''),
  ],
)
def test_find_option(words, value):
  assert find_option(words, 'workdir') == value


def test_a_command_needs_a_workdir():
  assert find_workdir(['evaluate', '--checkpoint=runs/a']) == 'runs/a'
  with pytest.raises(ValueError, match='names no --workdir'):
    find_workdir(['train', '--config=x'])


def test_counts():
  pod = make_train(topology=find_topology('v5e:16x16'))
  assert (pod.hosts, pod.devices) == (64, 256)
  assert (make_train(nodes=3, gpus=8).hosts, make_train(nodes=3, gpus=8).devices) == (
    3,
    24,
  )


def test_boards_read_buckets_from_anywhere():
  job = make_train('/data/x/a2', mounts=(Mount('gs://b/in/', '/data'),))
  assert jobs.list_boards(job) == (
    ('TensorBoard', 'tensorboard --logdir=gs://b/in/x/a2/tensorboard'),
  )


def test_permanent_and_retriable_codes_are_as_movinet_documents_them():
  codes = {int(code) for code in re.findall(r'^(\d+) ', main.__doc__, re.MULTILINE)}
  for code in codes - {0, 1}:
    retriable = code == 75 or code > 128
    assert errors.is_retriable(code) == retriable
    assert (code in jobs.PERMANENT) != retriable
