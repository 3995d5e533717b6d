//! Tokens of paginated answers. Opaque to callers; each carries a checksum over what it was made for, so that a token
//! of another group, stream or order is refused and not misread.

use crate::Error;
use crate::read::Position;

/// A token of `GetLogEvents`: a position and the direction in which to go on from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Events at the position and after.
    Forward(Position),
    /// Events before the position.
    Backward(Position),
}

impl Turn {
    /// `f/` or `b/`, 56 digits, `/s`: the form of the reference.
    pub fn render(self, scope: &str) -> String {
        let (letter, position) = match self {
            Turn::Forward(position) => ('f', position),
            Turn::Backward(position) => ('b', position),
        };
        format!("{letter}/{}/s", digits(position, scope))
    }

    /// Errors: [`Error::Invalid`] for what was not rendered with the same scope.
    pub fn parse(token: &str, scope: &str) -> Result<Self, Error> {
        let inner = token.strip_suffix("/s").ok_or_else(invalid)?;
        match inner.split_at_checked(2) {
            Some(("f/", digits)) => Ok(Turn::Forward(position(digits, scope)?)),
            Some(("b/", digits)) => Ok(Turn::Backward(position(digits, scope)?)),
            _ => Err(invalid()),
        }
    }
}

/// A position as 20 digits of time, 20 of sequence number, 16 of checksum.
pub fn digits(position: Position, scope: &str) -> String {
    // Times move up by half the range, so that all are positive and sort as text.
    let at = position.at.cast_unsigned() ^ (1 << 63);
    format!(
        "{at:020}{:020}{:016}",
        position.seq,
        checksum(&[scope.as_bytes(), &at.to_le_bytes(), &position.seq.to_le_bytes()])
    )
}

/// Errors: [`Error::Invalid`] for what [`digits`] did not render with the same scope.
pub fn position(text: &str, scope: &str) -> Result<Position, Error> {
    if text.len() != 56 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(invalid());
    }
    let at: u64 = text[..20].parse().map_err(|_| invalid())?;
    let seq = text[20..40].parse().map_err(|_| invalid())?;
    let found = Position { at: (at ^ (1 << 63)).cast_signed(), seq };
    if digits(found, scope) == text { Ok(found) } else { Err(invalid()) }
}

/// A token that carries text: the last name of a page.
pub fn of_text(text: &str, scope: &str) -> String {
    format!("{:08x}{}", checksum(&[scope.as_bytes(), text.as_bytes()]), hex::encode(text))
}

/// Errors: [`Error::Invalid`] for what [`of_text`] did not render with the same scope.
pub fn text_of(token: &str, scope: &str) -> Result<String, Error> {
    let (_, hexed) = token.split_at_checked(8).ok_or_else(invalid)?;
    let text = hex::decode(hexed).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(invalid)?;
    if of_text(&text, scope) == token { Ok(text) } else { Err(invalid()) }
}

fn checksum(parts: &[&[u8]]) -> u32 {
    // The lengths keep `["ab", "c"]` and `["a", "bc"]` apart.
    parts.iter().fold(0, |crc, part| {
        crc32c::crc32c_append(crc32c::crc32c_append(crc, &(part.len() as u64).to_le_bytes()), part)
    })
}

fn invalid() -> Error {
    Error::Invalid("The specified nextToken is invalid.".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tokens_round_trip(at in any::<i64>(), seq in any::<u64>(), text in "\\PC{0,20}") {
            let position = Position { at, seq };
            for turn in [Turn::Forward(position), Turn::Backward(position)] {
                prop_assert_eq!(Turn::parse(&turn.render("s"), "s").ok(), Some(turn));
                prop_assert!(Turn::parse(&turn.render("s"), "t").is_err());
            }
            prop_assert_eq!(text_of(&of_text(&text, "s"), "s").ok(), Some(text.clone()));
            prop_assert!(text_of(&of_text(&text, "s"), "t").is_err());
        }

        #[test]
        fn strangers_are_refused(token in "([fb]/)?[0-9a-fé]{0,60}(/s)?") {
            prop_assert!(Turn::parse(&token, "s").is_err());
            prop_assert!(position(&token, "s").is_err());
            prop_assert!(text_of(&token, "s").is_err());
        }
    }
}
