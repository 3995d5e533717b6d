//! Turns a picture into a thumbnail: the twin of examples/thumbnail in Rust.
//!
//! Takes {"image": BASE64 of a PNG or JPEG, "width": 200}. Gives the thumbnail in base64 and the sizes of both.

mod runtime;

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::imageops::FilterType;
use serde::{Deserialize, Serialize};

const QUALITY: u8 = 85;

#[derive(Deserialize)]
struct Event {
    image: String,
    #[serde(default = "usual_width")]
    width: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    image: String,
    content_type: &'static str,
    width: u32,
    height: u32,
    bytes: usize,
    original: Size,
}

#[derive(Serialize)]
struct Size {
    width: u32,
    height: u32,
    bytes: usize,
}

fn usual_width() -> u32 {
    200
}

fn main() -> std::io::Result<()> {
    runtime::run(|event| thumbnail(&serde_json::from_slice(event)?))
}

fn thumbnail(event: &Event) -> Result<Answer, Box<dyn std::error::Error>> {
    let width = event.width;
    if !(1..=4096).contains(&width) {
        return Err(format!("width is 1 to 4096, not {width}").into());
    }
    let original = STANDARD.decode(&event.image)?;
    let picture = image::load_from_memory(&original)?;
    let height = (f64::from(picture.height()) * f64::from(width) / f64::from(picture.width())).round().max(1.0) as u32;
    let small = picture.resize_exact(width, height, FilterType::Lanczos3).into_rgb8();
    let mut jpeg = Cursor::new(Vec::new());
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&small)?;
    let jpeg = jpeg.into_inner();
    let size = Size { width: picture.width(), height: picture.height(), bytes: original.len() };
    println!("{}x{}, {} bytes -> {width}x{height}, {} bytes", size.width, size.height, size.bytes, jpeg.len());
    Ok(Answer {
        image: STANDARD.encode(&jpeg),
        content_type: "image/jpeg",
        width,
        height,
        bytes: jpeg.len(),
        original: size,
    })
}
