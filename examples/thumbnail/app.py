"""Turns a picture into a thumbnail.

Takes {"image": BASE64, "width": 200}, or a picture as the raw body of an HTTP event.
Gives the thumbnail in base64 and the sizes of both.
"""

import base64
import io

from PIL import Image, ImageOps

WIDTH = 200
QUALITY = 85


def handler(event, context):
    original = picture_of(event)
    width = int(event.get("width", WIDTH))
    if not 1 <= width <= 4096:
        raise ValueError(f"width is 1 to 4096, not {width}")

    with Image.open(io.BytesIO(original)) as image:
        size = image.size
        # Phones store a picture as the sensor saw it and say which way is up.
        upright = ImageOps.exif_transpose(image).convert("RGB")
    height = max(1, round(upright.height * width / upright.width))
    small = upright.resize((width, height), Image.Resampling.LANCZOS)

    out = io.BytesIO()
    small.save(out, "JPEG", quality=QUALITY)
    thumbnail = out.getvalue()
    print(f"{size[0]}x{size[1]}, {len(original)} bytes -> {width}x{height}, {len(thumbnail)} bytes")
    return {
        "image": base64.b64encode(thumbnail).decode(),
        "contentType": "image/jpeg",
        "width": width,
        "height": height,
        "bytes": len(thumbnail),
        "original": {"width": size[0], "height": size[1], "bytes": len(original)},
    }


def picture_of(event):
    if "body" in event:
        body = event["body"]
        return base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    return base64.b64decode(event["image"], validate=True)
