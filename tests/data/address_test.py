"""Addresses as messages show them: without passwords, tokens and stream keys."""

import pytest

from movinet_jax.data.address import hide_secrets, parse_source
from movinet_jax.data.live import open_feed
from tests.data import servers


@pytest.mark.parametrize(
  ('url', 'shown'),
  [
    ('rtsp://me:S3C@cam:554/live', 'rtsp://me:***@cam:554/live'),
    ('rtsp://me:S3C@S3C@cam/live', 'rtsp://me:***@cam/live'),
    ('rtsp://me:S3C?S3C@cam/live', 'rtsp://***@cam/live'),
    ('rtsp://me:S3C/S3C@cam/live', 'rtsp://***@cam/live'),
    ('rtsp://me:S3C#S3C@cam/live', 'rtsp://***@cam/live'),
    ('rtsp://me:S3C@S3C/S3C@cam/live', 'rtsp://***@cam/live'),
    ('rtsp://me:S3C%40@cam/live', 'rtsp://me:***@cam/live'),
    ('rtsp://:S3C@cam/live', 'rtsp://***@cam/live'),
    ('https://S3C:@cam/live', 'https://***@cam/live'),
    ('https://S3C@cam/live', 'https://***@cam/live'),
    ('http://x/a@S3C/S3C@b', 'http://***@b'),
    ('rtsp://cam:554/user=me&password=S3C&channel=1&stream=0.sdp', 'rtsp://cam:554/user=***'),
    ('rtsp://cam/user=me_password=S3C_channel=1', 'rtsp://cam/user=***'),
    ('rtsp://cam/live/key=S3C/S3C==', 'rtsp://cam/live/key=***'),
    ('http://x/a;token=S3C?b=1', 'http://x/a;***'),
    ('http://x/a#token=S3C', 'http://x/a#***'),
    ('http://x/a#S3C', 'http://x/a#***'),
    ('http://x?S3C', 'http://x?***'),
    ('http://x/?a=1;password=S3C', 'http://x/?***'),
    ('http://x/a%3Ftoken%3DS3C', 'http://x/a%3F***'),
    ('srt://x:1?passphrase=S3C&S3C', 'srt://x:1?***'),
    ('rtmp://x/app/S3C', 'rtmp://x/app/***'),
    ('rtmps://x:443/app/S3C/S3C/?S3C', 'rtmps://x:443/app/***?***'),
    ('RTMP://me:S3C@x/S3C', 'RTMP://me:***@x/***'),
    ('rtmp://x/app/S3C playpath=S3C', 'rtmp://x/app/***=***'),
    ('rtmp://x', 'rtmp://x'),
    ('http://[::1]:80/x.m3u8', 'http://[::1]:80/x.m3u8'),
    ('ftp://me:S3C@x/a', 'ftp://me:***@x/a'),
  ],
)
def test_secrets_are_hidden_wherever_they_are(url, shown):
  assert hide_secrets(url) == shown
  assert 'S3C' not in shown


def test_a_scheme_may_be_in_capitals():
  content = servers.encode(3, 'mp4', movflags='faststart')

  def answer(handler):
    servers.send_head(handler, 'video/mp4', len(content))
    handler.wfile.write(content)

  with servers.serve_http(answer) as url:
    source = parse_source(url.replace('http:', 'HTTP:'))
    with open_feed(source) as feed:
      assert len(list(feed.frames())) == 3
