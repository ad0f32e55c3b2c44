"""Class folders of clip folders of pictures."""

import pytest
from PIL import Image

from movinet_jax.data import FrameFolder, SourceError, TrainClip, make_batches, open_source

CLIPS = ('run/b', 'run/a', 'walk/c')


@pytest.fixture
def root(tmp_path):
  for clip in CLIPS:
    for number in range(1, 9):
      path = tmp_path / 'train' / clip / f'{number:05d}.jpg'
      path.parent.mkdir(parents=True, exist_ok=True)
      Image.new('RGB', (24, 16), (number, 0, 0)).save(path)
  return tmp_path


def test_clips_of_classes(root):
  (root / 'train' / '.DS_Store').write_bytes(b'x')
  (root / 'train' / '@eaDir' / 'x').mkdir(parents=True)
  (root / 'train' / 'run' / 'labels.txt').write_text('x')
  source = open_source('frames', root=str(root), split='train', fps=12)
  assert source.labels == ('run', 'walk')
  assert [(r.name, r.label) for r in source.records] == [('run/a', 0), ('run/b', 0), ('walk/c', 1)]
  assert source.records[0].video == FrameFolder(str(root / 'train' / 'run' / 'a'), 12.0)
  with make_batches(
    source, TrainClip(frames=4, size=8, fps=6), batch_size=2, train=True
  ) as batches:
    batch = next(batches)
  assert not batch['failed'].any()
  assert batch['video'].shape == (2, 4, 8, 8, 3)


def test_a_table_of_clips(root):
  """As Jester and Something-Something have them."""
  table = root / 'train.csv'
  table.write_text('a;Thumb Up\nb;Thumb Down\n')
  source = open_source('csv', path=str(table), root=str(root / 'train' / 'run'), fps=12)
  assert [(r.name, r.video.path, r.video.fps) for r in source.records] == [
    (name, str(root / 'train' / 'run' / name), 12.0) for name in ('a', 'b')
  ]
  assert source.labels == ('Thumb Down', 'Thumb Up')


def _move(root, place, target):
  (root / target).parent.mkdir(parents=True, exist_ok=True)
  (root / place).rename(root / target)


@pytest.mark.parametrize(
  ('spoil', 'words'),
  [
    (
      lambda r: _move(r, 'run/a/00001.jpg', 'run/1.jpg'),
      "holds the picture '1.jpg'; wanted CLASS/",
    ),
    (lambda r: (r / 'run' / 'x.mp4').touch(), "holds the video 'x.mp4'; .* or name='folder'"),
    (lambda r: (r / 'swim').mkdir(), 'swim has no clip folders; wanted CLASS/clip'),
    (lambda r: (r / 'swim' / 'a').mkdir(parents=True), 'a holds no pictures; wanted'),
    (
      lambda r: _move(r, 'run', 'train/run'),
      "run holds no pictures but the folder 'a'; .*pass split='train'",
    ),
  ],
)
def test_errors_say_what_is_there_and_what_is_wanted(root, spoil, words):
  spoil(root / 'train')
  with pytest.raises(SourceError, match=words):
    open_source('frames', root=str(root), split='train', fps=12)


def test_a_rate_is_needed(root):
  with pytest.raises(SourceError, match="needs 'fps'"):
    open_source('frames', root=str(root))
  with pytest.raises(SourceError, match='fps is 0'):
    open_source('frames', root=str(root), split='train', fps=0)
  for text in ('fast', '0', '1/0', '-5', 'nan'):
    with pytest.raises(SourceError, match=f"'{text}' is no rate; wanted pictures a second"):
      open_source('frames', root=str(root), split='train', fps=text)


@pytest.mark.parametrize(('fps', 'rate'), [('30000/1001', 30 / 1.001), ('12.5', 12.5), (30, 30.0)])
def test_a_rate_may_be_a_fraction(fps, rate, root):
  source = open_source('frames', root=str(root), split='train', fps=fps)
  assert source.records[0].video.fps == pytest.approx(rate, abs=1e-9)


def test_a_folder_of_videos_says_what_reads_pictures(root):
  with pytest.raises(SourceError, match="name='frames' with fps=RATE reads it"):
    open_source('folder', root=str(root), split='train')
