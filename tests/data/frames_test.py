"""Videos that are folders of numbered pictures."""

import os
import pathlib
import pickle

import numpy as np
import pytest
from PIL import Image, ImageOps

from movinet_jax.data import Cut, DecodeError, FrameFolder, VideoInfo, frames, reader
from movinet_jax.data.filters import shown_size
from movinet_jax.data.live import read_frames

WIDTH, HEIGHT = 48, 32


def write_picture(path, number, *, size=(WIDTH, HEIGHT), **options):
  """A gray picture as bright as its number: 8 times it."""
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.new('RGB', size, (8 * number,) * 3).save(path, **options)


@pytest.fixture
def folder(tmp_path):
  """Twelve pictures whose order by text is another than by number."""
  for number in range(1, 13):
    write_picture(tmp_path / 'clip' / f'frame_{number}.jpg', number, quality=95)
  return FrameFolder(str(tmp_path / 'clip'), 10.0)


def take(*times_secs, size=(HEIGHT, WIDTH)):
  return lambda info: Cut(times_secs, (0, 0, info.width, info.height), size)


def read_numbers(folder, *times_secs):
  clip, _ = reader.read_clip(folder, take(*times_secs))
  return (clip.mean((1, 2, 3)) / 8).round().astype(int).tolist()


def test_a_folder_is_a_video_at_its_rate(folder):
  info = VideoInfo(1.2, 10.0, WIDTH, HEIGHT, 'mjpeg', 12)
  assert reader.probe(folder) == info
  assert reader.count_frames(folder) == 12
  # In any order, repeated, nearest in time, and the last one held.
  assert read_numbers(folder, 0.9, 0.0, 0.14, 0.16, 0.16, 7.0) == [10, 1, 2, 3, 3, 12]
  assert pickle.loads(pickle.dumps(folder)) == folder


def test_only_the_pictures_that_are_wanted_are_decoded(folder):
  with open(os.path.join(folder.path, 'frame_7.jpg'), 'wb') as file:
    file.write(b'\xff\xd8 no picture')
  assert read_numbers(folder, 0.5, 0.7) == [6, 8]
  with pytest.raises(DecodeError, match=r'frame_7\.jpg cannot be decoded'):
    read_numbers(folder, 0.6)


def test_every_frame_is_told_of_while_they_are_counted(folder):
  told = []
  reader.count_frames(folder, on_frame=lambda: told.append(1))
  assert len(told) == 12


@pytest.mark.parametrize(
  'pattern', ['{:05d}.JPG', 'img_{:05d}.png', 'v2_{}.bmp', '{:03d}_rgb.webp']
)
def test_kinds_of_pictures_and_of_names(pattern, tmp_path):
  lossless = {'lossless': True} if pattern.endswith('webp') else {}
  for number in range(9, 12):
    write_picture(tmp_path / pattern.format(number), number, **lossless)
  for other in ('._00010.jpg', 'Thumbs.db', 'notes.txt'):
    (tmp_path / other).write_bytes(b'x')
  folder = FrameFolder(str(tmp_path), 2.0)
  assert reader.count_frames(folder) == 3
  assert read_numbers(folder, 0.0, 0.5, 1.0) == [9, 10, 11]


def test_the_suffix_of_a_picture_may_be_wrong(tmp_path):
  write_picture(tmp_path / '1.png', 3)
  os.rename(tmp_path / '1.png', tmp_path / '1.jpg')
  assert read_numbers(FrameFolder(str(tmp_path), 1.0), 0.0) == [3]


def test_pixels_are_those_of_the_picture(tmp_path):
  pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
  Image.fromarray(pixels).save(tmp_path / '1.png')
  clip, _ = reader.read_clip(FrameFolder(str(tmp_path), 1.0), take(0.0))
  assert np.array_equal(clip[0], pixels)


