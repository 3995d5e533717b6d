// Turns a picture into a thumbnail: the twin of examples/thumbnail in Node.js, with packages that are plain JavaScript.
//
// Takes {"image": BASE64 of a PNG, "width": 200}. Gives the thumbnail in base64 and the sizes of both.

import jpeg from "jpeg-js";
import { PNG } from "pngjs";

const WIDTH = 200;
const QUALITY = 85;

export const handler = async (event) => {
  const original = Buffer.from(event.image, "base64");
  const width = event.width ?? WIDTH;
  if (!Number.isInteger(width) || width < 1 || width > 4096) {
    throw new RangeError(`width is 1 to 4096, not ${width}`);
  }

  const picture = PNG.sync.read(original);
  const height = Math.max(1, Math.round((picture.height * width) / picture.width));
  const data = shrink(picture, width, height);
  const thumbnail = jpeg.encode({ data, width, height }, QUALITY).data;

  console.log(
    `${picture.width}x${picture.height}, ${original.length} bytes -> ${width}x${height}, ${thumbnail.length} bytes`,
  );
  return {
    image: thumbnail.toString("base64"),
    contentType: "image/jpeg",
    width,
    height,
    bytes: thumbnail.length,
    original: { width: picture.width, height: picture.height, bytes: original.length },
  };
};

// Each pixel is the mean of those that it takes the place of.
function shrink(from, width, height) {
  const to = Buffer.alloc(width * height * 4);
  for (let y = 0; y < height; y++) {
    const top = Math.floor((y * from.height) / height);
    const bottom = Math.max(top + 1, Math.floor(((y + 1) * from.height) / height));
    for (let x = 0; x < width; x++) {
      const left = Math.floor((x * from.width) / width);
      const right = Math.max(left + 1, Math.floor(((x + 1) * from.width) / width));
      const sum = [0, 0, 0, 0];
      for (let row = top; row < bottom; row++) {
        for (let at = (row * from.width + left) * 4; at < (row * from.width + right) * 4; at += 4) {
          for (let channel = 0; channel < 4; channel++) sum[channel] += from.data[at + channel];
        }
      }
      const count = (bottom - top) * (right - left);
      for (let channel = 0; channel < 4; channel++) {
        to[(y * width + x) * 4 + channel] = sum[channel] / count;
      }
    }
  }
  return to;
}
