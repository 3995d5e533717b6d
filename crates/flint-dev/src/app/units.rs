//! Sizes and spans as people write them in `flint.toml`: `512`, `"512 MiB"`, `"1 GB"`, `"30 s"`, `"2 min"`.

use serde::{Deserialize, Deserializer, de};

/// A function's memory in MiB, 128 to 10,240.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Megabytes(pub u32);

/// A function's timeout in seconds, 1 to 900.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seconds(pub u32);

#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(u32),
    Text(String),
}

impl<'de> Deserialize<'de> for Megabytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        // The reference's `MemorySize` counts in MiB and calls them MB; both spellings mean that here.
        let scale = |unit: &str| match unit {
            "" | "m" | "mb" | "mib" => Some(1),
            "g" | "gb" | "gib" => Some(1024),
            _ => None,
        };
        read(d, scale, 128..=10_240)
            .map(Megabytes)
            .ok_or_else(|| de::Error::custom("memory is 128 to 10240 MiB, written as 512, \"512 MiB\" or \"1 GiB\""))
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let scale = |unit: &str| match unit {
            "" | "s" | "sec" | "seconds" => Some(1),
            "m" | "min" | "minutes" => Some(60),
            _ => None,
        };
        read(d, scale, 1..=900)
            .map(Seconds)
            .ok_or_else(|| de::Error::custom("timeout is 1 to 900 s, written as 30, \"30 s\" or \"2 min\""))
    }
}

fn read<'de, D: Deserializer<'de>>(
    d: D,
    scale: impl Fn(&str) -> Option<u32>,
    range: std::ops::RangeInclusive<u32>,
) -> Option<u32> {
    let value = match Written::deserialize(d).ok()? {
        Written::Number(n) => n,
        Written::Text(text) => {
            let text = text.trim();
            let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            let number: u32 = text[..digits].parse().ok()?;
            number.checked_mul(scale(&text[digits..].trim().to_ascii_lowercase())?)?
        }
    };
    range.contains(&value).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct T {
        m: Megabytes,
        s: Seconds,
    }

    #[test]
    fn reads_what_people_write() {
        let check = |text: &str, expected: Option<(u32, u32)>| {
            let got = toml::from_str::<T>(text).ok().map(|t| (t.m.0, t.s.0));
            assert_eq!(got, expected, "{text}");
        };
        check("m = 512\ns = 3", Some((512, 3)));
        check("m = '512MB'\ns = '2 min'", Some((512, 120)));
        check("m = '1 GiB'\ns = '900s'", Some((1024, 900)));
        for bad in ["m = 1\ns = 1", "m = 512\ns = 901", "m = '5 TB'\ns = 1", "m = '-1'\ns = 1", "m = true\ns = 1"] {
            check(bad, None);
        }
        check("m = '99999999999 MB'\ns = 1", None);
    }
}
