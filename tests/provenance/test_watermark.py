"""The watermark: what it does to frames, and that it is found again in what is left of them."""

import io
import math

import av
import cv2
import numpy as np
import pytest

from radnerf.kernels.watermark import BLOCK, activity, add_pattern
from radnerf.provenance.watermark import Watermark, detect
from radnerf.provenance.watermark.detect import FALSE_ALARM, N_READINGS, Evidence, correlate
from radnerf.provenance.watermark.pattern import LONGEST, SHORTEST, TILE, tile_of, unit_of
from radnerf.provenance.watermark.payload import _SCRAMBLE, N_SYMBOLS, N_VALUES, decode, encode

PORTRAIT = "3f2a9c1d0"


def scene(n_frames=12, side=384, seed=0):
    """Something like a portrait: a plain wall, a textured blob that moves, an edge."""
    generator = np.random.default_rng(seed)
    texture = cv2.GaussianBlur(generator.normal(0, 60, (side, side, 3)), (0, 0), 2)
    rows, columns = np.mgrid[:side, :side].astype(np.float32) / side
    frames = []
    for i in range(n_frames):
        shift = 0.02 * math.sin(i / 3)
        inside = ((rows - 0.45) / 0.3) ** 2 + ((columns - 0.5 - shift) / 0.22) ** 2 < 1
        wall = np.stack([150 + 40 * columns, 140 + 30 * rows, 120 + 0 * rows], -1)
        moved = np.roll(texture, round(side * shift), 1)
        frame = np.where(inside[..., None], moved + np.array([190, 140, 115]), wall)
        frame[round(0.8 * side) :] = 40
        frames.append(np.clip(frame, 0, 255).astype(np.uint8))
    return frames


