//! The pages of IAM's lists. A marker is the name of the last item, in base64 so that nobody takes it apart.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::api::PageInput;
use crate::error::Error;
use crate::roles::PAGE;

/// Items on a page if the caller does not say (API reference, `MaxItems`).
const DEFAULT: usize = 100;

/// Where a page starts and how long it is.
#[derive(Debug)]
pub(crate) struct Window {
    pub after: Option<String>,
    pub limit: usize,
}

impl Window {
    /// Errors: [`Error::Validation`] for a marker that no list gave.
    pub fn new(page: &PageInput) -> Result<Self, Error> {
        let bad = || Error::Validation("Invalid Marker.".to_owned());
        let decode = |marker: &String| {
            let bytes = BASE64_URL_SAFE_NO_PAD.decode(marker).map_err(|_| bad())?;
            String::from_utf8(bytes).map_err(|_| bad())
        };
        let after = page.marker.as_ref().map(decode).transpose()?;
        Ok(Self { after, limit: page.max_items.unwrap_or(DEFAULT).clamp(1, PAGE) })
    }

    /// Cuts `items`, which are sorted by `name`, to the page, and tells the marker of the next one.
    pub fn cut<T>(&self, items: impl Iterator<Item = T>, name: impl Fn(&T) -> &str) -> (Vec<T>, Option<String>) {
        let later = |item: &T| self.after.as_deref().is_none_or(|after| name(item) > after);
        self.close(items.filter(later).take(self.limit + 1).collect(), name)
    }

    /// As [`Window::cut`], for items that start at the page already: one more than `limit` means that there are more.
    pub fn close<T>(&self, mut items: Vec<T>, name: impl Fn(&T) -> &str) -> (Vec<T>, Option<String>) {
        let more = items.len() > self.limit;
        items.truncate(self.limit);
        let marker = items.last().filter(|_| more).map(|item| BASE64_URL_SAFE_NO_PAD.encode(name(item)));
        (items, marker)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_one_another() {
        let names = ["a", "b", "c", "d", "e"];
        let (mut marker, mut seen) = (None, Vec::<&&str>::new());
        loop {
            let page = PageInput { marker, max_items: Some(2), path_prefix: None };
            let (items, next) = Window::new(&page).expect("a marker").cut(names.iter(), |n| n);
            seen.extend(items);
            marker = next;
            if marker.is_none() {
                break;
            }
        }
        assert_eq!(seen, names.iter().collect::<Vec<_>>());
        assert!(Window::new(&PageInput { marker: Some("!".into()), ..PageInput::default() }).is_err());
    }
}