@pytest.mark.parametrize('suffix', ['jpg', 'png', 'webp'])
@pytest.mark.parametrize('orientation', range(10))  # EXIF knows 1 to 8
def test_a_picture_is_turned_as_its_exif_says(orientation, suffix, tmp_path):
  pixels = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
  pixels[:16, :16], pixels[16:, :16] = 250, 10  # no two turns of it look alike
  exif, path = Image.Exif(), tmp_path / f'1.{suffix}'
  exif[0x112] = orientation
  lossless = {'lossless': True} if suffix == 'webp' else {}
  Image.fromarray(pixels).save(path, exif=exif, **lossless)
  wanted = np.asarray(ImageOps.exif_transpose(Image.open(path))).astype(int)
  folder = FrameFolder(str(tmp_path), 1.0)
  clip, _ = reader.read_clip(folder, lambda info: take(0.0, size=(info.height, info.width))(info))
  assert clip[0].shape == wanted.shape
  assert np.abs(clip[0] - wanted).max() < 30
  ((_, live),) = read_frames(folder)
  assert np.array_equal(live, clip[0])


def test_a_picture_stays_turned_when_another_is_gone(tmp_path):
  exif = Image.Exif()
  exif[0x112] = 6
  for number in (1, 2):
    write_picture(tmp_path / f'{number}.jpg', number, exif=exif)
  pictures = frames.Frames(FrameFolder(str(tmp_path), 1.0))
  first = pictures.decode(0)
  pictures.decode(1)
  assert shown_size(first) == (HEIGHT, WIDTH)


def test_a_picture_whose_exif_is_damaged_is_shown(tmp_path):
  Image.new('RGB', (WIDTH, HEIGHT)).save(tmp_path / '1.jpg', exif=b'Exif\0\0MM\0*\xff\xff\xff')
  info = reader.probe(FrameFolder(str(tmp_path), 1.0))
  assert (info.width, info.height) == (WIDTH, HEIGHT)


def _lose(path, *numbers):
  for number in numbers:
    os.remove(path / f'frame_{number}.jpg')


def _cut(path):
  content = (path / 'frame_4.jpg').read_bytes()
  (path / 'frame_4.jpg').write_bytes(content[: len(content) * 2 // 3])


def _add_fifo(path):
  _lose(path, 4)
  os.mkfifo(path / 'frame_4.jpg')


@pytest.mark.parametrize(
  ('spoil', 'reason'),
  [
    (lambda p: _lose(p, 2), r'frame 2 of 1\.\.12 is missing$'),
    (lambda p: _lose(p, 5, 7), r'frame 5 of 1\.\.12 is missing, and 1 more$'),
    (lambda p: _lose(p, *range(1, 13)), r'holds no pictures \(bmp jpeg jpg png webp\)'),
    (lambda p: (p / 'frame_4.jpg').write_bytes(b''), r'frame_4\.jpg is empty'),
    (lambda p: (p / 'frame_4.jpg').write_text('GIF89a'), 'is no JPEG, PNG, WebP or BMP picture'),
    (_cut, r'frame_4\.jpg cannot be decoded'),
    (_add_fifo, r'frame_4\.jpg is not a regular file'),
    (
      lambda p: write_picture(p / 'frame_4.jpg', 4, size=(24, 16)),
      r'frame_4\.jpg is 24x16, and frame_1\.jpg is 48x32',
    ),
    (
      lambda p: write_picture(p / 'frame_04.jpg', 4),
      r'frame_04\.jpg and frame_4\.jpg have the same number',
    ),
    (lambda p: write_picture(p / 'cover.jpg', 4), r'the name of cover\.jpg has no number'),
    (
      lambda p: write_picture(p / 'flow_x_1.jpg', 4),
      r'holds 2 series of pictures, wanted one: flow_x_… 1, frame_… 12',
    ),
  ],
)
def test_what_is_wrong_is_named(folder, spoil, reason, no_hang):
  spoil(pathlib.Path(folder.path))
  with pytest.raises(DecodeError, match=reason):
    reader.count_frames(folder)


def test_no_folder_is_named(tmp_path):
  with pytest.raises(DecodeError, match=r'clip 1: cannot be opened: No such file'):
    reader.probe(FrameFolder(str(tmp_path / 'none'), 1.0), name='clip 1')


def test_a_picture_that_is_too_large_is_not_decoded(folder):
  with pytest.raises(DecodeError, match='has more than 1,000 pixels'):
    reader.read_clip(folder, take(0.0), max_pixels=1000)


def test_a_stream_of_pictures_has_times(folder):
  shown = list(frames.Frames(folder).decode_live())
  assert [round(secs, 3) for secs, _ in shown] == [i / 10 for i in range(12)]
  assert all(frame.duration * frame.time_base == pytest.approx(0.1) for _, frame in shown)
