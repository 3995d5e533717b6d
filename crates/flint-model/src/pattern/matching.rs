//! Whether a pattern wants an event.
//!
//! A field's values are alternatives, fields are conditions that all have to hold, and `$or` multiplies the branches.
//! Where an event has an array of objects, all conditions on fields inside have to hold for one element of it.

use super::json::Json;
use super::matcher::Matcher;

/// An event pattern. See the module's [`super`] documentation; parse one with [`Pattern::parse`].
#[derive(Clone, Debug)]
pub struct Pattern {
    /// One of them has to hold.
    pub(super) branches: Vec<Node>,
}

/// Conditions on a field of the event and on the fields inside it.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    /// Each has to hold; of the matchers in one, any.
    pub values: Vec<Vec<Matcher>>,
    pub fields: Vec<(String, Node)>,
}

/// Which fields of a branch the event has anywhere, in the shape of the branch.
struct Presence {
    value: bool,
    fields: Vec<Presence>,
}

impl Pattern {
    /// Whether the pattern wants `event`.
    pub fn matches(&self, event: &Json) -> bool {
        self.branches.iter().any(|branch| branch.holds(Some(event), &Presence::of(branch, &[event])))
    }

    /// Whether the filter wants a record of a source whose member `data` (`body` of a queue's message) is a text.
    ///
    /// A text that is a JSON object or array is matched as such; another one as the text that it is. A filter that has
    /// conditions on fields inside does not want a record whose data is no JSON.
    ///
    /// Reference: Lambda Developer Guide, "Control which events Lambda sends to your function", the table of data formats.
    pub fn matches_record(&self, record: &[u8], data: &str) -> bool {
        let Ok(mut record) = Json::parse(record) else { return false };
        let inner = record.get(data).and_then(Json::as_str).map(|text| Json::parse(text.as_bytes()));
        let whole = match inner {
            Some(Ok(value @ (Json::Object(_) | Json::Array(_)))) => {
                record.set(data, value);
                true
            }
            _ => false,
        };
        let looks_inside =
            |branch: &Node| branch.fields.iter().any(|(name, node)| name == data && !node.fields.is_empty());
        self.branches.iter().any(|branch| {
            (whole || !looks_inside(branch)) && branch.holds(Some(&record), &Presence::of(branch, &[&record]))
        })
    }
}

impl Node {
    /// The node of a field; it is made if it is not there.
    pub(super) fn field(&mut self, name: &str) -> &mut Node {
        let found = self.fields.iter().position(|(n, _)| n == name);
        let index = found.unwrap_or_else(|| {
            self.fields.push((name.to_owned(), Node::default()));
            self.fields.len() - 1
        });
        &mut self.fields[index].1
    }

    fn holds(&self, found: Option<&Json>, presence: &Presence) -> bool {
        let value = |matchers: &Vec<Matcher>| match presence.value {
            false => matchers.contains(&Matcher::Exists(false)),
            true => found.is_some_and(|found| any_scalar(found, &|v| matchers.iter().any(|m| m.takes(v)))),
        };
        self.values.iter().all(value) && self.fields_hold(found, presence)
    }

    fn fields_hold(&self, found: Option<&Json>, presence: &Presence) -> bool {
        if self.fields.is_empty() {
            return true;
        }
        if let Some(Json::Array(elements)) = found {
            return elements.iter().any(|e| self.fields_hold(Some(e), presence)) || self.fields_hold(None, presence);
        }
        let mut fields = self.fields.iter().zip(&presence.fields);
        fields.all(|((name, node), presence)| node.holds(found.and_then(|f| f.get(name)), presence))
    }
}

impl Presence {
    /// `found` is everything in the event that stands where `node` looks.
    fn of(node: &Node, found: &[&Json]) -> Self {
        let mut objects = Vec::new();
        found.iter().for_each(|value| collect_objects(value, &mut objects));
        let field = |(name, node): &(String, Node)| {
            let inside: Vec<&Json> = objects.iter().filter_map(|object| object.get(name)).collect();
            Presence::of(node, &inside)
        };
        Self { value: found.iter().any(|v| any_scalar(v, &|_| true)), fields: node.fields.iter().map(field).collect() }
    }
}

fn collect_objects<'a>(value: &'a Json, out: &mut Vec<&'a Json>) {
    match value {
        Json::Array(elements) => elements.iter().for_each(|e| collect_objects(e, out)),
        Json::Object(_) => out.push(value),
        _ => {}
    }
}

/// Whether the value, or one in the array that it is, is a scalar for which `test` holds.
fn any_scalar(value: &Json, test: &dyn Fn(&Json) -> bool) -> bool {
    match value {
        Json::Array(elements) => elements.iter().any(|e| any_scalar(e, test)),
        Json::Object(_) => false,
        scalar => test(scalar),
    }
}
