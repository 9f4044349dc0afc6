import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from pruning_lit.data.image_file import UnreadableImage, open_image

ORIENTATION = 0x0112
RAMP = np.linspace(0, 2**16 - 1, 48).astype(np.uint16).reshape(6, 8)
IN_BYTES = np.round(RAMP / 257).astype(np.uint8)


def deep_png(path, pixels, colour_type):
    """A PNG file with 16 bits per channel, from its specification: Pillow writes none in colour."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels.reshape(height, -1))
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks
        )
    )


def deep_pgm(path, pixels, largest):
    height, width = pixels.shape
    path.write_bytes(f"P5 {width} {height} {largest}\n".encode() + pixels.astype(">u2").tobytes())


def tif_of_12_bits(path, pixels):
    """A TIFF file with two pixels in three bytes, from its specification."""
    height, width = pixels.shape
    high, low = pixels[:, ::2], pixels[:, 1::2]
    packed = np.stack([high >> 4, (high & 15) << 4 | low >> 8, low & 255], axis=-1).astype(np.uint8).tobytes()
    entries = ((256, width), (257, height), (258, 12), (259, 1), (262, 1), (273, 8), (277, 1), (279, len(packed)))
    ifd = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(packed)) + packed + ifd + bytes(4))


def read(path):
    image = open_image(path)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize(
    "kind", ["png", "pgm", "pgm of 10 bits", "tif", "tif, big-endian", "tif, 0 is white", "tif of 12 bits"]
)
def test_grey_of_16_bits_is_scaled_by_its_depth(tmp_path, kind):
    path = tmp_path / f"deep.{kind[:3]}"
    if kind == "png":
        deep_png(path, RAMP, 0)
    elif kind == "pgm":
        deep_pgm(path, RAMP, 2**16 - 1)
    elif kind == "pgm of 10 bits":
        deep_pgm(path, RAMP // 64, 2**10 - 1)
    elif kind == "tif of 12 bits":
        tif_of_12_bits(path, RAMP // 16)
    elif kind == "tif, 0 is white":
        Image.fromarray(2**16 - 1 - RAMP).save(path, tiffinfo={262: 0})
    else:
        Image.fromarray(RAMP.astype(">u2" if "big" in kind else "<u2")).save(path)
    grey = read(path)
    assert np.abs(grey.astype(int) - IN_BYTES[..., None]).max() <= ("of 1" in kind)
    assert grey.min() == 0
    assert grey.max() == 255


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_colour_and_transparent_images_of_16_bits_are_scaled(tmp_path, colour_type, channels):
    pixels = np.random.default_rng(0).integers(0, 2**16, (6, 8, channels), dtype=np.uint16)
    deep_png(tmp_path / "deep.png", pixels, colour_type)
    colours = pixels[..., :3] if channels > 2 else pixels[..., :1]
    assert np.abs(read(tmp_path / "deep.png") - colours / 257.0).max() <= 1


def test_other_modes_are_read_as_their_colours(tmp_path):
    colours = np.zeros((6, 8, 3), dtype=np.uint8)
    colours[:3], colours[3:] = (255, 0, 0), (0, 255, 255)
    image = Image.fromarray(colours)
    for mode, name in (("P", "a.png"), ("CMYK", "b.tif"), ("RGBA", "c.webp"), ("RGBA", "d.png"), ("P", "e.bmp")):
        image.convert(mode).save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
        assert np.array_equal(read(tmp_path / name), colours), name
    bits = np.arange(48).reshape(6, 8) % 2 == 0
    Image.fromarray(bits).save(tmp_path / "bits.png")
    assert np.array_equal(read(tmp_path / "bits.png")[..., 0], bits * np.uint8(255))
    Image.fromarray(IN_BYTES).convert("LA").save(tmp_path / "la.png")
    assert np.array_equal(read(tmp_path / "la.png")[..., 0], IN_BYTES)


@pytest.mark.parametrize(("numbers", "words"), [(np.float32, "floating-point numbers"), (np.int32, "32-bit integers")])
def test_numbers_of_unknown_scale_are_refused(tmp_path, numbers, words):
    Image.fromarray(RAMP.astype(numbers)).save(tmp_path / "deep.tif")
    with pytest.raises(UnreadableImage, match=rf"'.*deep.tif' has {words} as pixels \(mode [IF]\).* 8 or 16 bits"):
        open_image(tmp_path / "deep.tif")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [(1, lambda x: x), (2, np.fliplr), (3, lambda x: np.rot90(x, 2)), (6, lambda x: np.rot90(x, -1)), (8, np.rot90)],
)
def test_images_are_turned_as_their_exif_data_say(tmp_path, name, orientation, upright):
    pixels = np.zeros((24, 40, 3), dtype=np.uint8)
    pixels[:8, :16] = 255  # the corner that says how it lies
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(pixels).save(tmp_path / name, exif=exif, quality=95)
    expected = upright(pixels)
    turned = read(tmp_path / name)
    assert turned.shape == expected.shape
    assert np.abs(turned.astype(int) - expected).mean() < 2


def test_deep_grey_is_turned_too(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(RAMP).save(tmp_path / "deep.png", exif=exif)
    assert np.array_equal(read(tmp_path / "deep.png")[..., 0], np.rot90(IN_BYTES, -1))


def test_damaged_exif_data_leave_the_image_as_it_lies(tmp_path):
    Image.fromarray(IN_BYTES).save(tmp_path / "a.png", exif=b"Exif\0\0no data at all")
    assert np.array_equal(read(tmp_path / "a.png")[..., 0], IN_BYTES)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK"])
def test_uncompressed_tiffs_are_turned_like_others(tmp_path, mode, orientation):
    image = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10).convert(mode)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(tmp_path / "turned.tif", exif=exif)
    image.getexif()[ORIENTATION] = orientation
    upright = ImageOps.exif_transpose(image).convert("RGB")
    assert np.array_equal(np.asarray(open_image(tmp_path / "turned.tif")), np.asarray(upright))
