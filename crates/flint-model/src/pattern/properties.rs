//! The matcher against one that tries everything: it flattens the event to its leaves and picks one leaf for every
//! condition, such that no two of them lie in different elements of one array.

use proptest::prelude::*;

use super::{Json, Pattern};

/// A pattern as the tests make it.
#[derive(Clone, Debug)]
enum Made {
    Leaf(Vec<Atom>),
    Fields(Vec<(&'static str, Made)>),
}

#[derive(Clone, Debug)]
enum Atom {
    Number(u8),
    Text(&'static str),
    Prefix(&'static str),
    NotText(&'static str),
    NotNumber(u8),
    AtLeast(u8),
    Exists(bool),
    Wildcard(&'static str),
}

/// A leaf of the event: its path, the element of each array around it, its value.
type Leaf = (Vec<String>, Vec<(Vec<String>, usize, usize)>, Json);

fn event() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        (0..4u8).prop_map(|n| n.to_string()),
        prop::sample::select(vec!["\"\"", "\"a\"", "\"ab\"", "\"aba\"", "\"b\"", "null", "true"])
            .prop_map(str::to_owned),
    ];
    scalar.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            object(inner),
        ]
    })
}

fn object(inner: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    prop::collection::btree_map(prop::sample::select(vec!["x", "y", "z"]), inner, 0..4).prop_map(|members| {
        let members: Vec<String> = members.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

fn made() -> impl Strategy<Value = Vec<(&'static str, Made)>> {
    let texts = || prop::sample::select(vec!["", "a", "ab", "aba", "b"]);
    let atom = prop_oneof![
        (0..4u8).prop_map(Atom::Number),
        texts().prop_map(Atom::Text),
        texts().prop_map(Atom::Prefix),
        texts().prop_map(Atom::NotText),
        (0..4u8).prop_map(Atom::NotNumber),
        (0..4u8).prop_map(Atom::AtLeast),
        any::<bool>().prop_map(Atom::Exists),
        prop::sample::select(vec!["*", "a*", "*a", "a*a", "*b*"]).prop_map(Atom::Wildcard),
    ];
    let leaf = prop::collection::vec(atom, 1..3).prop_map(Made::Leaf);
    let made = leaf.prop_recursive(3, 12, 3, |inner| fields(inner).prop_map(Made::Fields));
    fields(made)
}

fn fields(inner: impl Strategy<Value = Made>) -> impl Strategy<Value = Vec<(&'static str, Made)>> {
    prop::collection::btree_map(prop::sample::select(vec!["x", "y", "z"]), inner, 1..4)
        .prop_map(|map| map.into_iter().collect())
}

fn written(fields: &[(&'static str, Made)]) -> String {
    let member = |(name, made): &(&'static str, Made)| match made {
        Made::Leaf(atoms) => {
            format!("\"{name}\":[{}]", atoms.iter().map(atom_text).collect::<Vec<_>>().join(","))
        }
        Made::Fields(fields) => format!("\"{name}\":{}", written(fields)),
    };
    format!("{{{}}}", fields.iter().map(member).collect::<Vec<_>>().join(","))
}

fn atom_text(atom: &Atom) -> String {
    match atom {
        Atom::Number(n) => n.to_string(),
        Atom::Text(t) => format!("\"{t}\""),
        Atom::Prefix(t) => format!("{{\"prefix\":\"{t}\"}}"),
        Atom::NotText(t) => format!("{{\"anything-but\":\"{t}\"}}"),
        Atom::NotNumber(n) => format!("{{\"anything-but\":[{n}]}}"),
        Atom::AtLeast(n) => format!("{{\"numeric\":[\">=\",{n}]}}"),
        Atom::Exists(yes) => format!("{{\"exists\":{yes}}}"),
        Atom::Wildcard(t) => format!("{{\"wildcard\":\"{t}\"}}"),
    }
}

fn atom_takes(atom: &Atom, value: &Json) -> bool {
    let number = |n: &u8| Json::parse(n.to_string().as_bytes()).expect("a number");
    let text = value.as_str();
    match atom {
        Atom::Number(n) => *value == number(n),
        Atom::Text(t) => text == Some(t),
        Atom::Prefix(t) => text.is_some_and(|v| v.starts_with(t)),
        Atom::NotText(t) => text != Some(t),
        Atom::NotNumber(n) => *value != number(n),
        Atom::AtLeast(n) => (*n..10).any(|m| *value == number(&m)),
        Atom::Exists(yes) => *yes,
        Atom::Wildcard(t) => text.is_some_and(|v| glob(t.as_bytes(), v.as_bytes())),
    }
}

/// `*` stands for nothing, or for one character and itself.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), None) => glob(rest, text),
        (Some((b'*', rest)), Some((_, left))) => glob(rest, text) || glob(pattern, left),
        (Some((p, rest)), Some((t, left))) => p == t && glob(rest, left),
        _ => false,
    }
}

fn leaves(value: &Json, path: &mut Vec<String>, arrays: &mut Vec<(Vec<String>, usize, usize)>, out: &mut Vec<Leaf>) {
    match value {
        Json::Object(members) => {
            for (name, value) in members {
                path.push(name.clone());
                leaves(value, path, arrays, out);
                path.pop();
            }
        }
        Json::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                // Arrays inside arrays share a path; how deep tells them apart.
                arrays.push((path.clone(), arrays.len(), index));
                leaves(item, path, arrays, out);
                arrays.pop();
            }
        }
        scalar => out.push((path.clone(), arrays.clone(), scalar.clone())),
    }
}

fn conditions(fields: &[(&'static str, Made)], path: &mut Vec<String>, out: &mut Vec<(Vec<String>, Vec<Atom>)>) {
    for (name, made) in fields {
        path.push((*name).to_owned());
        match made {
            Made::Leaf(atoms) => out.push((path.clone(), atoms.clone())),
            Made::Fields(fields) => conditions(fields, path, out),
        }
        path.pop();
    }
}

/// Of arrays that lie at one path, the outermost of them differ only if an element further out does.
fn agree(a: &Leaf, b: &Leaf) -> bool {
    for ((path, depth, index), (other_path, other_depth, other_index)) in a.1.iter().zip(&b.1) {
        let shared = path == other_path && depth == other_depth;
        // The last fields of both lie in the array itself: nothing of one element is asked of the other.
        if !shared || (a.0 == *path && b.0 == *path) {
            return true;
        }
        if index != other_index {
            return false;
        }
    }
    true
}

fn brute(conditions: &[(Vec<String>, Vec<Atom>)], leaves: &[Leaf], chosen: &mut Vec<Leaf>) -> bool {
    let Some(((path, atoms), rest)) = conditions.split_first() else { return true };
    let here: Vec<&Leaf> = leaves.iter().filter(|leaf| leaf.0 == *path).collect();
    if here.is_empty() {
        let absent = atoms.iter().any(|atom| matches!(atom, Atom::Exists(false)));
        return absent && brute(rest, leaves, chosen);
    }
    for leaf in here {
        if atoms.iter().any(|atom| atom_takes(atom, &leaf.2)) && chosen.iter().all(|c| agree(c, leaf)) {
            chosen.push(leaf.clone());
            let held = brute(rest, leaves, chosen);
            chosen.pop();
            if held {
                return true;
            }
        }
    }
    false
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn the_matcher_agrees_with_trying_everything(event in object(event()), made in made()) {
        let text = written(&made);
        let pattern = Pattern::parse(&text).expect("a pattern as the test writes it");
        let event = Json::parse(event.as_bytes()).expect("JSON as the test writes it");
        let (mut all, mut wanted) = (Vec::new(), Vec::new());
        leaves(&event, &mut Vec::new(), &mut Vec::new(), &mut all);
        conditions(&made, &mut Vec::new(), &mut wanted);
        prop_assert_eq!(pattern.matches(&event), brute(&wanted, &all, &mut Vec::new()), "{} on {:?}", text, event);
    }

    #[test]
    fn an_or_is_either_of_its_branches(event in object(event()), a in made(), b in made(), c in made()) {
        let event = Json::parse(event.as_bytes()).expect("JSON as the test writes it");
        let matches = |text: &str| Pattern::parse(text).expect("a pattern as the test writes it").matches(&event);
        let (a, b, c) = (written(&a), written(&b), written(&c));
        let or = matches(&format!("{{\"$or\":[{a},{b},{c}]}}"));
        prop_assert_eq!(or, matches(&a) || matches(&b) || matches(&c));
    }

    #[test]
    fn any_text_is_a_pattern_or_refused(text in "[\\[\\]{}\",:0-9a-z\\\\ $*/.-]{0,60}", odd in any::<String>()) {
        for text in [text.clone(), odd, format!("{{\"a\":[{text}]}}"), format!("{{\"a\":[{{{text}}}]}}")] {
            if let Ok(pattern) = Pattern::parse(&text) {
                pattern.matches(&Json::Object(Vec::new()));
            }
            let known = Json::parse(text.as_bytes()).is_ok();
            prop_assert!(!known || !text.is_empty());
        }
    }
}