def encoded(frames, crf):
    """As a player shows the frames after H.264."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": str(crf)})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], "yuv420p"
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))
    buffer.seek(0)
    with av.open(buffer) as file:
        return [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def resized(frames, scale):
    return [cv2.resize(f, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) for f in frames]


def luma(frame):
    return frame.astype(np.float64) @ [0.299, 0.587, 0.114]


def psnr(a, b):
    return 10 * math.log10(255**2 / np.square(luma(a) - luma(b)).mean())


@pytest.fixture(scope="module")
def unmarked():
    return scene()


@pytest.fixture(scope="module")
def marked(unmarked):
    watermark = Watermark(PORTRAIT)
    return [watermark.mark(frame) for frame in unmarked]


def test_frames_stay_within_42_db_and_the_mark_does_not_flicker(unmarked, marked):
    assert min(psnr(a, b) for a, b in zip(unmarked, marked, strict=True)) >= 42
    change = [luma(b) - luma(a) for a, b in zip(unmarked, marked, strict=True)]
    wall = np.s_[: TILE // 4]  # nothing moves there
    flicker = np.abs(np.diff([c[wall] for c in change], axis=0)).mean()
    assert flicker < 0.05 and np.abs(change[0][wall]).mean() > 0.5


def test_a_busy_frame_gets_no_more_than_it_may():
    noise = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    assert psnr(noise, Watermark(PORTRAIT).mark(noise)) >= 42


@pytest.mark.parametrize(
    "attack",
    [
        lambda frames: frames,
        lambda frames: frames[:1],
        lambda frames: encoded(frames, 28),
        lambda frames: encoded(resized(frames, 0.5), 23),
        lambda frames: encoded([f[31:319, 50:338] for f in encoded(frames, 23)], 23),
        lambda frames: [np.clip(0.8 * f + 20, 0, 255).astype(np.uint8) for f in frames],
        lambda frames: [np.pad(f, ((60, 90), (200, 100), (0, 0))) for f in resized(frames, 1.4)],
    ],
    ids=["as it is", "one frame", "crf 28", "half", "cropped twice", "paler", "in a player"],
)
def test_it_is_found_again_and_only_where_it_is(unmarked, marked, attack):
    found = detect(attack(marked))
    assert found.found and found.portrait == PORTRAIT
    control = detect(attack(unmarked))
    assert control is None or not control.found


def test_every_portrait_has_a_mark_of_its_own(unmarked):
    for portrait in ("000000000", "fffffffff", "123456789"):
        found = detect([Watermark(portrait).mark(unmarked[0])])
        assert found.found and found.portrait == portrait


def test_the_tile_is_larger_in_large_frames_and_smaller_in_small_ones():
    assert [unit_of(*size) for size in ((160, 160), (512, 512), (1080, 1920))] == [0.5, 1, 2]
    small, usual, large = (tile_of(encode(PORTRAIT), unit) for unit in (0.5, 1, 2))
    assert large.shape == (2 * TILE, 2 * TILE)
    np.testing.assert_allclose(large[::2, ::2], usual, atol=0.02)
    np.testing.assert_allclose(usual[::2, ::2], small, atol=0.02)
    for side in (160, 1080):
        found = detect([Watermark(PORTRAIT).mark(scene(1, side)[0])])
        assert found.found and found.portrait == PORTRAIT


def test_the_tile_has_the_wavelengths_it_says():
    power = np.abs(np.fft.fft2(tile_of(encode(PORTRAIT)))) ** 2
    frequency = np.hypot(np.fft.fftfreq(TILE)[:, None], np.fft.fftfreq(TILE)[None])
    inside = (frequency >= 1 / LONGEST) & (frequency <= 1 / SHORTEST)
    assert power[inside].sum() > 0.9999 * power.sum()


def test_a_score_is_in_deviations_of_what_is_not_marked():
    generator = np.random.default_rng(3)
    found = correlate(generator.normal(size=(300, 333)).astype(np.float32), 200.0)
    assert found.std() == pytest.approx(1, abs=0.02)
    tile = tile_of(encode(PORTRAIT))
    shift = 37, 101
    found = correlate(np.roll(tile, shift, (0, 1)), float(TILE))
    assert np.unravel_index(found[0].argmax(), found[0].shape) == shift


def test_scores_of_noise_stay_below_the_bound():
    """The bound of a single reading, exp(-t^2 / 2), against a million of them."""
    generator = np.random.default_rng(4)
    noise = [
        correlate(generator.normal(size=(256, 256)).astype(np.float32), 256.0) for _ in range(2)
    ]
    scores = np.abs(np.stack(noise).ravel())
    for t in (1, 2, 3, 4):
        assert (scores > t).mean() <= 2 * math.exp(-t * t / 2)


def test_the_threshold_is_one_in_a_million():
    least = math.sqrt(2 * math.log(N_READINGS / FALSE_ALARM))
    assert 10 < least < 11
    assert N_READINGS * math.exp(-(least**2) / 2) == pytest.approx(FALSE_ALARM)


def test_payloads_are_read_back_in_spite_of_errors():
    symbols = encode(PORTRAIT)
    scores = np.random.default_rng(0).normal(size=(N_SYMBOLS, N_VALUES))
    scores[np.arange(N_SYMBOLS), symbols] = 4.0
    for wrong in (0, 5):
        scores[wrong, (symbols[wrong] + 77) % 256] = 4.5
    portrait, read, score = decode(scores)
    assert portrait == PORTRAIT and (read == symbols).all() and score == pytest.approx(32)


def crc24(content):
    """CRC-24 of RFC 4880, bit by bit."""
    crc = 0xB704CE
    for byte in content:
        for bit in range(7, -1, -1):
            out = (crc >> 23 ^ byte >> bit) & 1
            crc = (crc << 1 & 0xFFFFFF) ^ out * 0x864CFB
    return crc


def test_the_checksum_is_crc_24():
    assert crc24(b"123456789") == 0x21CF02  # the published check value
    word = bytes((encode(PORTRAIT) ^ _SCRAMBLE).tolist())
    assert word[:5] == bytes.fromhex("1" + PORTRAIT)
    assert int.from_bytes(word[5:], "big") == crc24(word[:5])


def test_marks_of_before_are_found_by_programs_of_later():
    """The layout and the pattern of version 1 never change."""
    assert encode(PORTRAIT).tolist() == [73, 49, 190, 41, 253, 175, 193, 240]
    pixels = [4.7732, 1.7784, -0.5365, -1.6165, -1.3858, -0.2296, 1.1693, 2.0796]
    np.testing.assert_allclose(8 * tile_of(encode(PORTRAIT))[0, :8], pixels, atol=1e-3)


def test_the_loops_do_what_plain_numpy_does():
    frame = np.random.default_rng(1).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    blocks = activity(frame)
    assert blocks.shape == (math.ceil(37 / BLOCK), math.ceil(50 / BLOCK))
    grey = frame.astype(int) @ [77, 150, 29] / 256
    right, below = np.abs(np.diff(grey, axis=1))[:-1], np.abs(np.diff(grey, axis=0))[:, :-1]
    both = (right + below) / 2
    for row in range(blocks.shape[0]):
        for column in range(blocks.shape[1]):
            part = both[row * BLOCK : (row + 1) * BLOCK : 2, column * BLOCK : (column + 1) * BLOCK]
            assert blocks[row, column] == pytest.approx(part.mean(), rel=1e-4)
    tile = tile_of(encode(PORTRAIT))[:16, :16].copy()
    even = np.full(blocks.shape, 2.5, np.float32)
    tiled = np.tile(tile, (3, 4))[:37, :50]
    expected = np.clip(np.floor(frame + 2.5 * tiled[..., None] + 0.5), 0, 255)
    assert np.abs(add_pattern(frame, tile, even) - expected).max() <= 1
    ramp = np.tile(np.arange(blocks.shape[1], dtype=np.float32), (blocks.shape[0], 1))
    grey = np.full_like(frame, 100)
    shown = add_pattern(grey, np.ones((16, 16), np.float32), 8 * ramp)[20, :, 0].astype(int) - 100
    at = np.clip((np.arange(50) + 0.5) / BLOCK - 0.5, 0, blocks.shape[1] - 1)
    assert np.abs(shown - 8 * at).max() <= 1


def test_nothing_to_look_at_is_nothing_found():
    assert detect([]) is None
    assert not detect([np.zeros((64, 64, 3), np.uint8)] * 2)


def test_real_videos_are_marked_and_found_and_their_originals_are_not(shared_videos):
    from radnerf.verify.frames import frames_of

    for name in ("obama.mp4", "may.mp4"):
        frames = [f[:448, :448] for f in frames_of(shared_videos / name)][:50]
        watermark = Watermark(PORTRAIT)
        marked = [watermark.mark(frame) for frame in frames]
        assert min(psnr(a, b) for a, b in zip(frames, marked, strict=True)) >= 42
        found = detect(encoded(resized(marked, 0.5), 28))
        assert found.found and found.portrait == PORTRAIT
        control = detect(encoded(resized(frames, 0.5), 28))
        assert control is None or not control.found


def test_still_scenes_add_up():
    """More frames of moving texture say more about the still mark."""
    frames, watermark = scene(30), Watermark(PORTRAIT)
    few, many = Evidence(512), Evidence(512)
    for i, frame in enumerate(frames):
        marked = watermark.mark(frame)
        many.add(marked)
        if i < 2:
            few.add(marked)
    scores = [correlate(each.detail(), float(TILE))[0].max() for each in (few, many)]
    assert scores[1] > scores[0]
